// SPDX-License-Identifier: Apache-2.0

#include "layer/winograd/flexbuffer.h"

#include <string.h>

// The types that are read; in a byte, above two bits for the width of what an offset leads to.
enum { FLEX_INT = 1, FLEX_UINT = 2, FLEX_STRING = 5, FLEX_MAP = 9, FLEX_BOOL = 26 };

// The unsigned number of `width` bytes at `at`. False outside of the buffer.
static bool read_number(const struct lc_flex_map *map, size_t at, size_t width, uint64_t *value) {
    if (width > 8 || at > map->size || map->size - at < width) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < width; i++) {
        *value |= (uint64_t)map->data[at + i] << (8 * i);
    }
    return true;
}

// Where the offset at `at`, which counts backwards, leads to.
static bool follow(const struct lc_flex_map *map, size_t at, size_t width, size_t *target) {
    uint64_t offset;
    if (!read_number(map, at, width, &offset) || offset > at) {
        return false;
    }
    *target = at - (size_t)offset;
    return true;
}

bool lc_flex_open(struct lc_flex_map *map, const void *data, size_t size) {
    *map = (struct lc_flex_map){.data = data, .size = size};
    if (!data || size < 3) {
        return false;
    }
    size_t root_width = map->data[size - 1];
    int type = map->data[size - 2];
    if (type >> 2 != FLEX_MAP || root_width < 1 || root_width > 8 || size - 2 < root_width ||
        !follow(map, size - 2 - root_width, root_width, &map->values)) {
        return false;
    }
    map->width = (size_t)1 << (type & 3);
    uint64_t count, key_width;
    if (map->values < 3 * map->width ||
        !read_number(map, map->values - map->width, map->width, &count) ||
        !read_number(map, map->values - 2 * map->width, map->width, &key_width) ||
        !follow(map, map->values - 3 * map->width, map->width, &map->keys) || count > size ||
        key_width < 1 || key_width > 8 || (size_t)count * (map->width + 1) > size - map->values) {
        return false;
    }
    map->count = (size_t)count;
    map->key_width = (size_t)key_width;
    return true;
}

static bool is_text(const struct lc_flex_map *map, size_t at, const char *text) {
    size_t length = strlen(text) + 1;
    return at <= map->size && map->size - at >= length && memcmp(map->data + at, text, length) == 0;
}

// The type and the place of the value of that name. False if there is none.
static bool find(const struct lc_flex_map *map, const char *name, int *type, size_t *at) {
    for (size_t i = 0; i < map->count; i++) {
        size_t key;
        if (follow(map, map->keys + i * map->key_width, map->key_width, &key) &&
            is_text(map, key, name)) {
            *type = map->data[map->values + map->count * map->width + i] >> 2;
            *at = map->values + i * map->width;
            return true;
        }
    }
    return false;
}

bool lc_flex_integer(const struct lc_flex_map *map, const char *name, int64_t *value) {
    int type;
    size_t at;
    uint64_t bits;
    if (!find(map, name, &type, &at) ||
        (type != FLEX_INT && type != FLEX_UINT && type != FLEX_BOOL) ||
        !read_number(map, at, map->width, &bits)) {
        return false;
    }
    uint64_t sign = (uint64_t)1 << (8 * map->width - 1);
    bool is_negative = type == FLEX_INT && bits & sign;
    *value = (int64_t)(is_negative ? bits | ~(sign | (sign - 1)) : bits);
    return true;
}

bool lc_flex_is(const struct lc_flex_map *map, const char *name, const char *text) {
    int type;
    size_t at, string;
    return find(map, name, &type, &at) && type == FLEX_STRING &&
           follow(map, at, map->width, &string) && is_text(map, string, text);
}
