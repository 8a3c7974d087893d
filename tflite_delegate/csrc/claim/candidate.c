// SPDX-License-Identifier: Apache-2.0

#include "claim/candidate.h"

#include <string.h>

#include "host/tensor.h"
#include "kernels/kernels.h"
#include "kernels/winograd/blocks.h"
#include "layer/constants/filters.h"

// With a PAD in front and without, each cut off behind any of its nodes that may be the last.
enum { MAX_CANDIDATES = 2 * LC_MAX_NODES };

// A chain that has a kernel: so many of the nodes that were appended.
struct found {
    const struct lc_kernel *kernel;
    int32_t layer_count, node_count;
    bool is_meant, is_embedded, has_pad;
};

struct search {
    const struct lc_graph *graph;
    const char *algorithm;
    struct found found[MAX_CANDIDATES];
    int count;
    int nodes[2][LC_MAX_NODES]; // that were appended, without a PAD in front and with one
};

// Enumeration

// The place of the node that alone reads `tensor`, or -1. A tensor that goes away must be no output
// of the graph either.
static int only_reader(const struct lc_graph *graph, int tensor) {
    const struct lc_use *use = &graph->uses[tensor];
    bool is_private = use->readers == 1 && !use->is_graph_output && !graph->claimed[use->reader];
    return is_private ? use->reader : -1;
}

// The place of a LOGISTIC that reads `tensor`, if nobody else does but a MUL by its output; or -1.
static int gate_of(const struct lc_graph *graph, int tensor) {
    const struct lc_use *use = &graph->uses[tensor];
    struct lc_node_view product;
    if (use->readers != 2 || use->is_graph_output || graph->claimed[use->reader] ||
        !lc_node_at(graph->context, graph->plan->data[use->reader], &product) ||
        product.builtin_code != TFL_BUILTIN_MUL || product.node->inputs->size != 2) {
        return -1;
    }
    const int *factors = product.node->inputs->data;
    int other = factors[factors[0] == tensor];
    bool is_other = other != tensor && lc_tensor(graph->context, other) &&
                    only_reader(graph, other) == use->reader;
    int producer = is_other ? graph->uses[other].producer : -1;
    return producer >= 0 && !graph->claimed[producer] ? producer : -1;
}

// Whether the model has one type around the chain: TFLite computes nothing from float16 to float32.
static bool has_one_type(const struct lc_graph *graph, const struct lc_chain *chain) {
    const struct tfl_tensor *input = lc_tensor(graph->context, lc_chain_input(chain));
    const struct tfl_tensor *output = lc_tensor(graph->context, lc_chain_output(chain));
    return input && output && input->type == output->type;
}

// Whether the kernel takes as many blocks of weights as are not zero.
static bool fits_weights(const struct lc_kernel *kernel, const struct lc_chain *chain,
                         const struct tfl_context *context) {
    if (kernel->parts->layout != LC_BLOCKS) {
        return true;
    }
    struct lc_layer layer = chain->layers[0];
    if (!lc_layer_densify(&layer, context)) {
        return false;
    }
    struct lc_constants constants = lc_layer_constants(&layer, context);
    bool fits = constants.weights.data && lc_fits_blocks(kernel->parts, kernel->layers, &constants);
    lc_layer_forget_copies(&layer);
    return fits;
}

// Whether nobody but the chain reads what lies between its layers.
static bool is_private(const struct lc_graph *graph, const struct lc_chain *chain) {
    bool good = true;
    for (int32_t i = 1; i < chain->layer_count; i++) {
        int tensor = chain->layers[i].input, readers = 1;
        for (int32_t j = i; j < chain->layer_count; j++) {
            readers += chain->layers[j].residual == tensor;
        }
        const struct lc_use *use = &graph->uses[tensor];
        good = good && use->readers == readers && !use->is_graph_output;
    }
    return good;
}

