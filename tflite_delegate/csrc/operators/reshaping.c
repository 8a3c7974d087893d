// SPDX-License-Identifier: Apache-2.0
//
// RESHAPE, SQUEEZE and EXPAND_DIMS: the same elements under another shape.

#include <limits.h>
#include <string.h>

#include "operation/operation.h"

// The constant that tells the new shape is never shared, and comes first if its index is lower.
enum {
    SHARES_MEMORY = TFL_INPLACE_INPUT_0 | TFL_INPLACE_INPUT_1 | TFL_INPLACE_DATA_UNMODIFIED,
};

static void copy_all(const struct lc_operation *operation) {
    struct lc_shape shape = lc_output_shape(operation, 0);
    const void *x = lc_input_data(operation, 0);
    void *y = lc_output_data(operation, 0);
    if (y != x) { // TFLite may have them share memory
        memcpy(y, x, (size_t)lc_count(&shape, 0, shape.rank) * (size_t)operation->element_bytes);
    }
}

// The wanted shape, where one size may be -1: in a tensor or, in older models, a parameter.
static const int32_t *wanted_shape(const struct lc_operation *operation, int32_t *rank) {
    if (operation->inputs->size > 1) {
        return lc_integers(operation, 1, rank);
    }
    const struct tfl_reshape_params *params = operation->params;
    *rank = params->num_dimensions;
    return params->shape;
}

static const char *reshape_infer(const struct lc_operation *operation, struct lc_shape *output) {
    struct lc_shape x = lc_input_shape(operation, 0);
    int32_t rank, unknown = -1, elements = lc_count(&x, 0, x.rank);
    const int32_t *wanted = wanted_shape(operation, &rank);
    if (rank < 0 || rank > LC_MAX_RANK) {
        return "the new shape has too many dimensions";
    }
    *output = (struct lc_shape){.rank = rank};
    int64_t known = 1;
    for (int32_t axis = 0; axis < rank; axis++) {
        output->dims[axis] = wanted[axis];
        if (wanted[axis] == -1 && unknown < 0) {
            unknown = axis;
        } else if (wanted[axis] < 0) {
            return "malformed new shape";
        } else if (__builtin_mul_overflow(known, wanted[axis], &known)) {
            return "the new shape has too many elements";
        }
    }
    if (unknown >= 0) {
        output->dims[unknown] = known > 0 && known <= elements ? (int32_t)(elements / known) : 0;
        known *= output->dims[unknown];
    }
    return known == elements ? NULL : "the new shape has another number of elements";
}

static const char *squeeze_infer(const struct lc_operation *operation, struct lc_shape *output) {
    const struct tfl_squeeze_params *params = operation->params;
    struct lc_shape x = lc_input_shape(operation, 0);
    bool dropped[LC_MAX_RANK] = {false};
    if (params->num_squeeze_dims < 0 || params->num_squeeze_dims > 8) {
        return "malformed axes";
    }
    for (int32_t axis = 0; axis < x.rank; axis++) {
        dropped[axis] = params->num_squeeze_dims == 0 && x.dims[axis] == 1;
    }
    for (int i = 0; i < params->num_squeeze_dims; i++) {
        int32_t axis = params->squeeze_dims[i];
        if (!lc_find_axis(x.rank, &axis) || x.dims[axis] != 1) {
            return "there is no such axis, or not of one element";
        }
        dropped[axis] = true;
    }
    *output = (struct lc_shape){0};
    for (int32_t axis = 0; axis < x.rank; axis++) {
        if (!dropped[axis]) {
            output->dims[output->rank++] = x.dims[axis];
        }
    }
    return NULL;
}

static const char *expand_dims_infer(const struct lc_operation *operation,
                                     struct lc_shape *output) {
    struct lc_shape x = lc_input_shape(operation, 0);
    int32_t count;
    const int32_t *axes = lc_integers(operation, 1, &count);
    int32_t axis = count == 1 ? axes[0] : INT_MIN;
    if (x.rank == LC_MAX_RANK || axis < -x.rank - 1 || !lc_find_axis(x.rank + 1, &axis)) {
        return "malformed axis";
    }
    *output = (struct lc_shape){.rank = x.rank + 1};
    for (int32_t i = 0; i < output->rank; i++) {
        output->dims[i] = i == axis ? 1 : x.dims[i - (i > axis)];
    }
    return NULL;
}

LC_DEFINE_OPERATOR(RESHAPE, 1, 2, .integers = 1u << 1,
                   .params_bytes = sizeof(struct tfl_reshape_params), .inplace = SHARES_MEMORY,
                   .infer = reshape_infer, .compute = copy_all, LC_IN_HALVES(copy_all),
                   .coded = LC_KEEPS_SCALE(copy_all));

LC_DEFINE_OPERATOR(SQUEEZE, 1, 1, .params_bytes = sizeof(struct tfl_squeeze_params),
                   .inplace = SHARES_MEMORY, .infer = squeeze_infer, .compute = copy_all,
                   LC_IN_HALVES(copy_all), .coded = LC_KEEPS_SCALE(copy_all));

LC_DEFINE_OPERATOR(EXPAND_DIMS, 2, 2, .integers = 1u << 1, .inplace = SHARES_MEMORY,
                   .infer = expand_dims_infer, .compute = copy_all, LC_IN_HALVES(copy_all),
                   .coded = LC_KEEPS_SCALE(copy_all));
