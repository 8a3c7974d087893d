// SPDX-License-Identifier: Apache-2.0

#include "run/replace.h"

#include <stdlib.h>
#include <string.h>

#include "host/tensor.h"

int lc_replace_nodes(struct tfl_context *context, struct tfl_delegate *delegate,
                     struct tfl_registration registration, const struct tfl_ints *nodes) {
    struct tfl_registration_argument argument = {.registration = registration};
    return context->ReplaceNodeSubsetsWithDelegateKernels(context, argument, nodes, delegate);
}

// Constants that kernels read themselves

bool lc_is_unread_constant(const struct lc_graph *graph, int index) {
    struct lc_node_view view;
    int output = lc_node_at(graph->context, index, &view) ? lc_made_of_constant(graph, view) : -1;
    return output >= 0 && lc_is_unread(graph, output);
}

static int do_nothing(struct tfl_context *context, struct tfl_node *node) {
    (void)context;
    (void)node;
    return TFL_OK;
}

int lc_replace_unread(const struct lc_graph *graph, struct tfl_delegate *delegate) {
    static const struct tfl_registration nothing = {
        .prepare = do_nothing,
        .invoke = do_nothing,
        .custom_name = "leanconv/constants",
        .version = 1,
    };
    struct tfl_ints *unread = lc_new_ints(graph->plan->size);
    if (!unread) {
        return TFL_OK; // they run for nothing
    }
    unread->size = 0;
    for (int place = 0; place < graph->plan->size; place++) {
        if (lc_is_unread_constant(graph, graph->plan->data[place])) {
            unread->data[unread->size++] = graph->plan->data[place];
        }
    }
    int status =
        unread->size > 0 ? lc_replace_nodes(graph->context, delegate, nothing, unread) : TFL_OK;
    free(unread);
    return status;
}

// Claimed nodes

void lc_name_first(struct tfl_ints *inputs, int tensor) {
    for (int i = 0; i < inputs->size; i++) {
        if (inputs->data[i] == tensor) {
            inputs->data[i] = inputs->data[0];
            inputs->data[0] = tensor;
        }
    }
}

// The same for the node that was added last: TFLite sorts inputs by their indices, and an output
// may only lie where one of the first is.
static void name_first(struct tfl_context *context, int tensor) {
    struct tfl_ints *plan;
    struct lc_node_view view;
    int last = -1;
    if (context->GetExecutionPlan(context, &plan) != TFL_OK) {
        return;
    }
    for (int i = 0; i < plan->size; i++) {
        last = plan->data[i] > last ? plan->data[i] : last;
    }
    if (lc_node_at(context, last, &view)) {
        lc_name_first(view.node->inputs, tensor);
    }
}

// One call for each node of ours: in one call, neighbours would become one node. TFLite puts a new
// node behind all that do not depend on it: in the order of the plan, that order is kept.
int lc_replace_claimed(const struct lc_graph *graph, struct tfl_delegate *delegate,
                       const struct lc_replacement *replacements) {
    struct {
        int size;
        int data[LC_MAX_NODES];
    } nodes;
    for (int place = 0; place < graph->plan->size; place++) {
        const struct lc_replacement *replacement = &replacements[place];
        if (replacement->node_count == 0) {
            continue;
        }
        nodes.size = replacement->node_count;
        memcpy(nodes.data, replacement->nodes, sizeof nodes.data);
        int status = lc_replace_nodes(graph->context, delegate, replacement->registration,
                                      (const struct tfl_ints *)(const void *)&nodes);
        if (status == TFL_OK && replacement->first_input != TFL_OPTIONAL_TENSOR) {
            name_first(graph->context, replacement->first_input);
        }
        if (status != TFL_OK) {
            return status;
        }
    }
    return TFL_OK;
}