static void add_candidate(struct search *search, const struct lc_chain *chain, bool has_pad) {
    struct lc_geometry layers[LC_MAX_LAYERS];
    int32_t batch;
    if (lc_chain_is_open(chain) || !has_one_type(search->graph, chain) ||
        !is_private(search->graph, chain) || lc_is_unread(search->graph, lc_chain_output(chain)) ||
        lc_chain_geometry(chain, search->graph->context, layers, &batch)) {
        return;
    }
    int32_t count = chain->layer_count;
    lc_filters_narrow(chain, search->graph->context, search->graph->plan->size,
                      search->graph->kept_plan, layers, search->algorithm);
    const struct lc_place *meant =
        lc_place_at(search->graph->plan->size, chain->layers[0].core, search->graph->kept_plan,
                    layers, count, search->algorithm);
    const struct lc_kernel *kernel =
        meant ? meant->kernel : lc_find_kernel(layers, count, search->algorithm);
    if (kernel && lc_chain_adds(chain, kernel) &&
        fits_weights(kernel, chain, search->graph->context)) {
        search->found[search->count++] = (struct found){
            .kernel = kernel,
            .layer_count = count,
            .node_count = chain->node_count,
            .is_meant = meant != NULL,
            .is_embedded = meant && meant->packed,
            .has_pad = has_pad,
        };
    }
}

// The place of the first reader of a tensor that has several, if it is a core: a chain that is
// computed row by row may add the tensor later on. Else -1.
static int core_of_several(const struct lc_graph *graph, int tensor) {
    const struct lc_use *use = &graph->uses[tensor];
    if (use->readers < 2 || use->is_graph_output || !lc_walks_rows()) {
        return -1;
    }
    for (int place = use->producer + 1; place < graph->plan->size; place++) {
        struct lc_node_view view;
        bool reads = false;
        if (!lc_node_at(graph->context, graph->plan->data[place], &view)) {
            return -1;
        }
        for (int i = 0; i < view.node->inputs->size; i++) {
            reads = reads || view.node->inputs->data[i] == tensor;
        }
        if (reads) {
            return lc_core_name(view.builtin_code) && !graph->claimed[place] ? place : -1;
        }
    }
    return -1;
}

// Appends to a chain, which may be empty, the core at `place` and one by one what follows it.
static void enumerate(struct search *search, struct lc_chain *chain, int place) {
    const struct lc_graph *graph = search->graph;
    const bool has_pad = chain->node_count > 0;
    if (has_pad) {
        search->nodes[has_pad][0] = chain->nodes[0];
    }
    int core = place, output = lc_chain_input(chain); // what the next node reads
    while (place >= 0) {
        int32_t layers_before = chain->layer_count;
        if (lc_chain_append(chain, graph->context, graph->plan->data[place], graph->sources)) {
            return;
        }
        search->nodes[has_pad][chain->node_count - 1] = graph->plan->data[place];
        core = chain->layer_count > layers_before ? place : core;
        int residual = lc_chain_residual(chain);
        if (residual != TFL_OPTIONAL_TENSOR &&
            (graph->uses[residual].producer > core || graph->uses[residual].is_misstated ||
             graph->uses[output].is_misstated)) {
            return; // the layer would have to wait for it, or might broadcast one to the other
        }
        add_candidate(search, chain, has_pad);
        output = lc_chain_output(chain);
        int gate = gate_of(graph, output);
        place = gate >= 0 ? gate : only_reader(graph, output);
        place = place >= 0 ? place : core_of_several(graph, output);
    }
}

// Likewise, if the core alone reads the output of a PAD, with that in front.
static void enumerate_with_pad(struct search *search, int place) {
    const struct lc_graph *graph = search->graph;
    struct lc_chain core = {0}, chain = {0};
    if (lc_chain_append(&core, graph->context, graph->plan->data[place], graph->sources)) {
        return;
    }
    int input = lc_chain_input(&core), producer = graph->uses[input].producer;
    if (producer < 0 || graph->claimed[producer] || only_reader(graph, input) != place ||
        lc_chain_append(&chain, graph->context, graph->plan->data[producer], NULL) ||
        !chain.ends_with_pad) {
        return;
    }
    enumerate(search, &chain, place);
}

// Selection

