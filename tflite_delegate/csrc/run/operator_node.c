// SPDX-License-Identifier: Apache-2.0
//
// The life of a node of the model that an operator computes.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/tensor.h"
#include "kernels/halves.h"
#include "layer/graph.h"
#include "operation/operators.h"
#include "run/node.h"

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

static size_t ints_bytes(const struct tfl_ints *ints) {
    return sizeof *ints + sizeof(int) * (size_t)ints->size;
}

// Forgets the outputs that nobody reads: TFLite gives them no memory.
static void drop_unread(struct tfl_ints *outputs, const struct tfl_ints *read) {
    for (int i = 0; i < outputs->size; i++) {
        if (!lc_ints_contain(read, outputs->data[i])) {
            outputs->data[i] = TFL_OPTIONAL_TENSOR;
        }
    }
}

// Bytes that hold constants in float16, and in front of them a pointer for each input; as many as
// keep what is behind them aligned.
static size_t narrowed_bytes(const struct lc_operation *operation) {
    size_t elements = 0;
    for (int i = 0; operation->is_half && i < operation->inputs->size; i++) {
        const struct lc_shape shape = lc_input_shape(operation, i);
        elements += lc_is_wide_constant(operation, i) ? (size_t)lc_count(&shape, 0, shape.rank) : 0;
    }
    const size_t pointer = sizeof *operation->narrowed;
    const size_t pointers = (elements * sizeof(uint16_t) + pointer - 1) / pointer;
    return elements > 0 ? (pointers + (size_t)operation->inputs->size) * pointer : 0;
}

static void narrow_constants(struct lc_operation *operation, const uint16_t **narrowed) {
    uint16_t *halves = (uint16_t *)(void *)(narrowed + operation->inputs->size);
    operation->narrowed = narrowed;
    for (int i = 0; i < operation->inputs->size; i++) {
        if (lc_is_wide_constant(operation, i)) {
            const struct lc_shape shape = lc_input_shape(operation, i);
            const size_t elements = (size_t)lc_count(&shape, 0, shape.rank);
            lc_narrow(halves, lc_input(operation, i)->data, elements);
            operation->narrowed[i] = halves;
            halves += elements;
        }
    }
}

// Reads constants of float16 themselves instead of what they are made into.
static void read_sources(const struct lc_operation *operation, const int *sources,
                         struct tfl_ints *inputs) {
    for (int i = 0; operation->is_half && i < inputs->size; i++) {
        const int source = lc_half_source(operation, i, sources);
        inputs->data[i] = source >= 0 ? source : inputs->data[i];
    }
}

// A copy of the operands of the node that was claimed, behind the struct. NULL without memory.
static struct lc_operator_node *copy_claimed(struct tfl_context *context,
                                             const struct tfl_node *claimed, int32_t builtin_code,
                                             const struct tfl_ints *read, const int *sources) {
    const struct lc_operator *kind = lc_operator_for(builtin_code);
    struct lc_operation operation = lc_operation_of(context, claimed, builtin_code);
    const size_t inputs_bytes = ints_bytes(claimed->inputs);
    const size_t outputs_bytes = ints_bytes(claimed->outputs);
    const size_t state_bytes = operation.is_coded ? kind->coded->state_bytes : 0;
    struct lc_operator_node *node;
    const size_t constants_bytes = narrowed_bytes(&operation);
    const int parts = (kind->splits ? claimed->outputs : claimed->inputs)->size;
    const size_t plan_bytes = kind->plan_bytes + kind->part_plan_bytes * (size_t)parts;
    const size_t bytes = sizeof *node + constants_bytes + plan_bytes + state_bytes + inputs_bytes +
                         outputs_bytes + kind->params_bytes;
    node = calloc(1, bytes);
    if (!node) {
        return NULL;
    }
    node->bytes = bytes;
    char *constants = (char *)(node + 1), *plan = constants + constants_bytes;
    char *state = plan + plan_bytes;
    char *inputs = state + state_bytes;
    char *outputs = inputs + inputs_bytes, *params = outputs + outputs_bytes;
    memcpy(inputs, claimed->inputs, inputs_bytes);
    read_sources(&operation, sources, (struct tfl_ints *)inputs);
    memcpy(outputs, claimed->outputs, outputs_bytes);
    drop_unread((struct tfl_ints *)outputs, read);
    if (kind->params_bytes) {
        memcpy(params, claimed->builtin_data, kind->params_bytes);
    }
    if (operation.is_coded && kind->coded->start) {
        kind->coded->start(&operation, state);
    }
    if (constants_bytes) {
        narrow_constants(&operation, (const uint16_t **)(void *)constants);
    }
    operation.inputs = (const void *)inputs;
    operation.outputs = (const void *)outputs;
    operation.params = params;
    operation.state = state;
    operation.plan = plan;
    node->kind = kind;
    node->operation = operation;
    return node;
}

