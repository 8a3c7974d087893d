// SPDX-License-Identifier: Apache-2.0

#include "operation/inplace.h"

#include "host/tensor.h"

// The tensor whose memory that of `tensor` may be under another shape, or TFL_OPTIONAL_TENSOR.
static int source_of(const struct lc_graph *graph, int tensor) {
    struct lc_node_view view;
    int producer = graph->uses[tensor].producer;
    if (producer < 0 || !lc_node_at(graph->context, graph->plan->data[producer], &view)) {
        return TFL_OPTIONAL_TENSOR;
    }
    bool is_view = view.registration->inplace_operator & TFL_INPLACE_DATA_UNMODIFIED;
    switch (view.builtin_code) { // as they will be, whatever TFLite's own kernels do
    case TFL_BUILTIN_RESHAPE:
    case TFL_BUILTIN_SQUEEZE:
    case TFL_BUILTIN_EXPAND_DIMS:
        is_view = true;
        break;
    default:
        break;
    }
    const struct tfl_ints *inputs = view.node->inputs;
    return is_view && inputs->size > 0 && lc_tensor(graph->context, inputs->data[0])
               ? inputs->data[0]
               : TFL_OPTIONAL_TENSOR;
}

// Whether one of the tensors that share memory with `tensor` has more than one reader.
static bool is_read_elsewhere(const struct lc_graph *graph, int tensor) {
    // A path through the graph is no longer than the plan, unless the model is malformed.
    for (int steps = graph->plan->size; tensor != TFL_OPTIONAL_TENSOR; steps--) {
        if (steps < 0 || graph->uses[tensor].readers > 1 || graph->uses[tensor].is_graph_output) {
            return true;
        }
        tensor = source_of(graph, tensor);
    }
    return false;
}

bool lc_may_overwrite(const struct lc_graph *graph, int tensor) {
    int source = lc_tensor(graph->context, tensor) ? source_of(graph, tensor) : TFL_OPTIONAL_TENSOR;
    return source == TFL_OPTIONAL_TENSOR || !is_read_elsewhere(graph, source);
}

uint64_t lc_inplace_of(const struct lc_graph *graph, const struct lc_operator *kind,
                       const struct tfl_node *node) {
    if (kind->inplace & TFL_INPLACE_DATA_UNMODIFIED) {
        return kind->inplace;
    }
    for (int i = 0; i < node->inputs->size; i++) {
        if (!lc_may_overwrite(graph, node->inputs->data[i])) {
            return 0;
        }
    }
    return kind->inplace;
}
