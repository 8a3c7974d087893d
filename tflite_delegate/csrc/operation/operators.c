// SPDX-License-Identifier: Apache-2.0

#include "operation/operators.h"

#include "host/tensor.h"

static const struct lc_operator *const operators[] = {
#define LC_OPERATOR(name) &lc_operator_##name,
#include "operation/operator_list.h"
#undef LC_OPERATOR
};

const struct lc_operator *lc_operator_for(int32_t builtin_code) {
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (operators[i]->builtin_code == builtin_code) {
            return operators[i];
        }
    }
    return NULL;
}

static bool is_integer_input(const struct lc_operator *kind, int i) {
    return i < 32 && kind->integers >> i & 1;
}

// Constants that TFLite computes while it prepares the graph are not known yet: only the model's.
static bool holds_integers(const struct tfl_tensor *tensor) {
    struct lc_shape shape;
    if (tensor->type != TFL_INT32 || tensor->allocation_type != TFL_MMAP_RO ||
        !lc_read_shape(tensor, &shape)) {
        return false;
    }
    size_t count = (size_t)lc_count(&shape, 0, shape.rank);
    return count == 0 || (tensor->data && tensor->bytes / sizeof(int32_t) >= count);
}

const char *lc_operator_infer(const struct lc_operator *kind, const struct lc_operation *operation,
                              struct lc_shape *outputs) {
    for (int i = 0; i < operation->inputs->size; i++) {
        struct lc_shape shape;
        if (!lc_read_shape(lc_input(operation, i), &shape)) {
            return "a tensor has too many dimensions or elements";
        }
    }
    const char *problem = kind->infer(operation, outputs);
    for (int number = 0; !problem && number < operation->outputs->size; number++) {
        const struct lc_shape *output = &outputs[number];
        int32_t elements = 1;
        for (int i = 0; i < output->rank; i++) {
            if (output->dims[i] > 0 &&
                __builtin_mul_overflow(elements, output->dims[i], &elements)) {
                problem = "the output has too many elements";
            }
        }
    }
    return problem;
}

const char *lc_operator_refuses(struct tfl_context *context, const struct tfl_node *node,
                                int32_t builtin_code) {
    const struct lc_operator *kind = lc_operator_for(builtin_code);
    if (!kind) {
        return "unknown operator";
    }
    if (!node->inputs || !node->outputs || node->outputs->size < 1 ||
        node->outputs->size > (kind->splits ? LC_MAX_OUTPUTS : 1) ||
        node->inputs->size < kind->least_inputs || node->inputs->size > kind->most_inputs ||
        (kind->params_bytes && !node->builtin_data)) {
        return "malformed node";
    }
    const struct lc_operation operation = {
        .context = context,
        .inputs = node->inputs,
        .outputs = node->outputs,
        .params = node->builtin_data,
        .builtin_code = builtin_code,
    };
    bool is_float = true;
    for (int i = 0; i < node->outputs->size; i++) {
        const struct tfl_tensor *output = lc_tensor(context, node->outputs->data[i]);
        if (!output || lc_is_kept(output)) {
            return "malformed node";
        }
        is_float &= output->type == TFL_FLOAT32;
    }
    for (int i = 0; i < node->inputs->size; i++) {
        const struct tfl_tensor *input = lc_input(&operation, i);
        if (!input) {
            return "malformed node";
        }
        if (is_integer_input(kind, i) && !holds_integers(input)) {
            return "an input is not a constant of int32";
        }
        is_float &= is_integer_input(kind, i) || input->type == TFL_FLOAT32;
    }
    if (!is_float) {
        return "not float32";
    }
    const char *reason = kind->refuses ? kind->refuses(&operation) : NULL;
    struct lc_shape outputs[LC_MAX_OUTPUTS];
    return reason ? reason : lc_operator_infer(kind, &operation, outputs);
}
