// SPDX-License-Identifier: Apache-2.0
//
// Operators that compute each element of the output from one element of each operand.

#pragma once

#include "operation/broadcast.h"

// What is known before there are data.
struct lc_elementwise {
    struct lc_stretched stretched; // must be first
    float least, most;             // of the activation that is fused
};

// An operation on two operands of these shapes, which are stretched over the output: arithmetic,
// then the activation that is fused with it; in float16 if `is_half`.
void lc_elementwise_plan(int32_t builtin_code, const struct lc_shape *a, const struct lc_shape *b,
                         int32_t activation, bool is_half, struct lc_elementwise *plan);

// Computes the operation's output. Of an activation as an operator, the second operand is the
// parameter, or not looked at.
void lc_elementwise_run(const struct lc_operation *operation, struct lc_elementwise *plan,
                        const void *a, const void *b);
