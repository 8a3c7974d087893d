// SPDX-License-Identifier: Apache-2.0
//
// SPLIT, SPLIT_V and UNPACK: parts along one axis, each an output.

#include "operators/strided.h"

static int input_of(const struct lc_operation *operation) {
    return operation->builtin_code == TFL_BUILTIN_SPLIT;
}

// The axis and the input of an operation; false if there is no such axis.
static bool find_operands(const struct lc_operation *operation, int *input, int32_t *axis) {
    int32_t count = 1;
    *input = input_of(operation);
    if (operation->builtin_code == TFL_BUILTIN_UNPACK) {
        *axis = ((const struct tfl_unpack_params *)operation->params)->axis;
    } else {
        const int32_t *axes =
            lc_integers(operation, operation->builtin_code == TFL_BUILTIN_SPLIT ? 0 : 2, &count);
        *axis = count == 1 ? axes[0] : 0;
    }
    return count == 1 && lc_find_axis(lc_input_shape(operation, *input).rank, axis);
}

// One size may be -1: what the others leave.
static const char *split_as_told(const struct lc_operation *operation, int32_t axis, int32_t extent,
                                 struct lc_shape *outputs) {
    int32_t count, unknown = -1;
    const int32_t *sizes = lc_integers(operation, 1, &count);
    if (count != operation->outputs->size) {
        return "malformed sizes";
    }
    int64_t known = 0;
    for (int32_t i = 0; i < count; i++) {
        if (sizes[i] < -1 || (sizes[i] == -1 && unknown >= 0)) {
            return "malformed sizes";
        }
        unknown = sizes[i] == -1 ? i : unknown;
        known += sizes[i] == -1 ? 0 : sizes[i];
        outputs[i].dims[axis] = sizes[i];
    }
    if (unknown >= 0 ? known > extent : known != extent) {
        return "the sizes do not add up to the axis";
    }
    if (unknown >= 0) {
        outputs[unknown].dims[axis] = (int32_t)(extent - known);
    }
    return NULL;
}

static const char *split_infer(const struct lc_operation *operation, struct lc_shape *outputs) {
    int input;
    int32_t axis, parts = operation->outputs->size;
    if (!find_operands(operation, &input, &axis)) {
        return "there is no such axis";
    }
    const struct lc_shape x = lc_input_shape(operation, input);
    for (int32_t i = 0; i < parts; i++) {
        outputs[i] = x;
        outputs[i].dims[axis] = x.dims[axis] / parts;
    }
    if (operation->builtin_code == TFL_BUILTIN_SPLIT_V) {
        return split_as_told(operation, axis, x.dims[axis], outputs);
    }
    return x.dims[axis] % parts == 0 ? NULL : "the axis cannot be split into equal parts";
}

static const char *unpack_infer(const struct lc_operation *operation, struct lc_shape *outputs) {
    int input;
    int32_t axis, parts = operation->outputs->size;
    if (!find_operands(operation, &input, &axis)) {
        return "there is no such axis";
    }
    struct lc_shape x = lc_input_shape(operation, input), part = {.rank = x.rank - 1};
    if (x.dims[axis] != parts) {
        return "the axis has another size than there are outputs";
    }
    for (int32_t i = 0; i < part.rank; i++) {
        part.dims[i] = x.dims[i + (i >= axis)];
    }
    for (int32_t i = 0; i < parts; i++) {
        outputs[i] = part;
    }
    return NULL;
}

static void split_plan(const struct lc_operation *operation) {
    int input;
    int32_t axis, parts = operation->outputs->size;
    struct lc_shape shapes[LC_MAX_OUTPUTS];
    find_operands(operation, &input, &axis);
    struct lc_shape x = lc_input_shape(operation, input);
    struct lc_strided from = lc_strided_all(operation, &x);
    bool unpacks = operation->builtin_code == TFL_BUILTIN_UNPACK;
    if (!unpacks) {
        split_infer(operation, shapes);
    }
    struct lc_strided_plan *plans = operation->plan;
    for (int32_t i = 0; i < parts; i++) {
        from.shape.dims[axis] = unpacks ? 1 : shapes[i].dims[axis];
        lc_strided_plan(&from, &plans[i]);
        from.first += from.shape.dims[axis] * from.steps[axis];
    }
}

static void split_compute(const struct lc_operation *operation) {
    const char *x = lc_input_data(operation, input_of(operation));
    struct lc_strided_plan *plans = operation->plan;
    for (int32_t i = 0; i < operation->outputs->size; i++) {
        char *y = lc_output_data(operation, i);
        if (y) {
            lc_strided_copy(operation, &plans[i], x, y);
        }
    }
}

#define SPLITTING                                                                                  \
    .splits = true, .part_plan_bytes = sizeof(struct lc_strided_plan), .plan = split_plan,         \
    .compute = split_compute, LC_IN_HALVES(split_compute), .coded = LC_KEEPS_SCALE(split_compute)

LC_DEFINE_OPERATOR(SPLIT, 2, 2, .integers = 1u << 0, .infer = split_infer, SPLITTING);

LC_DEFINE_OPERATOR(SPLIT_V, 3, 3, .integers = 1u << 1 | 1u << 2, .infer = split_infer, SPLITTING);

LC_DEFINE_OPERATOR(UNPACK, 1, 1, .params_bytes = sizeof(struct tfl_unpack_params),
                   .infer = unpack_infer, SPLITTING);
