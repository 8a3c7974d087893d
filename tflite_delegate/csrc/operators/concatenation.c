// SPDX-License-Identifier: Apache-2.0

#include <limits.h>
#include <string.h>

#include "operation/operation.h"
#include "operation/vector.h"

struct concatenation {
    int32_t positions; // before the axis
    int32_t elements;  // of the output
    size_t row;        // bytes of the output from one position before the axis to the next
    size_t widths[];   // likewise of each input
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

// Along an axis of the output, of which each input has any number of positions, or one and no axis.
static void plan_along(const struct lc_operation *operation, int32_t axis) {
    struct concatenation *plan = operation->plan;
    const struct lc_shape y = lc_output_shape(operation, 0);
    lc_find_axis(y.rank, &axis);
    const size_t element = (size_t)operation->element_bytes;
    plan->positions = lc_count(&y, 0, axis);
    plan->elements = lc_count(&y, 0, y.rank);
    plan->row = (size_t)lc_count(&y, axis, y.rank) * element;
    for (int i = 0; i < operation->inputs->size; i++) {
        const struct lc_shape x = lc_input_shape(operation, i);
        plan->widths[i] = (size_t)lc_count(&x, axis, x.rank) * element;
    }
}

// Positions [begin, end) before the axis.
LC_VECTOR static bool run_concatenation(void *argument, int32_t thread, int32_t begin,
                                        int32_t end) {
    (void)thread;
    const struct lc_operation *operation = *(const struct lc_operation **)argument;
    const struct concatenation *plan = operation->plan;
    char *output = lc_output_data(operation, 0);
    for (int i = 0; i < operation->inputs->size; i++) {
        const char *input = lc_input_data(operation, i);
        const size_t bytes = plan->widths[i];
        for (int32_t position = begin; bytes > 0 && position < end; position++) {
            lc_copy(output + (size_t)position * plan->row, input + (size_t)position * bytes, bytes);
        }
        output += bytes;
    }
    return true;
}

static void concatenate(const struct lc_operation *operation) {
    const struct concatenation *plan = operation->plan;
    lc_operation_run(operation, plan->positions, plan->elements, run_concatenation, &operation);
}

// What operators say of these.
#define CONCATENATING(plan_function)                                                               \
    .plan_bytes = sizeof(struct concatenation), .part_plan_bytes = sizeof(size_t),                 \
    .plan = (plan_function), .compute = concatenate, LC_IN_HALVES(concatenate),                    \
    .coded = LC_KEEPS_SCALE(concatenate)

static void concatenation_plan(const struct lc_operation *operation) {
    plan_along(operation, ((const struct tfl_concatenation_params *)operation->params)->axis);
}

LC_DEFINE_OPERATOR(CONCATENATION, 1, INT_MAX,
                   .params_bytes = sizeof(struct tfl_concatenation_params),
                   .refuses = concatenation_refuses, .infer = concatenation_infer,
                   CONCATENATING(concatenation_plan));

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

static void pack_plan(const struct lc_operation *operation) {
    plan_along(operation, ((const struct tfl_pack_params *)operation->params)->axis);
}

LC_DEFINE_OPERATOR(PACK, 1, INT_MAX, .params_bytes = sizeof(struct tfl_pack_params),
                   .infer = pack_infer, CONCATENATING(pack_plan));
