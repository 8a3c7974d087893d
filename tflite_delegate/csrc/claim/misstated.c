// SPDX-License-Identifier: Apache-2.0
//
// A damaged model's options and shapes may contradict each other, and a host may have resized an
// input. Nodes are claimed by what is stated: what holds only of that must not be relied on.

#include "claim/misstated.h"

#include <stdlib.h>
#include <string.h>

#include "host/tensor.h"
#include "layer/layer.h"
#include "operation/operators.h"

// Whether the images of a stated shape, if any is, are others than those of the real one.
static bool differs(const struct tfl_ints *stated, const int *dims, int rank) {
    return stated && stated->size > 0 &&
           (stated->size != rank ||
            memcmp(stated->data + 1, dims + 1, ((size_t)rank - 1) * sizeof *dims) != 0);
}

static bool misstates_layer(const struct lc_graph *graph, struct lc_node_view view) {
    struct lc_layer layer;
    struct lc_geometry geometry;
    int32_t batch;
    if (lc_layer_read(&layer, graph->context, view, graph->sources)) {
        return false;
    }
    const struct tfl_ints *input = graph->context->tensors[layer.input].dims;
    if (lc_layer_geometry(&layer, input, &geometry, &batch)) {
        return true;
    }
    struct tfl_ints *dims = lc_layer_output_dims(&layer, input, &geometry, batch);
    bool result =
        dims && differs(graph->context->tensors[layer.output].dims, dims->data, dims->size);
    free(dims);
    return result;
}

static bool misstates_operator(const struct lc_graph *graph, struct lc_node_view view) {
    struct lc_shape outputs[LC_MAX_OUTPUTS];
    if (lc_operator_refuses(graph->context, view.node, view.builtin_code)) {
        return false;
    }
    const struct lc_operation operation =
        lc_operation_of(graph->context, view.node, view.builtin_code);
    lc_operator_infer(lc_operator_for(view.builtin_code), &operation, outputs);
    bool any = false;
    for (int i = 0; i < view.node->outputs->size; i++) {
        const struct tfl_tensor *output = lc_tensor(graph->context, view.node->outputs->data[i]);
        any |= differs(output->dims, outputs[i].dims, outputs[i].rank);
    }
    return any;
}

static bool is_misstated(const struct lc_graph *graph, struct lc_node_view view) {
    const struct tfl_ints *inputs = view.node->inputs;
    for (int i = 0; i < inputs->size; i++) {
        if (lc_tensor(graph->context, inputs->data[i]) &&
            graph->uses[inputs->data[i]].is_misstated) {
            return true;
        }
    }
    return lc_core_name(view.builtin_code) ? misstates_layer(graph, view)
                                           : misstates_operator(graph, view);
}

void lc_mark_misstated(struct lc_graph *graph) {
    for (int place = 0; place < graph->plan->size; place++) {
        struct lc_node_view view;
        if (!lc_node_at(graph->context, graph->plan->data[place], &view)) {
            continue;
        }
        bool result = is_misstated(graph, view);
        const struct tfl_ints *outputs = view.node->outputs;
        for (int i = 0; i < outputs->size; i++) {
            if (lc_tensor(graph->context, outputs->data[i])) {
                graph->uses[outputs->data[i]].is_misstated = result;
            }
        }
    }
}