// Whether `a` is better than `b`.
static bool is_better(const struct found *a, const struct found *b) {
    if (a->is_meant != b->is_meant) {
        return a->is_meant;
    }
    if (a->layer_count != b->layer_count) {
        return a->layer_count > b->layer_count;
    }
    if (a->node_count != b->node_count) {
        return a->node_count > b->node_count;
    }
    return a->kernel < b->kernel;
}

// Weights and bias of every core.
struct names {
    int tensors[LC_MAX_LAYERS][2];
};

// Has the cores name these tensors, and returns what they named before.
static struct names exchange(const struct lc_graph *graph, const struct lc_chain *chain,
                             struct names names) {
    for (int32_t i = 0; i < chain->layer_count; i++) {
        struct lc_node_view core;
        if (chain->layers[i].is_composite ||
            !lc_node_at(graph->context, chain->layers[i].core, &core)) {
            continue; // no inputs of the core; or it was there a moment ago
        }
        struct tfl_ints *inputs = core.node->inputs;
        const struct lc_operands operands = lc_core_operands(core.builtin_code);
        const int places[2] = {operands.weights, operands.bias};
        for (int j = 0; j < 2 && places[j] < inputs->size; j++) {
            int before = inputs->data[places[j]];
            inputs->data[places[j]] = names.tensors[i][j];
            names.tensors[i][j] = before;
        }
    }
    return names;
}

// Whether TFLite makes one node of the chain.
static bool becomes_one_node(const struct lc_graph *graph, const struct lc_chain *chain) {
    struct {
        int size;
        int data[LC_MAX_NODES];
    } nodes = {.size = chain->node_count};
    memcpy(nodes.data, chain->nodes, sizeof nodes.data);
    struct tfl_delegate_params *partitions = NULL;
    int count = 0;
    int status = graph->context->PreviewDelegatePartitioning(
        graph->context, (const struct tfl_ints *)(const void *)&nodes, &partitions, &count);
    return status == TFL_OK && count == 1 &&
           partitions[0].nodes_to_replace->size == chain->node_count;
}

// Has the cores read float16 constants themselves instead of their dequantized copies. Undone, and
// false, if the chain would be cut into several nodes even so.
static bool take(const struct lc_graph *graph, const struct lc_chain *chain) {
    struct names constants;
    for (int32_t i = 0; i < chain->layer_count; i++) {
        constants.tensors[i][0] = chain->layers[i].weights;
        constants.tensors[i][1] = chain->layers[i].bias;
    }
    struct names before = exchange(graph, chain, constants);
    if (chain->node_count > 1 && !becomes_one_node(graph, chain)) {
        exchange(graph, chain, before);
        return false;
    }
    for (int32_t i = 0; i < chain->layer_count; i++) {
        for (int j = 0; j < 2; j++) {
            int old = before.tensors[i][j];
            if (old != constants.tensors[i][j]) {
                lc_forget_reader(graph, old);
            }
        }
    }
    return true;
}

// Appends the nodes of what was found once more.
static void recall(struct lc_candidate *best, const struct search *search,
                   const struct found *found) {
    *best = (struct lc_candidate){
        .kernel = found->kernel, .is_meant = found->is_meant, .is_embedded = found->is_embedded};
    const struct lc_graph *graph = search->graph;
    for (int32_t i = 0; i < found->node_count; i++) {
        lc_chain_append(&best->chain, graph->context, search->nodes[found->has_pad][i],
                        graph->sources);
    }
}

bool lc_candidate_find(struct lc_candidate *best, const struct lc_graph *graph, int place,
                       const char *algorithm) {
    struct search search = {.graph = graph, .algorithm = algorithm};
    struct lc_chain empty = {0};
    enumerate_with_pad(&search, place);
    enumerate(&search, &empty, place);
    while (search.count > 0) {
        struct found *first = &search.found[0], *last = &search.found[search.count - 1];
        for (struct found *other = first + 1; other <= last; other++) {
            first = is_better(other, first) ? other : first;
        }
        recall(best, &search, first);
        if (take(graph, &best->chain)) {
            return true;
        }
        *first = *last;
        search.count--;
    }
    return false;
}
