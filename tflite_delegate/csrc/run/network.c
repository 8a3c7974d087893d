// SPDX-License-Identifier: Apache-2.0

#include "run/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/tensor.h"
#include "layer/constants/half_constant.h"

static void network_delete(struct lc_network *network) {
    for (int32_t i = 0; i < network->step_count; i++) {
        struct lc_step *step = &network->steps[i];
        if (step->registration.free) {
            step->registration.free(network->context, step->node.user_data);
        }
        free(step->node.inputs);
        free(step->node.outputs);
        free(step->node.temporaries);
    }
    free(network->steps);
    free(network->views);
    free(network);
}

// Steps

static int compare_ints(const void *left, const void *right) {
    const int *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static bool is_computed(struct tfl_context *context, const struct tfl_ints *nodes, int tensor) {
    for (int i = 0; i < nodes->size; i++) {
        struct lc_node_view view;
        if (lc_node_at(context, nodes->data[i], &view) &&
            lc_ints_contain(view.node->outputs, tensor)) {
            return true;
        }
    }
    return false;
}

// What nodes read that none of them computes: as TFLite lists the inputs of a delegate's node, in
// ascending order and each once. NULL without memory.
static struct tfl_ints *find_inputs(struct tfl_context *context, const struct tfl_ints *nodes) {
    struct lc_node_view view;
    int size = 0;
    for (int i = 0; i < nodes->size; i++) {
        if (!lc_node_at(context, nodes->data[i], &view)) {
            return NULL;
        }
        size += view.node->inputs->size;
    }
    struct tfl_ints *inputs = lc_new_ints(size);
    if (!inputs) {
        return NULL;
    }
    inputs->size = 0;
    for (int i = 0; i < nodes->size; i++) {
        lc_node_at(context, nodes->data[i], &view);
        for (int j = 0; j < view.node->inputs->size; j++) {
            int tensor = view.node->inputs->data[j];
            if (lc_tensor(context, tensor) && !is_computed(context, nodes, tensor)) {
                inputs->data[inputs->size++] = tensor;
            }
        }
    }
    qsort(inputs->data, (size_t)inputs->size, sizeof(int), compare_ints);
    int kept = 0;
    for (int i = 0; i < inputs->size; i++) {
        if (i == 0 || inputs->data[i] != inputs->data[i - 1]) {
            inputs->data[kept++] = inputs->data[i];
        }
    }
    inputs->size = kept;
    return inputs;
}

// The outputs of the last of the nodes that somebody reads: what is between the nodes, nobody else
// does. NULL without memory.
static struct tfl_ints *find_outputs(const struct lc_graph *graph, const struct tfl_ints *nodes) {
    struct lc_node_view last;
    if (!lc_node_at(graph->context, nodes->data[nodes->size - 1], &last)) {
        return NULL;
    }
    struct tfl_ints *outputs = lc_new_ints(last.node->outputs->size);
    if (!outputs) {
        return NULL;
    }
    outputs->size = 0;
    for (int i = 0; i < last.node->outputs->size; i++) {
        int tensor = last.node->outputs->data[i];
        if (lc_tensor(graph->context, tensor) && !lc_is_unread(graph, tensor)) {
            outputs->data[outputs->size++] = tensor;
        }
    }
    return outputs;
}

// Makes the node of ours as TFLite would. False without memory.
static bool add_step(struct lc_network *network, const struct lc_graph *graph,
                     const struct lc_replacement *replacement) {
    struct lc_step *step = &network->steps[network->step_count++];
    struct tfl_ints *nodes = lc_new_ints(replacement->node_count);
    if (!nodes) {
        return false;
    }
    memcpy(nodes->data, replacement->nodes, (size_t)nodes->size * sizeof(int));
    step->node = (struct tfl_node){
        .inputs = find_inputs(network->context, nodes),
        .outputs = find_outputs(graph, nodes),
        .temporaries = lc_new_ints(0),
        .delegate = &network->delegate->base,
    };
    bool good = step->node.inputs && step->node.outputs && step->node.temporaries;
    if (good) {
        if (replacement->first_input != TFL_OPTIONAL_TENSOR) {
            lc_name_first(step->node.inputs, replacement->first_input);
        }
        const struct tfl_delegate_params params = {
            .delegate = &network->delegate->base,
            .nodes_to_replace = nodes,
            .input_tensors = step->node.inputs,
            .output_tensors = step->node.outputs,
        };
        step->registration = replacement->registration;
        step->node.user_data = step->registration.init(network->context, (const void *)&params, 0);
    }
    free(nodes);
    return good && step->node.user_data;
}

// The replacement whose last node is at `place` of the plan; NULL if there is none.
static const struct lc_replacement *ends_at(const struct lc_graph *graph,
                                            const struct lc_replacement *replacements, int place) {
    for (int i = 0; i <= place; i++) {
        const struct lc_replacement *replacement = &replacements[i];
        int count = replacement->node_count;
        if (count > 0 && replacement->nodes[count - 1] == graph->plan->data[place]) {
            return replacement;
        }
    }
    return NULL;
}

// NULL without memory.
static struct lc_network *network_new(const struct lc_graph *graph, struct lc_delegate *delegate,
                                      const struct lc_replacement *replacements) {
    struct lc_network *network = calloc(1, sizeof *network);
    if (!network) {
        return NULL;
    }
    network->delegate = delegate;
    network->context = graph->context;
    network->arena = -1;
    network->steps = calloc((size_t)graph->plan->size + 1, sizeof *network->steps);
    bool good = network->steps;
    // What a step reads has been computed by steps whose last nodes stand before its own.
    for (int place = 0; good && place < graph->plan->size; place++) {
        const struct lc_replacement *replacement = ends_at(graph, replacements, place);
        int index = graph->plan->data[place];
        const struct lc_replacement constant = {
            .registration = lc_half_constant_registration(),
            .node_count = 1,
            .first_input = TFL_OPTIONAL_TENSOR,
            .nodes = {index},
        };
        if (!graph->claimed[place] && lc_is_half_constant(graph, index) &&
            !lc_is_unread_constant(graph, index)) {
            replacement = &constant;
        }
        good = !replacement || add_step(network, graph, replacement);
    }
    if (!good) {
        network_delete(network);
        return NULL;
    }
    snprintf(network->name, sizeof network->name, "%d nodes", (int)network->step_count);
    return network;
}

// From the claim to TFLite's node

static void await(struct lc_network *network) {
    lc_lock(&network->delegate->lock);
    network->next = network->delegate->waiting;
    network->delegate->waiting = network;
    lc_unlock(&network->delegate->lock);
}

// The network that waits for a node of the context's graph, no longer waiting; NULL if none does.
static struct lc_network *collect(struct lc_delegate *delegate, struct tfl_context *context) {
    lc_lock(&delegate->lock);
    struct lc_network **link = &delegate->waiting;
    while (*link && (*link)->context != context) {
        link = &(*link)->next;
    }
    struct lc_network *network = *link;
    if (network) {
        *link = network->next;
    }
    lc_unlock(&delegate->lock);
    return network;
}

static void *network_init(struct tfl_context *context, const char *buffer, size_t length) {
    (void)length; // TFLite passes 0
    const struct tfl_delegate_params *params = (const void *)buffer;
    return collect((struct lc_delegate *)params->delegate, context);
}

static void network_free(struct tfl_context *context, void *user_data) {
    (void)context;
    if (user_data) {
        network_delete(user_data);
    }
}

static int network_prepare(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_network *network = tfl_node->user_data;
    int status = network ? TFL_OK : TFL_ERROR;
    for (int32_t i = 0; status == TFL_OK && i < network->step_count; i++) {
        struct lc_step *step = &network->steps[i];
        status = step->registration.prepare(context, &step->node);
    }
    return status == TFL_OK ? lc_network_plan(network, tfl_node) : status;
}

// Without a base, tensors inside have no data: as they are for TFLite between two invocations.
static void set_data(const struct lc_network *network, struct tfl_context *context, char *base) {
    for (int32_t i = 0; i < network->view_count; i++) {
        const struct lc_view *view = &network->views[i];
        context->tensors[view->tensor].data = base ? base + view->offset : NULL;
    }
}

static int network_invoke(struct tfl_context *context, struct tfl_node *tfl_node) {
    const struct lc_network *network = tfl_node->user_data;
    char *base = network->arena_bytes ? context->tensors[network->arena].data : NULL;
    int status = TFL_OK;
    set_data(network, context, base);
    for (int32_t i = 0; status == TFL_OK && i < network->step_count; i++) {
        struct lc_step *step = &network->steps[i];
        status = step->registration.invoke(context, &step->node);
    }
    set_data(network, context, NULL);
    return status;
}

static const char *network_name(const struct tfl_context *context,
                                const struct tfl_node *tfl_node) {
    (void)context;
    const struct lc_network *network = tfl_node->user_data;
    return network ? network->name : NULL;
}

static bool becomes_one_node(const struct lc_graph *graph) {
    struct tfl_delegate_params *partitions = NULL;
    int count = 0;
    return graph->context->PreviewDelegatePartitioning(graph->context, graph->plan, &partitions,
                                                       &count) == TFL_OK &&
           count == 1;
}

const char *lc_network_replace(const struct lc_graph *graph, struct lc_delegate *delegate,
                               const struct lc_replacement *replacements, int *status) {
    static const struct tfl_registration registration = {
        .init = network_init,
        .free = network_free,
        .prepare = network_prepare,
        .invoke = network_invoke,
        .profiling_string = network_name,
        .custom_name = "leanconv/network",
        .version = 1,
    };
    if (!becomes_one_node(graph)) {
        return "TFLite would make several of it";
    }
    struct lc_network *network = network_new(graph, delegate, replacements);
    if (!network) {
        return "out of memory";
    }
    await(network);
    *status = lc_replace_nodes(graph->context, &delegate->base, registration, graph->plan);
    network = collect(delegate, graph->context);
    if (network) { // no node has taken it
        network_delete(network);
    }
    return NULL;
}
