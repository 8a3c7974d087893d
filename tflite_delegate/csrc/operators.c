// SPDX-License-Identifier: Apache-2.0

#include "operators.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"
#include "tensor.h"

static const struct lc_operator *const tables[] = {
    lc_arithmetic_operators, lc_copying_operators,  lc_padding_operators,
    lc_pooling_operators,    lc_reducing_operators, lc_softmax_operators,
};

const struct lc_operator *lc_operator_for(int32_t builtin_code) {
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        for (const struct lc_operator *entry = tables[i]; entry->name; entry++) {
            if (entry->builtin_code == builtin_code) {
                return entry;
            }
        }
    }
    return NULL;
}

// Claiming

static bool is_integer_input(const struct lc_operator *kind, int i) {
    return kind->has_integers && i == 1;
}

// Constants that TFLite computes while it prepares the graph are not known yet: only the model's.
static bool holds_integers(const struct tfl_tensor *tensor) {
    struct lc_shape shape;
    if (tensor->type != TFL_INT32 || tensor->allocation_type != TFL_MMAP_RO ||
        !lc_read_shape(tensor, &shape)) {
        return false;
    }
    size_t count = (size_t)lc_elements(&shape, 0, shape.rank);
    return count == 0 || (tensor->data && tensor->bytes / sizeof(int32_t) >= count);
}

