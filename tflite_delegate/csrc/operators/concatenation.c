// SPDX-License-Identifier: Apache-2.0

#include <limits.h>
#include <string.h>

#include "operation/operation.h"
#include "operation/vector.h"

struct concatenation {
    const struct lc_operation *operation;
    int32_t axis;
    size_t row; // bytes of the output from one position before the axis to the next
};

static const char *concatenation_refuses(const struct lc_operation *operation) {
    const struct tfl_concatenation_params *params = operation->params;
    return params->activation != TFL_ACTIVATION_NONE ? "activation is not supported" : NULL;
}

static const char *concatenation_infer(const struct lc_operation *operation,
                                       struct lc_shape *output) {
    int32_t axis = ((const struct tfl_concatenation_params *)operation->params)->axis;
    *output = lc_input_shape(operation, 0);
    if (!lc_find_axis(output->rank, &axis)) {
        return "there is no such axis";
    }
    for (int i = 1; i < operation->inputs->size; i++) {
        struct lc_shape x = lc_input_shape(operation, i);
        int32_t size = x.dims[axis], total = output->dims[axis];
        output->dims[axis] = size; // all others must be equal
        if (x.rank != output->rank || memcmp(&x, output, sizeof x) != 0) {
            return "the shapes of the inputs do not match";
        }
        if (__builtin_add_overflow(total, size, &output->dims[axis])) {
            return "the output has too many elements";
        }
    }
    return NULL;
}

// Positions [begin, end) before the axis.
LC_VECTOR static bool run_concatenation(void *argument, int32_t thread, int32_t begin,
                                        int32_t end) {
    (void)thread;
    const struct concatenation *self = argument;
    char *output = lc_output_data(self->operation, 0);
    for (int i = 0; i < self->operation->inputs->size; i++) {
        struct lc_shape x = lc_input_shape(self->operation, i);
        const char *input = lc_input_data(self->operation, i);
        const size_t bytes =
            (size_t)lc_count(&x, self->axis, x.rank) * (size_t)self->operation->element_bytes;
        for (int32_t position = begin; bytes > 0 && position < end; position++) {
            lc_copy(output + (size_t)position * self->row, input + (size_t)position * bytes, bytes);
        }
        output += bytes;
    }
    return true;
}

// Along an axis of the output, of which each input has any number of positions, or one and no axis.
static void concatenate(const struct lc_operation *operation, int32_t axis) {
    struct lc_shape y = lc_output_shape(operation, 0);
    lc_find_axis(y.rank, &axis);
    const size_t row = (size_t)lc_count(&y, axis, y.rank) * (size_t)operation->element_bytes;
    struct concatenation self = {operation, axis, row};
    lc_operation_run(operation, lc_count(&y, 0, axis), lc_count(&y, 0, y.rank), run_concatenation,
                     &self);
}

static void concatenation_compute(const struct lc_operation *operation) {
    concatenate(operation, ((const struct tfl_concatenation_params *)operation->params)->axis);
}

LC_DEFINE_OPERATOR(CONCATENATION, 1, INT_MAX,
                   .params_bytes = sizeof(struct tfl_concatenation_params),
                   .refuses = concatenation_refuses, .infer = concatenation_infer,
                   .compute = concatenation_compute, LC_IN_HALVES(concatenation_compute),
                   .coded = LC_KEEPS_SCALE(concatenation_compute));

// PACK: each input is one position along a new axis.

static const char *pack_infer(const struct lc_operation *operation, struct lc_shape *output) {
    int32_t axis = ((const struct tfl_pack_params *)operation->params)->axis;
    const struct lc_shape x = lc_input_shape(operation, 0);
    if (x.rank == LC_MAX_RANK || !lc_find_axis(x.rank + 1, &axis)) {
        return "there is no such axis, or the output has too many dimensions";
    }
    for (int i = 1; i < operation->inputs->size; i++) {
        struct lc_shape other = lc_input_shape(operation, i);
        if (memcmp(&x, &other, sizeof x) != 0) {
            return "the shapes of the inputs do not match";
        }
    }
    *output = (struct lc_shape){.rank = x.rank + 1};
    for (int32_t i = 0; i < output->rank; i++) {
        output->dims[i] = i == axis ? operation->inputs->size : x.dims[i - (i > axis)];
    }
    return NULL;
}

static void pack_compute(const struct lc_operation *operation) {
    concatenate(operation, ((const struct tfl_pack_params *)operation->params)->axis);
}

LC_DEFINE_OPERATOR(PACK, 1, INT_MAX, .params_bytes = sizeof(struct tfl_pack_params),
                   .infer = pack_infer, .compute = pack_compute, LC_IN_HALVES(pack_compute),
                   .coded = LC_KEEPS_SCALE(pack_compute));
