// SPDX-License-Identifier: Apache-2.0
//
// Operators that compute each element of the output from one element of each operand: arithmetic
// and activations. An activation's second operand is its parameter, or nothing.

#include "broadcast.h"
#include "exponential.h"
#include "geometry.h"
#include "vector.h"

enum {
    CHUNK = 4096,     // elements that are one item of work where the output is a single row
    MOST_VECTORS = 4, // that are computed at once
};

// An operation, ready to compute.
struct arithmetic {
    int32_t builtin_code;
    struct lc_broadcast rows;
    const float *operands[2];
    float least, most; // of the activation that is fused
    float *output;
};

LC_INLINE lc_vector apply(int32_t builtin_code, lc_vector a, lc_vector b) {
    switch (builtin_code) {
    case TFL_BUILTIN_ADD:
        return a + b;
    case TFL_BUILTIN_SUB:
        return a - b;
    case TFL_BUILTIN_MUL:
        return a * b;
    case TFL_BUILTIN_DIV:
        return a / b;
    case TFL_BUILTIN_MAXIMUM:
        return lc_larger(a, b);
    case TFL_BUILTIN_MINIMUM:
        return lc_smaller(a, b);
    case TFL_BUILTIN_PRELU:
        return lc_select(a >= 0.0f, a, a * b);
    case TFL_BUILTIN_HARD_SWISH:
        return a * (lc_clamp(a + 3.0f, lc_splat(0.0f), lc_splat(6.0f)) * (1.0f / 6.0f));
    case TFL_BUILTIN_LOGISTIC:
        return lc_logistic(a);
    default: // RELU and its kind only clamp
        return a;
    }
}

// Whether results are clamped: by an activation that is fused, or that is all there is.
LC_INLINE bool clamps(int32_t builtin_code) {
    switch (builtin_code) {
    case TFL_BUILTIN_ADD:
    case TFL_BUILTIN_SUB:
    case TFL_BUILTIN_MUL:
    case TFL_BUILTIN_DIV:
    case TFL_BUILTIN_RELU:
        return true;
    default:
        return false;
    }
}

LC_INLINE lc_vector result(int32_t builtin_code, const struct arithmetic *self, lc_vector a,
                           lc_vector b) {
    lc_vector y = apply(builtin_code, a, b);
    return clamps(builtin_code) ? lc_clamp(y, lc_splat(self->least), lc_splat(self->most)) : y;
}

// Vectors of a row, or only a part of one, whose operands advance by constant steps, 0 or 1. All is
// read before anything is written: the output may be in the place of an operand.
LC_INLINE void block(int32_t builtin_code, const struct arithmetic *self, const float *a,
                     int a_step, const float *b, int b_step, float *y, int vectors) {
    lc_vector results[MOST_VECTORS];
    for (int i = 0; i < vectors; i++) {
        lc_vector a_part = a_step ? lc_load(a + i * LC_LANES) : lc_splat(*a);
        lc_vector b_part = b_step ? lc_load(b + i * LC_LANES) : lc_splat(*b);
        results[i] = result(builtin_code, self, a_part, b_part);
    }
    for (int i = 0; i < vectors; i++) {
        lc_store(y + i * LC_LANES, results[i]);
    }
}

LC_INLINE void row(int32_t builtin_code, const struct arithmetic *self, const float *a, int a_step,
                   const float *b, int b_step, float *y, int32_t count) {
    enum { MANY = MOST_VECTORS * LC_LANES };
    // What is between the logistic function's steps fills the registers with one vector.
    bool few = builtin_code == TFL_BUILTIN_LOGISTIC;
    for (; !few && count >= MANY; count -= MANY) {
        block(builtin_code, self, a, a_step, b, b_step, y, MOST_VECTORS);
        a += MANY * a_step;
        b += MANY * b_step;
        y += MANY;
    }
    for (; count >= LC_LANES; count -= LC_LANES) {
        block(builtin_code, self, a, a_step, b, b_step, y, 1);
        a += LC_LANES * a_step;
        b += LC_LANES * b_step;
        y += LC_LANES;
    }
    if (count > 0) {
        lc_vector a_part = a_step ? lc_load_some(a, count, 0.0f) : lc_splat(*a);
        lc_vector b_part = b_step ? lc_load_some(b, count, 1.0f) : lc_splat(*b);
        lc_store_some(y, result(builtin_code, self, a_part, b_part), count);
    }
}

