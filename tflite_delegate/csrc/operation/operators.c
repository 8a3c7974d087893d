// SPDX-License-Identifier: Apache-2.0

#include "operation/operators.h"

#include "host/tensor.h"

static const struct lc_operator *const operators[] = {
#define LC_OPERATOR(name) &lc_operator_##name,
#define LC_CODED_OPERATOR(name) LC_OPERATOR(name)
#include "operation/operator_list.h"
#undef LC_CODED_OPERATOR
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

bool lc_is_integer_input(const struct lc_operator *kind, int i) {
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

// Whether all operands are of one type of floats, in which the operator computes.
static bool is_float(const struct lc_operator *kind, const struct lc_operation *operation) {
    const int type = operation->is_half ? TFL_FLOAT16 : TFL_FLOAT32;
    bool all = operation->is_half ? kind->compute_halves != NULL : kind->compute != NULL;
    for (int i = 0; i < operation->inputs->size; i++) {
        all &= lc_is_integer_input(kind, i) || lc_input(operation, i)->type == type ||
               lc_is_wide_constant(operation, i);
    }
    for (int i = 0; i < operation->outputs->size; i++) {
        all &= operation->context->tensors[operation->outputs->data[i]].type == type;
    }
    return all;
}

// Whether a tensor holds codes as another does, by one scale, and if `same` by that one's.
static bool is_coded_like(const struct tfl_tensor *tensor, const struct tfl_tensor *other,
                          bool same) {
    struct lc_quantization a, b;
    return lc_read_quantization(tensor, &a) && lc_read_quantization(other, &b) && a.count == 1 &&
           b.count == 1 && a.type == b.type &&
           (!same || (a.scales[0] == b.scales[0] && a.zero_points[0] == b.zero_points[0]));
}

static const char *refuses_types(const struct lc_operator *kind,
                                 const struct lc_operation *operation) {
    const struct tfl_tensor *tensors = operation->context->tensors;
    if (!operation->is_coded) {
        return is_float(kind, operation) ? NULL : "not of one type of floats";
    }
    if (!kind->coded) {
        return "not of floats";
    }
    const struct tfl_tensor *first = &tensors[operation->outputs->data[0]];
    bool all = true;
    for (int i = 0; i < operation->inputs->size; i++) {
        all &= lc_is_integer_input(kind, i) ||
               is_coded_like(lc_input(operation, i), first, kind->coded->keeps_scale);
    }
    for (int i = 0; i < operation->outputs->size; i++) {
        all &=
            is_coded_like(&tensors[operation->outputs->data[i]], first, kind->coded->keeps_scale);
    }
    return all || kind->coded->converts ? NULL : "types or quantisations are not supported";
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
    const struct lc_operation operation = lc_operation_of(context, node, builtin_code);
    for (int i = 0; i < node->outputs->size; i++) {
        const struct tfl_tensor *output = lc_tensor(context, node->outputs->data[i]);
        if (!output || lc_is_kept(output)) {
            return "malformed node";
        }
    }
    for (int i = 0; i < node->inputs->size; i++) {
        const struct tfl_tensor *input = lc_input(&operation, i);
        if (!input) {
            return "malformed node";
        }
        if (lc_is_integer_input(kind, i) && !holds_integers(input)) {
            return "an input is not a constant of int32";
        }
    }
    const char *reason = refuses_types(kind, &operation);
    if (!reason && kind->refuses) {
        reason = kind->refuses(&operation);
    }
    if (!reason && operation.is_coded && kind->coded->refuses) {
        reason = kind->coded->refuses(&operation);
    }
    struct lc_shape outputs[LC_MAX_OUTPUTS];
    return reason ? reason : lc_operator_infer(kind, &operation, outputs);
}
