// SPDX-License-Identifier: Apache-2.0

#include "operation/elementwise/elementwise.h"

#include "kernels/geometry.h"
#include "operation/elementwise/halves.h"
#include "operation/exponential.h"
#include "operation/vector.h"

typedef float element;
typedef lc_vector elements;
#define LC_OF(name) lc_##name
#define ROWS_TARGET LC_VECTOR
#include "operation/elementwise/rows.h"

void lc_elementwise_plan(int32_t builtin_code, const struct lc_shape *a, const struct lc_shape *b,
                         int32_t activation, bool is_half, struct lc_elementwise *plan) {
    plan->stretched = (struct lc_stretched){
        .shape = lc_broadcast_rows(a, b),
        .compute_rows = is_half ? lc_half_rows_for(builtin_code) : rows_for(builtin_code),
        .bytes = is_half ? sizeof(uint16_t) : sizeof(float),
    };
    lc_activation_range(activation, &plan->least, &plan->most);
}

void lc_elementwise_run(const struct lc_operation *operation, struct lc_elementwise *plan,
                        const void *a, const void *b) {
    plan->stretched.operands[0] = a;
    plan->stretched.operands[1] = b;
    plan->stretched.output = lc_output_data(operation, 0);
    lc_broadcast_run(operation, &plan->stretched);
}