LC_INLINE void any_row(int32_t builtin_code, const struct arithmetic *self, const float *a,
                       const float *b, float *y, int32_t count) {
    int32_t last = self->rows.rank - 1;
    if (!self->rows.steps[1][last]) {
        const float scalar = *b; // the output may be in its place
        row(builtin_code, self, a, 1, &scalar, 0, y, count);
    } else if (!self->rows.steps[0][last]) {
        const float scalar = *a;
        row(builtin_code, self, &scalar, 0, b, 1, y, count);
    } else {
        row(builtin_code, self, a, 1, b, 1, y, count);
    }
}
// Rows [begin, end) of an output that has several, in order.
LC_INLINE void rows(int32_t builtin_code, const struct arithmetic *self, int32_t begin,
                    int32_t end) {
    const struct lc_broadcast *shape = &self->rows;
    const int32_t last = shape->rank - 1, count = shape->extents[last];
    int32_t index[LC_MAX_RANK];
    size_t a = 0, b = 0; // where the row begins
    for (int32_t axis = last - 1, rest = begin; axis >= 0; axis--) {
        index[axis] = rest % shape->extents[axis];
        rest /= shape->extents[axis];
        a += (size_t)index[axis] * (size_t)shape->steps[0][axis];
        b += (size_t)index[axis] * (size_t)shape->steps[1][axis];
    }
    float *y = self->output + (size_t)begin * (size_t)count;
    for (int32_t i = begin; i < end; i++, y += count) {
        any_row(builtin_code, self, self->operands[0] + a, self->operands[1] + b, y, count);
        for (int32_t axis = last - 1; axis >= 0; axis--) {
            a += (size_t)shape->steps[0][axis];
            b += (size_t)shape->steps[1][axis];
            if (++index[axis] < shape->extents[axis]) {
                break;
            }
            a -= (size_t)index[axis] * (size_t)shape->steps[0][axis];
            b -= (size_t)index[axis] * (size_t)shape->steps[1][axis];
            index[axis] = 0;
        }
    }
}

// Chunks [begin, end) of the only row, or rows.
LC_INLINE void items(int32_t builtin_code, const struct arithmetic *self, int32_t begin,
                     int32_t end) {
    if (self->rows.rank > 1) {
        rows(builtin_code, self, begin, end);
        return;
    }
    size_t first = (size_t)begin * CHUNK;
    int64_t left = self->rows.extents[0] - (int64_t)first, count = ((int64_t)end - begin) * CHUNK;
    any_row(builtin_code, self, self->operands[0] + first * (size_t)self->rows.steps[0][0],
            self->operands[1] + first * (size_t)self->rows.steps[1][0], self->output + first,
            (int32_t)(count < left ? count : left));
}

LC_VECTOR static bool run_items(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct arithmetic *self = argument;
    switch (self->builtin_code) { // outside of all loops
    case TFL_BUILTIN_ADD:
        items(TFL_BUILTIN_ADD, self, begin, end);
        break;
    case TFL_BUILTIN_SUB:
        items(TFL_BUILTIN_SUB, self, begin, end);
        break;
    case TFL_BUILTIN_MUL:
        items(TFL_BUILTIN_MUL, self, begin, end);
        break;
    case TFL_BUILTIN_DIV:
        items(TFL_BUILTIN_DIV, self, begin, end);
        break;
    case TFL_BUILTIN_MAXIMUM:
        items(TFL_BUILTIN_MAXIMUM, self, begin, end);
        break;
    case TFL_BUILTIN_MINIMUM:
        items(TFL_BUILTIN_MINIMUM, self, begin, end);
        break;
    case TFL_BUILTIN_PRELU:
    case TFL_BUILTIN_LEAKY_RELU:
        items(TFL_BUILTIN_PRELU, self, begin, end);
        break;
    case TFL_BUILTIN_HARD_SWISH:
        items(TFL_BUILTIN_HARD_SWISH, self, begin, end);
        break;
    case TFL_BUILTIN_LOGISTIC:
        items(TFL_BUILTIN_LOGISTIC, self, begin, end);
        break;
    default:
        items(TFL_BUILTIN_RELU, self, begin, end);
    }
    return true;
}

static void run(const struct lc_operation *operation, struct arithmetic *self) {
    struct lc_shape output = lc_output_shape(operation);
    int32_t elements = lc_elements(&output, 0, output.rank);
    int32_t row_elements = self->rows.extents[self->rows.rank - 1];
    int32_t count =
        self->rows.rank > 1 ? elements / row_elements : elements / CHUNK + (elements % CHUNK != 0);
    self->builtin_code = operation->builtin_code;
    self->output = lc_output_data(operation);
    lc_operation_run(operation, count, elements, run_items, self);
}

// Two operands

