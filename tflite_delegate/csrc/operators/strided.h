// SPDX-License-Identifier: Apache-2.0
//
// Copying elements that lie at regular distances: slices, parts and other orders of axes.

#pragma once

#include "operation/operation.h"

struct lc_strided {
    const char *x;                // the first element
    int32_t element;              // bytes of one: 1 or 4
    struct lc_shape shape;        // of what is copied
    ptrdiff_t steps[LC_MAX_RANK]; // in bytes, from one position along an axis to the next
};

// All elements of a tensor of the operation, for callers that then choose among them.
struct lc_strided lc_strided_all(const struct lc_operation *operation, const void *x,
                                 const struct lc_shape *shape);

// Writes them to `y` one after the other. May have none.
void lc_strided_copy(const struct lc_operation *operation, const struct lc_strided *from, void *y);
