// SPDX-License-Identifier: Apache-2.0
//
// Operators that compute each element of the output from one element of each operand.

#pragma once

#include "operation/broadcast.h"

struct lc_elements {
    struct lc_shape shape;
    const float *data;
};

// The activation that a node clamps by which is one by itself.
int32_t lc_activation_of_node(int32_t builtin_code);

// Computes the operation's output from two operands, which are stretched over it: arithmetic, then
// the activation that is fused with it. Of an activation as an operator, the second operand is the
// parameter, or not looked at.
void lc_elementwise(const struct lc_operation *operation, const struct lc_elements *a,
                    const struct lc_elements *b, int32_t activation);