static int32_t fused_activation(const struct lc_operation *operation) {
    switch (operation->builtin_code) {
    case TFL_BUILTIN_ADD:
    case TFL_BUILTIN_SUB:
    case TFL_BUILTIN_MUL:
    case TFL_BUILTIN_DIV:
        return ((const struct tfl_arithmetic_params *)operation->params)->activation;
    default:
        return TFL_ACTIVATION_NONE;
    }
}

static const char *binary_refuses(const struct lc_operation *operation) {
    int32_t activation = fused_activation(operation);
    return activation < TFL_ACTIVATION_NONE || activation > TFL_ACTIVATION_RELU6
               ? "activation is not supported"
               : NULL;
}

static const char *binary_infer(const struct lc_operation *operation, struct lc_shape *output) {
    struct lc_shape a = lc_input_shape(operation, 0), b = lc_input_shape(operation, 1);
    return lc_broadcast_shape(&a, &b, output);
}

static void binary_compute(const struct lc_operation *operation) {
    struct lc_shape a = lc_input_shape(operation, 0), b = lc_input_shape(operation, 1);
    struct arithmetic self = {
        .rows = lc_broadcast_rows(&a, &b),
        .operands = {lc_input_data(operation, 0), lc_input_data(operation, 1)},
    };
    lc_activation_range(fused_activation(operation), &self.least, &self.most);
    run(operation, &self);
}

// One operand

static const char *unary_infer(const struct lc_operation *operation, struct lc_shape *output) {
    *output = lc_input_shape(operation, 0);
    return NULL;
}

// What an activation clamps to that is a node by itself.
static int32_t activation_of(int32_t builtin_code) {
    switch (builtin_code) {
    case TFL_BUILTIN_RELU:
        return TFL_ACTIVATION_RELU;
    case TFL_BUILTIN_RELU_N1_TO_1:
        return TFL_ACTIVATION_RELU_N1_TO_1;
    case TFL_BUILTIN_RELU6:
        return TFL_ACTIVATION_RELU6;
    default:
        return TFL_ACTIVATION_NONE;
    }
}

static void unary_compute(const struct lc_operation *operation) {
    const struct lc_shape x = lc_input_shape(operation, 0), scalar = {0};
    float parameter = 0.0f;
    if (operation->builtin_code == TFL_BUILTIN_LEAKY_RELU) {
        parameter = ((const struct tfl_leaky_relu_params *)operation->params)->alpha;
    }
    struct arithmetic self = {
        .rows = lc_broadcast_rows(&x, &scalar),
        .operands = {lc_input_data(operation, 0), &parameter},
    };
    lc_activation_range(activation_of(operation->builtin_code), &self.least, &self.most);
    run(operation, &self);
}

#define BINARY(builtin, bytes)                                                                     \
    {                                                                                              \
        .builtin_code = TFL_BUILTIN_##builtin,                                                     \
        .name = "leanconv/" #builtin,                                                              \
        .least_inputs = 2,                                                                         \
        .most_inputs = 2,                                                                          \
        .params_bytes = bytes,                                                                     \
        .refuses = binary_refuses,                                                                 \
        .infer = binary_infer,                                                                     \
        .compute = binary_compute,                                                                 \
        .inplace = TFL_INPLACE_INPUT_0 | TFL_INPLACE_INPUT_1,                                      \
    }

#define UNARY(builtin, bytes)                                                                      \
    {                                                                                              \
        .builtin_code = TFL_BUILTIN_##builtin,                                                     \
        .name = "leanconv/" #builtin,                                                              \
        .least_inputs = 1,                                                                         \
        .most_inputs = 1,                                                                          \
        .params_bytes = bytes,                                                                     \
        .infer = unary_infer,                                                                      \
        .compute = unary_compute,                                                                  \
        .inplace = TFL_INPLACE_INPUT_0,                                                            \
    }

const struct lc_operator lc_arithmetic_operators[] = {
    BINARY(ADD, sizeof(struct tfl_arithmetic_params)),
    BINARY(SUB, sizeof(struct tfl_arithmetic_params)),
    BINARY(MUL, sizeof(struct tfl_arithmetic_params)),
    BINARY(DIV, sizeof(struct tfl_arithmetic_params)),
    BINARY(MAXIMUM, 0),
    BINARY(MINIMUM, 0),
    BINARY(PRELU, 0),
    UNARY(RELU, 0),
    UNARY(RELU_N1_TO_1, 0),
    UNARY(RELU6, 0),
    UNARY(LEAKY_RELU, sizeof(struct tfl_leaky_relu_params)),
    UNARY(HARD_SWISH, 0),
    UNARY(LOGISTIC, 0),
    {0},
};
