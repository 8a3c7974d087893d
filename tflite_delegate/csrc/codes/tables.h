// SPDX-License-Identifier: Apache-2.0
//
// A function of one code: a table of what it makes of all 256.

#pragma once

#include "codes/codes.h"

enum { LC_ALL_CODES = 256 };

// TFLite's own kernels may compute the elements that fill vectors of `lanes` in another way than
// the rest; lanes of 1 leave no rest. By the codes' bytes.
struct lc_tables {
    uint8_t whole[LC_ALL_CODES], rest[LC_ALL_CODES];
    int32_t lanes;
    uint32_t features; // of the processor: LC_CPU_*
};

void lc_tables_start(struct lc_tables *tables, int32_t lanes);

// Fills in what `function` says of each code, which need not be one itself.
typedef int64_t lc_code_function(const void *argument, int32_t code);
void lc_table_fill(uint8_t table[LC_ALL_CODES], const struct lc_codes *from,
                   const struct lc_codes *to, lc_code_function function, const void *argument);

// y[i] = table[x[i]] on a processor of these LC_CPU_*; y may be x.
void lc_look_up(const uint8_t table[LC_ALL_CODES], uint32_t features, const uint8_t *x, uint8_t *y,
                size_t count);

// Computes an operator whose state are tables.
void lc_tables_compute(const struct lc_operation *operation);
