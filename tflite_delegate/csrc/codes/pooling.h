// SPDX-License-Identifier: Apache-2.0
//
// Windows of codes, pooled.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The part of a window that is inside of an image.
struct lc_window {
    const void *x; // its first element
    int32_t rows, columns;
    size_t row_step, column_step; // in elements
};

struct lc_coded_pooling {
    bool is_max, is_signed;
    int32_t least, most; // codes of the activation's bounds
};

// Pools `count` channels of a window that has elements.
void lc_coded_pool(const struct lc_coded_pooling *pooling, const struct lc_window *window,
                   uint8_t *y, int32_t count);
