// SPDX-License-Identifier: Apache-2.0
//
// MEAN and SUM of float16, on targets that compute with such. Sums are float32.

#pragma once

#include "operation/operation.h"

// A tensor's axes, of which neighbours that are both reduced or both kept are one.
struct lc_reduced {
    int32_t rank; // at least 1
    int32_t extents[LC_MAX_RANK];
    bool reduced[LC_MAX_RANK];
};

// Writes the sums of x, which has elements, divided by `divisor`, to y.
void lc_half_reduce(const struct lc_operation *operation, const struct lc_reduced *axes,
                    float divisor);
