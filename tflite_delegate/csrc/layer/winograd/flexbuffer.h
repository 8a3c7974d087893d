// SPDX-License-Identifier: Apache-2.0
//
// FlexBuffer maps, in which custom operators keep their options. Nothing is read outside of them.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lc_flex_map {
    const uint8_t *data;
    size_t size;            // bytes of the whole buffer
    size_t count;           // of entries
    size_t values, width;   // where values begin, and the bytes of one
    size_t keys, key_width; // likewise, of offsets of their names
};

// False if the buffer's root is no map.
bool lc_flex_open(struct lc_flex_map *map, const void *data, size_t size);

// The integer or truth value of that name. False if there is none.
bool lc_flex_integer(const struct lc_flex_map *map, const char *name, int64_t *value);

// Whether the string of that name is `text`.
bool lc_flex_is(const struct lc_flex_map *map, const char *name, const char *text);
