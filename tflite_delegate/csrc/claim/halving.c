// SPDX-License-Identifier: Apache-2.0

#include "claim/halving.h"

#include <stdlib.h>

#include "host/log.h"
#include "host/tensor.h"
#include "run/copies/halved.h"

struct search {
    const struct lc_graph *graph;
    int *layers;  // of each place in the plan: 1 + that of the layer of float16 it is a part of
    int *writers; // of each tensor: likewise, of the layer that computes it; 0: it stays float32;
                  // SEVERAL nodes write what no model should have them write
};
enum { SEVERAL = -1 };

static void find_layers(struct search *search, const struct lc_replacement *replacements) {
    const struct tfl_ints *plan = search->graph->plan;
    for (int place = 0; place < plan->size; place++) {
        const struct lc_replacement *replacement = &replacements[place];
        for (int i = 0; replacement->computes_halves && i < replacement->node_count; i++) {
            for (int other = 0; other < plan->size; other++) {
                if (plan->data[other] == replacement->nodes[i]) {
                    search->layers[other] = place + 1;
                }
            }
        }
    }
}

static void note_outputs(struct search *search, int place, const struct tfl_node *node) {
    for (int i = 0; i < node->outputs->size; i++) {
        int index = node->outputs->data[i];
        const struct tfl_tensor *tensor = lc_tensor(search->graph->context, index);
        if (!tensor || search->writers[index] == SEVERAL) {
            continue;
        }
        const struct lc_use *use = &search->graph->uses[index]; // of which the last writer is known
        if (use->producer != place) {
            search->writers[index] = SEVERAL;
        } else if (tensor->type == TFL_FLOAT32 && tensor->allocation_type == TFL_ARENA_RW &&
                   !use->is_graph_output && use->readers > 0) {
            search->writers[index] = search->layers[place];
        }
    }
}

// Whoever computes in float32 wants such inputs, and within a layer there is nothing to store.
static void note_inputs(struct search *search, int place, const struct tfl_node *node) {
    for (int i = 0; i < node->inputs->size; i++) {
        int index = node->inputs->data[i];
        if (lc_tensor(search->graph->context, index) &&
            (!search->layers[place] || search->layers[place] == search->writers[index])) {
            search->writers[index] = 0;
        }
    }
}

static void find_tensors(struct search *search) {
    void (*const notes[])(struct search *, int, const struct tfl_node *) = {note_outputs,
                                                                            note_inputs};
    for (int pass = 0; pass < 2; pass++) {
        for (int place = 0; place < search->graph->plan->size; place++) {
            struct lc_node_view view;
            if (lc_node_at(search->graph->context, search->graph->plan->data[place], &view)) {
                notes[pass](search, place, view.node);
            }
        }
    }
}

// `found` has room for every tensor.
static int list(const struct search *search, int *found) {
    int count = 0;
    for (size_t i = 0; i < search->graph->context->tensors_size; i++) {
        if (search->writers[i] > 0) {
            found[count++] = (int)i;
        }
    }
    return count;
}

void lc_halve_between(const struct lc_graph *graph, struct lc_delegate *delegate,
                      const struct lc_replacement *replacements) {
    size_t tensors = graph->context->tensors_size;
    struct search search = {
        .graph = graph,
        .layers = calloc((size_t)graph->plan->size + 1, sizeof *search.layers),
        .writers = calloc(tensors + 1, sizeof *search.writers),
    };
    int *found = calloc(tensors + 1, sizeof *found), count = 0;
    bool done = search.layers && search.writers && found;
    if (done) {
        find_layers(&search, replacements);
        find_tensors(&search);
        count = list(&search, found);
        done = count == 0 || lc_halve(delegate, graph->context, found, count);
    }
    if (!done) {
        lc_log("out of memory: tensors between layers stay float32");
    }
    free(search.layers);
    free(search.writers);
    free(found);
}