static void *operator_init(struct tfl_context *context, const char *buffer, size_t length) {
    (void)length; // TFLite passes 0
    const struct tfl_delegate_params *delegate_params = (const void *)buffer;
    int index = delegate_params->nodes_to_replace->data[0];
    struct lc_node_view claimed;
    if (!lc_node_at(context, index, &claimed)) {
        return NULL;
    }
    struct lc_delegate *delegate = (struct lc_delegate *)delegate_params->delegate;
    struct lc_operator_node *node =
        copy_claimed(context, claimed.node, claimed.builtin_code, delegate_params->output_tensors,
                     lc_claim_of(delegate, context).sources);
    if (node) {
        node->delegate = delegate;
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

static int resize(struct tfl_context *context, int tensor, const struct lc_shape *shape) {
    if (tensor == TFL_OPTIONAL_TENSOR) {
        return TFL_OK;
    }
    struct tfl_ints *dims = lc_new_ints(shape->rank);
    if (dims) {
        memcpy(dims->data, shape->dims, sizeof(int) * (size_t)shape->rank);
    }
    return lc_resize(context, tensor, dims);
}

// "leanconv/MEAN 7x7x1280": the larger of the first input and the output, one image of it.
static void describe(struct lc_operator_node *node, const struct lc_shape *output) {
    struct lc_shape shape = lc_input_shape(&node->operation, 0);
    if (lc_count(output, 0, output->rank) > lc_count(&shape, 0, shape.rank)) {
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
    struct lc_shape outputs[LC_MAX_OUTPUTS];
    const char *problem = lc_operator_infer(node->kind, &node->operation, outputs);
    if (problem) {
        context->ReportError(context, "leanconv: node %d (%s): %s", node->index, node->kind->name,
                             problem);
        return TFL_ERROR;
    }
    lc_lock(&node->delegate->lock);
    describe(node, outputs);
    lc_unlock(&node->delegate->lock);
    int status = TFL_OK;
    for (int i = 0; status == TFL_OK && i < node->operation.outputs->size; i++) {
        status = resize(context, node->operation.outputs->data[i], &outputs[i]);
    }
    if (status == TFL_OK && node->kind->plan) {
        node->kind->plan(&node->operation);
    }
    return status;
}

// Invoke

static bool has_data(const struct tfl_tensor *tensor) { return tensor->data || !tensor->bytes; }

static void (*compute_of(const struct lc_operator_node *node))(const struct lc_operation *) {
    const struct lc_operator *kind = node->kind;
    return node->operation.is_coded  ? kind->coded->compute
           : node->operation.is_half ? kind->compute_halves
                                     : kind->compute;
}

static int operator_invoke(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_operator_node *node = tfl_node->user_data;
    struct lc_operation *operation = &node->operation;
    bool all = true, any = false;
    for (int i = 0; i < operation->inputs->size; i++) {
        all &= has_data(lc_input(operation, i));
    }
    for (int i = 0; i < operation->outputs->size; i++) {
        const struct tfl_tensor *output = lc_tensor(context, operation->outputs->data[i]);
        all &= !output || has_data(output);
        any |= output && output->bytes;
    }
    if (!all) {
        context->ReportError(context, "leanconv: node %d (%s): a tensor has no data", node->index,
                             node->kind->name);
        return TFL_ERROR;
    }
    operation->threads = lc_threads_for(node->delegate, context);
    if (any) {
        compute_of(node)(operation);
    }
    // Only this thread counts; others may read.
    unsigned long long calls = atomic_load_explicit(&node->calls, memory_order_relaxed);
    atomic_store_explicit(&node->calls, calls + 1, memory_order_relaxed);
    return TFL_OK;
}

// What TFLite's profile shows behind the operator's name: the shape, if it has one.
static const char *operator_shape(const struct tfl_context *context,
                                  const struct tfl_node *tfl_node) {
    (void)context;
    const struct lc_operator_node *node = tfl_node->user_data;
    const char *space = node ? strchr(node->name, ' ') : NULL;
    return space ? space + 1 : NULL;
}

struct tfl_registration lc_operator_registration(int32_t builtin_code, uint64_t inplace) {
    const struct lc_operator *kind = lc_operator_for(builtin_code);
    return (struct tfl_registration){
        .init = operator_init,
        .free = operator_free,
        .prepare = operator_prepare,
        .invoke = operator_invoke,
        .profiling_string = operator_shape,
        .custom_name = kind->name,
        .version = 1,
        .inplace_operator = inplace,
    };
}
