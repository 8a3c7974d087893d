// SPDX-License-Identifier: Apache-2.0
//
// Copying elements that lie at regular distances: slices, parts and other orders of axes.

#pragma once

#include "operation/operation.h"

struct lc_strided {
    const float *x;               // the first element
    struct lc_shape shape;        // of what is copied
    ptrdiff_t steps[LC_MAX_RANK]; // in elements, from one position along an axis to the next
};

// All elements of a tensor, for callers that then choose among them.
struct lc_strided lc_strided_all(const float *x, const struct lc_shape *shape);

// Writes them to `y` one after the other. May have none.
void lc_strided_copy(const struct lc_operation *operation, const struct lc_strided *from, float *y);
