// SPDX-License-Identifier: Apache-2.0

#include "layer/graph.h"

#include <stdlib.h>
#include <string.h>

#include "host/tensor.h"
#include "layer/constants/sparsity.h"
#include "layer/layer.h"
#include "layer/quantised_layer.h"

static int32_t code_of(const struct tfl_registration *registration) {
    static const int32_t custom[] = {LC_CUSTOM_TRANSPOSE_CONV_BIAS, LC_CUSTOM_WINOGRAD_CONV};
    const char *name = registration->custom_name;
    for (size_t i = 0; i < sizeof custom / sizeof *custom; i++) {
        if (registration->builtin_code == TFL_BUILTIN_CUSTOM && name &&
            strcmp(name, lc_core_name(custom[i])) == 0) {
            return custom[i];
        }
    }
    return registration->builtin_code;
}

bool lc_node_at(struct tfl_context *context, int index, struct lc_node_view *view) {
    struct tfl_node *node;
    struct tfl_registration *registration;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != TFL_OK) {
        return false;
    }
    *view = (struct lc_node_view){index, code_of(registration), node, registration};
    return true;
}

void lc_graph_free(struct lc_graph *graph) {
    free(graph->plan);
    free(graph->claimed);
    free(graph->uses);
    free(graph->sources);
    *graph = (struct lc_graph){0};
}

static bool allocate(struct lc_graph *graph, const struct tfl_ints *plan, size_t tensor_count) {
    graph->plan = lc_new_ints(plan->size);
    graph->claimed = calloc((size_t)plan->size + 1, sizeof *graph->claimed);
    graph->uses = calloc(tensor_count + 1, sizeof *graph->uses);
    graph->sources = malloc((tensor_count + 1) * sizeof *graph->sources);
    if (!graph->plan || !graph->claimed || !graph->uses || !graph->sources) {
        return false;
    }
    // TFLite reuses its array at the next call.
    memcpy(graph->plan->data, plan->data, (size_t)plan->size * sizeof(int));
    graph->sources[tensor_count] = LC_END_OF_SOURCES;
    for (size_t i = 0; i < tensor_count; i++) {
        graph->sources[i] = -1;
        graph->uses[i].producer = -1;
    }
    return true;
}

bool lc_is_unread(const struct lc_graph *graph, int tensor) {
    return graph->uses[tensor].readers == 0 && !graph->uses[tensor].is_graph_output;
}

// The constant that a tensor is or is made of.
static int source_of(const struct lc_graph *graph, int tensor) {
    return graph->sources[tensor] >= 0 ? graph->sources[tensor] : tensor;
}

int lc_made_of_constant(const struct lc_graph *graph, struct lc_node_view view) {
    const struct tfl_node *node = view.node;
    bool densifies = view.builtin_code == TFL_BUILTIN_DENSIFY;
    if ((!densifies && view.builtin_code != TFL_BUILTIN_DEQUANTIZE) || node->inputs->size != 1 ||
        node->outputs->size != 1) {
        return -1;
    }
    const struct tfl_tensor *input = lc_tensor(graph->context, node->inputs->data[0]);
    const struct tfl_tensor *output = lc_tensor(graph->context, node->outputs->data[0]);
    if (!input || !output) {
        return -1;
    }
    const struct tfl_tensor *source =
        lc_tensor(graph->context, source_of(graph, node->inputs->data[0]));
    if (!densifies && source->type == TFL_INT8) {
        return output->type == TFL_FLOAT32 && lc_is_dense_constant(source, TFL_INT8)
                   ? node->outputs->data[0]
                   : -1;
    }
    bool matches = densifies ? source == input && source->sparsity && output->type == source->type
                             : source->type == TFL_FLOAT16 && output->type == TFL_FLOAT32 &&
                                   (source != input || !source->sparsity);
    return matches && lc_is_float_constant(source) ? node->outputs->data[0] : -1;
}

void lc_forget_reader(const struct lc_graph *graph, int tensor) {
    struct lc_node_view maker;
    struct lc_use *use = &graph->uses[tensor];
    use->readers--;
    if (use->readers == 0 && !use->is_graph_output && use->producer >= 0 &&
        lc_node_at(graph->context, graph->plan->data[use->producer], &maker) &&
        lc_made_of_constant(graph, maker) == tensor) {
        lc_forget_reader(graph, maker.node->inputs->data[0]);
    }
}

static void survey_node(struct lc_graph *graph, int place, struct lc_node_view view) {
    const struct tfl_node *node = view.node;
    for (int i = 0; i < node->inputs->size; i++) {
        if (lc_tensor(graph->context, node->inputs->data[i])) {
            struct lc_use *use = &graph->uses[node->inputs->data[i]];
            use->readers++;
            use->reader = place;
        }
    }
    for (int i = 0; i < node->outputs->size; i++) {
        if (lc_tensor(graph->context, node->outputs->data[i])) {
            graph->uses[node->outputs->data[i]].producer = place;
        }
    }
    int output = lc_made_of_constant(graph, view);
    if (output >= 0) {
        graph->sources[output] = source_of(graph, node->inputs->data[0]);
    }
}

static bool survey(struct lc_graph *graph) {
    for (int i = 0; i < graph->plan->size; i++) {
        struct lc_node_view view;
        if (!lc_node_at(graph->context, graph->plan->data[i], &view)) {
            return false;
        }
        survey_node(graph, i, view);
    }
    return true;
}

// A context does not tell the outputs of the graph; if a delegate took the whole plan, these would
// be its outputs.
static int mark_graph_outputs(struct lc_graph *graph) {
    struct tfl_delegate_params *partitions = NULL;
    int count = 0;
    int status = graph->context->PreviewDelegatePartitioning(graph->context, graph->plan,
                                                             &partitions, &count);
    for (int i = 0; status == TFL_OK && i < count; i++) {
        const struct tfl_ints *outputs = partitions[i].output_tensors;
        for (int j = 0; j < outputs->size; j++) {
            if (lc_tensor(graph->context, outputs->data[j])) {
                graph->uses[outputs->data[j]].is_graph_output = true;
            }
        }
    }
    return status;
}

int lc_graph_read(struct lc_graph *graph, struct tfl_context *context) {
    *graph = (struct lc_graph){.context = context};
    struct tfl_ints *plan;
    if (context->GetExecutionPlan(context, &plan) != TFL_OK) {
        return TFL_ERROR;
    }
    if (!allocate(graph, plan, context->tensors_size)) {
        return TFL_DELEGATE_ERROR;
    }
    return survey(graph) && mark_graph_outputs(graph) == TFL_OK ? TFL_OK : TFL_ERROR;
}
