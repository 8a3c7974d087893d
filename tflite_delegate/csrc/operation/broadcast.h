// SPDX-License-Identifier: Apache-2.0
//
// Two operands that are stretched over one output, as numpy does it.

#pragma once

#include "operation/operation.h"

// The output's elements as rows of equal length. Neighbouring axes along which the same operands
// are stretched have been merged, axes of one element are gone.
struct lc_broadcast {
    int32_t rank;                  // at least 1
    int32_t extents[LC_MAX_RANK];  // the last one is a row
    int32_t steps[2][LC_MAX_RANK]; // elements from one position to the next; 0: stretched
};

// The shape of the output. NULL, or what is wrong.
const char *lc_broadcast_shape(const struct lc_shape *a, const struct lc_shape *b,
                               struct lc_shape *output);

// For an output that has elements.
struct lc_broadcast lc_broadcast_rows(const struct lc_shape *a, const struct lc_shape *b);

struct lc_stretched;

// Computes rows of the output that differ in the last axis but one only. a, b: where the operands
// of the first begin.
typedef void lc_rows_function(const struct lc_stretched *self, const void *a, const void *b,
                              void *y, int32_t count, int32_t rows);

// An operation on elements of `bytes` each. To be the first field of what it needs besides.
struct lc_stretched {
    struct lc_broadcast shape;
    lc_rows_function *compute_rows;
    size_t bytes;
    const void *operands[2];
    void *output;
};

// Computes all rows, in parts of rows where there is only one.
void lc_broadcast_run(const struct lc_operation *operation, struct lc_stretched *stretched);
