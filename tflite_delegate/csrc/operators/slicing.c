// SPDX-License-Identifier: Apache-2.0
//
// SLICE and STRIDED_SLICE.

#include <limits.h>

#include "operators/strided.h"

// SLICE

static const char *slice_infer(const struct lc_operation *operation, struct lc_shape *output) {
    int32_t begins, sizes;
    const int32_t *begin = lc_integers(operation, 1, &begins);
    const int32_t *size = lc_integers(operation, 2, &sizes);
    *output = lc_input_shape(operation, 0);
    if (begins != output->rank || sizes != output->rank) {
        return "malformed begin or size";
    }
    for (int32_t axis = 0; axis < output->rank; axis++) {
        int32_t extent = output->dims[axis];
        if (begin[axis] < 0 || begin[axis] > extent || size[axis] < -1 ||
            size[axis] > extent - begin[axis]) {
            return "the slice is not inside of the input";
        }
        output->dims[axis] = size[axis] < 0 ? extent - begin[axis] : size[axis];
    }
    return NULL;
}

static void slice_plan(const struct lc_operation *operation) {
    struct lc_shape shape = lc_input_shape(operation, 0);
    struct lc_strided from = lc_strided_all(operation, &shape);
    int32_t count;
    const int32_t *begin = lc_integers(operation, 1, &count);
    for (int32_t axis = 0; axis < shape.rank; axis++) {
        from.first += begin[axis] * from.steps[axis];
    }
    from.shape = lc_output_shape(operation, 0);
    lc_strided_plan(&from, operation->plan);
}

LC_DEFINE_OPERATOR(SLICE, 3, 3, .integers = 1u << 1 | 1u << 2, .infer = slice_infer,
                   LC_STRIDED_OPERATOR(slice_plan));

// STRIDED_SLICE

// What one position of the slice's specification says about an axis of the input.
struct range {
    int32_t begin, stride, count;
};

static int32_t clamp(int64_t value, int32_t least, int32_t most) {
    return (int32_t)(value < least ? least : value > most ? most : value);
}

static bool has_bit(int mask, int32_t i) { return mask >> i & 1; }

// False if there is no such element, where one element is taken.
static bool find_range(const struct lc_operation *operation, int32_t i, int32_t extent,
                       struct range *range) {
    const struct tfl_strided_slice_params *params = operation->params;
    int32_t count;
    int64_t begin = lc_integers(operation, 1, &count)[i],
            end = lc_integers(operation, 2, &count)[i];
    int32_t stride = lc_integers(operation, 3, &count)[i];
    int32_t least = stride > 0 ? 0 : -1, most = stride > 0 ? extent : extent - 1;
    begin = has_bit(params->begin_mask, i) ? (stride > 0 ? 0 : (int64_t)extent - 1)
                                           : begin + (begin < 0 ? extent : 0);
    end += params->offset ? begin : 0;
    end += end < 0 && !params->offset ? extent : 0;
    if (has_bit(params->end_mask, i)) {
        end = stride > 0 ? extent : -1;
    }
    if (has_bit(params->shrink_axis_mask, i)) {
        *range = (struct range){.begin = (int32_t)begin, .stride = 1, .count = 1};
        return begin >= 0 && begin < extent;
    }
    int64_t first = clamp(begin, least, most), distance = clamp(end, least, most) - first;
    int64_t steps = distance / stride + (distance % stride != 0);
    *range = (struct range){(int32_t)first, stride, (int32_t)(steps > 0 ? steps : 0)};
    return true;
}

// The elements that are taken, and their shape, without the axes of which only one is taken. NULL,
// or what is wrong.
static const char *find_elements(const struct lc_operation *operation,
                                 struct lc_strided *elements) {
    const struct tfl_strided_slice_params *params = operation->params;
    struct lc_shape input = lc_input_shape(operation, 0);
    const struct lc_strided all = lc_strided_all(operation, &input);
    int32_t counts[3], spanned = input.rank;
    for (int i = 0; i < 3; i++) {
        lc_integers(operation, i + 1, &counts[i]);
    }
    if (counts[0] != counts[1] || counts[0] != counts[2] || counts[0] > 2 * LC_MAX_RANK) {
        return "malformed slice";
    }
    for (int32_t i = 0; i < counts[0]; i++) { // an ellipsis spans the axes that nothing else names
        spanned -= !has_bit(params->ellipsis_mask | params->new_axis_mask, i);
    }
    *elements = (struct lc_strided){.element = all.element};
    struct lc_shape *shape = &elements->shape;
    int32_t axis = 0;
    for (int32_t i = 0; i <= counts[0]; i++) { // behind the last, an ellipsis is understood
        bool is_ellipsis = i == counts[0] || has_bit(params->ellipsis_mask, i);
        for (; is_ellipsis && spanned > 0 && axis < input.rank; spanned--, axis++) {
            if (shape->rank == LC_MAX_RANK) {
                return "the output has too many dimensions";
            }
            elements->steps[shape->rank] = all.steps[axis];
            shape->dims[shape->rank++] = input.dims[axis];
        }
        if (is_ellipsis) {
            continue;
        }
        bool is_new = has_bit(params->new_axis_mask, i);
        struct range range = {.count = 1};
        if (!is_new && (axis >= input.rank || lc_integers(operation, 3, &counts[0])[i] == 0 ||
                        !find_range(operation, i, input.dims[axis], &range))) {
            return "malformed slice";
        }
        ptrdiff_t step = is_new ? 0 : all.steps[axis++];
        elements->first += range.begin * step;
        if (is_new || !has_bit(params->shrink_axis_mask, i)) {
            if (shape->rank == LC_MAX_RANK) {
                return "the output has too many dimensions";
            }
            elements->steps[shape->rank] = range.stride * step;
            shape->dims[shape->rank++] = range.count;
        }
    }
    return axis == input.rank ? NULL : "malformed slice";
}

static const char *strided_slice_infer(const struct lc_operation *operation,
                                       struct lc_shape *output) {
    struct lc_strided elements;
    const char *problem = find_elements(operation, &elements);
    *output = elements.shape;
    return problem;
}

static void strided_slice_plan(const struct lc_operation *operation) {
    struct lc_strided elements;
    find_elements(operation, &elements);
    lc_strided_plan(&elements, operation->plan);
}

LC_DEFINE_OPERATOR(STRIDED_SLICE, 4, 4, .integers = 1u << 1 | 1u << 2 | 1u << 3,
                   .params_bytes = sizeof(struct tfl_strided_slice_params),
                   .infer = strided_slice_infer, LC_STRIDED_OPERATOR(strided_slice_plan));