static const char *infer(const struct lc_operator *kind, const struct lc_operation *operation,
                         struct lc_shape *output) {
    for (int i = 0; i < operation->inputs->size; i++) {
        struct lc_shape shape;
        if (!lc_read_shape(lc_input(operation, i), &shape)) {
            return "a tensor has too many dimensions or elements";
        }
    }
    const char *problem = kind->infer(operation, output);
    int32_t elements = 1;
    for (int i = 0; !problem && i < output->rank; i++) {
        if (output->dims[i] > 0 && __builtin_mul_overflow(elements, output->dims[i], &elements)) {
            problem = "the output has too many elements";
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
    if (!node->inputs || !node->outputs || node->outputs->size != 1 ||
        node->inputs->size < kind->least_inputs || node->inputs->size > kind->most_inputs ||
        (kind->params_bytes && !node->builtin_data)) {
        return "malformed node";
    }
    const struct lc_operation operation = {
        .context = context,
        .inputs = node->inputs,
        .output = node->outputs->data[0],
        .params = node->builtin_data,
        .builtin_code = builtin_code,
    };
    const struct tfl_tensor *output = lc_tensor(context, operation.output);
    if (!output) {
        return "malformed node";
    }
    bool is_float = output->type == TFL_FLOAT32;
    for (int i = 0; i < node->inputs->size; i++) {
        const struct tfl_tensor *input = lc_input(&operation, i);
        if (!input) {
            return "malformed node";
        }
        if (is_integer_input(kind, i) && !holds_integers(input)) {
            return "its second input is not a constant of int32";
        }
        is_float &= is_integer_input(kind, i) || input->type == TFL_FLOAT32;
    }
    if (!is_float) {
        return "not float32";
    }
    const char *reason = kind->refuses ? kind->refuses(&operation) : NULL;
    struct lc_shape shape;
    return reason ? reason : infer(kind, &operation, &shape);
}

// Init and free

static void enlist(struct lc_operator_node *node) {
    struct lc_delegate *delegate = node->delegate;
    lc_lock(&delegate->lock);
    node->next = delegate->operators;
    if (node->next) {
        node->next->previous = node;
    }
    delegate->operators = node;
    lc_unlock(&delegate->lock);
}

static void delist(struct lc_operator_node *node) {
    struct lc_delegate *delegate = node->delegate;
    lc_lock(&delegate->lock);
    *(node->previous ? &node->previous->next : &delegate->operators) = node->next;
    if (node->next) {
        node->next->previous = node->previous;
    }
    lc_unlock(&delegate->lock);
}

// A copy of the operands of the node that was claimed, behind the struct. NULL without memory.
static struct lc_operator_node *copy_claimed(struct tfl_context *context,
                                             const struct tfl_node *claimed, int32_t builtin_code) {
    const struct lc_operator *kind = lc_operator_for(builtin_code);
    size_t inputs_bytes = sizeof(int) * (size_t)(1 + claimed->inputs->size);
    struct lc_operator_node *node = calloc(1, sizeof *node + inputs_bytes + kind->params_bytes);
    if (!node) {
        return NULL;
    }
    char *inputs = (char *)(node + 1), *params = inputs + inputs_bytes;
    memcpy(inputs, claimed->inputs, inputs_bytes);
    if (kind->params_bytes) {
        memcpy(params, claimed->builtin_data, kind->params_bytes);
    }
    node->kind = kind;
    node->operation = (struct lc_operation){
        .context = context,
        .inputs = (const void *)inputs,
        .output = claimed->outputs->data[0],
        .params = params,
        .builtin_code = builtin_code,
    };
    return node;
}

static void *operator_init(struct tfl_context *context, const char *buffer, size_t length) {
    (void)length; // TFLite passes 0
    const struct tfl_delegate_params *delegate_params = (const void *)buffer;
    int index = delegate_params->nodes_to_replace->data[0];
    struct tfl_node *claimed;
    struct tfl_registration *registration;
    if (context->GetNodeAndRegistration(context, index, &claimed, &registration) != TFL_OK) {
        return NULL;
    }
    struct lc_operator_node *node = copy_claimed(context, claimed, registration->builtin_code);
    if (node) {
        node->delegate = (struct lc_delegate *)delegate_params->delegate;
        node->index = index;
        enlist(node);
    }
    return node;
}

static void operator_free(struct tfl_context *context, void *user_data) {
    (void)context;
    struct lc_operator_node *node = user_data;
    if (node) {
        delist(node);
        free(node);
    }
}

// Prepare

static bool same_dims(const struct tfl_ints *dims, const struct lc_shape *shape) {
    return dims && dims->size == shape->rank &&
           memcmp(dims->data, shape->dims, sizeof(int) * (size_t)shape->rank) == 0;
}

static int resize(struct tfl_context *context, int tensor, const struct lc_shape *shape) {
    if (same_dims(context->tensors[tensor].dims, shape)) {
        return TFL_OK;
    }
    size_t bytes = sizeof(int) * (size_t)shape->rank;
    struct tfl_ints *dims = malloc(sizeof *dims + bytes);
    if (!dims) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    dims->size = shape->rank;
    memcpy(dims->data, shape->dims, bytes);
    return context->ResizeTensor(context, &context->tensors[tensor], dims);
}

// "leanconv/MEAN 7x7x1280": the larger of the first input and the output, one image of it.
static void describe(struct lc_operator_node *node, const struct lc_shape *output) {
    struct lc_shape shape = lc_input_shape(&node->operation, 0);
    if (lc_elements(output, 0, output->rank) > lc_elements(&shape, 0, shape.rank)) {
        shape = *output;
    }
    size_t length = (size_t)snprintf(node->name, sizeof node->name, "%s", node->kind->name);
    for (int32_t i = shape.rank > 1; i < shape.rank && length < sizeof node->name; i++) {
        length += (size_t)snprintf(node->name + length, sizeof node->name - length, "%c%d",
                                   i > (shape.rank > 1) ? 'x' : ' ', (int)shape.dims[i]);
    }
}

static int operator_prepare(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_operator_node *node = tfl_node->user_data;
    if (!node) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    struct lc_shape output;
    const char *problem = infer(node->kind, &node->operation, &output);
    if (problem) {
        context->ReportError(context, "leanconv: node %d (%s): %s", node->index, node->kind->name,
                             problem);
        return TFL_ERROR;
    }
    lc_lock(&node->delegate->lock);
    describe(node, &output);
    lc_unlock(&node->delegate->lock);
    return resize(context, node->operation.output, &output);
}

// Invoke

static bool has_data(const struct tfl_tensor *tensor) { return tensor->data || !tensor->bytes; }

static int operator_invoke(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_operator_node *node = tfl_node->user_data;
    struct lc_operation *operation = &node->operation;
    const struct tfl_tensor *output = &context->tensors[operation->output];
    bool all = has_data(output);
    for (int i = 0; i < operation->inputs->size; i++) {
        all &= has_data(lc_input(operation, i));
    }
    if (!all) {
        context->ReportError(context, "leanconv: node %d (%s): a tensor has no data", node->index,
                             node->kind->name);
        return TFL_ERROR;
    }
    operation->threads = lc_threads_for(node->delegate, context);
    if (output->bytes) {
        node->kind->compute(operation);
    }
    atomic_fetch_add_explicit(&node->calls, 1, memory_order_relaxed);
    return TFL_OK;
}

static const char *operator_name(const struct tfl_context *context,
                                 const struct tfl_node *tfl_node) {
    (void)context;
    const struct lc_operator_node *node = tfl_node->user_data;
    return node && node->name[0] ? node->name : NULL;
}

struct tfl_registration lc_operator_registration(int32_t builtin_code) {
    const struct lc_operator *kind = lc_operator_for(builtin_code);
    return (struct tfl_registration){
        .init = operator_init,
        .free = operator_free,
        .prepare = operator_prepare,
        .invoke = operator_invoke,
        .profiling_string = operator_name,
        .custom_name = kind->name,
        .version = 1,
        .inplace_operator = kind->inplace,
    };
}
