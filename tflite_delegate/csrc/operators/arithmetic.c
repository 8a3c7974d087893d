// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic with two operands, and activations.

#include "codes/coded.h"
#include "kernels/geometry.h"
#include "kernels/halves.h"
#include "operation/broadcast.h"
#include "operation/elementwise/elementwise.h"
#include "operation/operation.h"

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

static void binary_plan(const struct lc_operation *operation) {
    const struct lc_shape a = lc_input_shape(operation, 0), b = lc_input_shape(operation, 1);
    lc_elementwise_plan(operation->builtin_code, &a, &b, fused_activation(operation),
                        operation->is_half, operation->plan);
}

static void binary_compute(const struct lc_operation *operation) {
    lc_elementwise_run(operation, operation->plan, lc_input_data(operation, 0),
                       lc_input_data(operation, 1));
}

// One operand

static const char *unary_infer(const struct lc_operation *operation, struct lc_shape *output) {
    *output = lc_input_shape(operation, 0);
    return NULL;
}

static void unary_plan(const struct lc_operation *operation) {
    const struct lc_shape x = lc_input_shape(operation, 0), scalar = {0};
    const bool is_square = operation->builtin_code == TFL_BUILTIN_SQUARE;
    lc_elementwise_plan(operation->builtin_code, &x, is_square ? &x : &scalar,
                        lc_activation_of_node(operation->builtin_code), operation->is_half,
                        operation->plan);
}

// NEG is a product with -1, SQUARE one of an element with itself.
static void unary_compute(const struct lc_operation *operation) {
    const void *x = lc_input_data(operation, 0);
    float parameter = -1.0f;
    if (operation->builtin_code == TFL_BUILTIN_LEAKY_RELU) {
        parameter = ((const struct tfl_leaky_relu_params *)operation->params)->alpha;
    }
    const uint16_t half = lc_float_to_half(parameter);
    const void *other = operation->is_half ? (const void *)&half : &parameter;
    const bool is_square = operation->builtin_code == TFL_BUILTIN_SQUARE;
    lc_elementwise_run(operation, operation->plan, x, is_square ? x : other);
}

#define BINARY(builtin, bytes, ...)                                                                \
    LC_DEFINE_OPERATOR(builtin, 2, 2, .params_bytes = bytes, .refuses = binary_refuses,            \
                       .infer = binary_infer, .plan_bytes = sizeof(struct lc_elementwise),         \
                       .plan = binary_plan, .compute = binary_compute,                             \
                       .inplace = TFL_INPLACE_INPUT_0 | TFL_INPLACE_INPUT_1,                       \
                       LC_IN_HALVES(binary_compute), __VA_ARGS__)

#define UNARY(builtin, bytes, ...)                                                                 \
    LC_DEFINE_OPERATOR(builtin, 1, 1, .params_bytes = bytes, .infer = unary_infer,                 \
                       .plan_bytes = sizeof(struct lc_elementwise), .plan = unary_plan,            \
                       .compute = unary_compute, .inplace = TFL_INPLACE_INPUT_0,                   \
                       LC_IN_HALVES(unary_compute), __VA_ARGS__)

BINARY(ADD, sizeof(struct tfl_arithmetic_params), .coded = &lc_coded_ADD);
BINARY(SUB, sizeof(struct tfl_arithmetic_params), .coded = &lc_coded_ADD);
BINARY(MUL, sizeof(struct tfl_arithmetic_params), .coded = &lc_coded_MUL);
BINARY(DIV, sizeof(struct tfl_arithmetic_params));
BINARY(MAXIMUM, 0);
BINARY(MINIMUM, 0);
BINARY(PRELU, 0, .coded = &lc_coded_PRELU);
UNARY(RELU, 0, .coded = &lc_coded_RELU);
UNARY(RELU_N1_TO_1, 0, .coded = &lc_coded_RELU);
UNARY(RELU6, 0, .coded = &lc_coded_RELU);
UNARY(LEAKY_RELU, sizeof(struct tfl_leaky_relu_params), .coded = &lc_coded_LEAKY_RELU);
UNARY(HARD_SWISH, 0, .coded = &lc_coded_HARD_SWISH);
UNARY(LOGISTIC, 0, .coded = &lc_coded_LOGISTIC);
BINARY(SQUARED_DIFFERENCE, 0);
UNARY(TANH, 0);
UNARY(EXP, 0);
UNARY(SQUARE, 0);
UNARY(SQRT, 0);
UNARY(RSQRT, 0);
UNARY(NEG, 0);
UNARY(ABS, 0);
