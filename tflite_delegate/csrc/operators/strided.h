// SPDX-License-Identifier: Apache-2.0
//
// Copying elements that lie at regular distances: slices, parts and other orders of axes.

#pragma once

#include "operation/operation.h"

struct lc_strided {
    ptrdiff_t first;              // byte of the input where the first element is
    int32_t element;              // bytes of one: 1, 2 or 4
    struct lc_shape shape;        // of what is copied
    ptrdiff_t steps[LC_MAX_RANK]; // in bytes, from one position along an axis to the next
};

// How they are copied.
struct lc_strided_plan {
    struct lc_strided from; // neighbouring axes that are gone through at one distance are merged
    int32_t near; // the axis whose elements are neighbours in memory, -1 if no other than the last
    int32_t block, blocks;   // elements of that axis that are one item of work; how many of these
    int32_t items, elements; // in all
    size_t run;              // bytes, if all elements are neighbours in the same order; else 0
    const char *x;           // of the call
    char *y;
};

// All elements of a tensor of the operation, for callers that then choose among them.
struct lc_strided lc_strided_all(const struct lc_operation *operation,
                                 const struct lc_shape *shape);

// There may be no elements.
void lc_strided_plan(const struct lc_strided *from, struct lc_strided_plan *plan);

// Writes the elements of the input `x` to `y`, one after the other.
void lc_strided_copy(const struct lc_operation *operation, struct lc_strided_plan *plan,
                     const char *x, char *y);

// That, of the first input and as the operation is planned.
void lc_strided_compute(const struct lc_operation *operation);

// What operators say of these.
#define LC_STRIDED_OPERATOR(function)                                                              \
    .plan_bytes = sizeof(struct lc_strided_plan), .plan = (function),                              \
    .compute = lc_strided_compute, LC_IN_HALVES(lc_strided_compute),                               \
    .coded = LC_KEEPS_SCALE(lc_strided_compute)
