// SPDX-License-Identifier: Apache-2.0

#include "claim/halving.h"

#include <stdlib.h>
#include <string.h>

#include "host/log.h"
#include "host/tensor.h"
#include "operation/operators.h"
#include "run/copies/halved.h"

struct search {
    struct lc_graph *graph;
    const struct lc_replacement *replacements;
    int *units;   // of each place in the plan: 1 + that of the layer or operator of float16 it is
                  // a part of
    int *writers; // of each tensor: likewise, of what computes it; 0: it stays float32; SEVERAL
                  // nodes write what no model should have them write
};
enum { SEVERAL = -1 };

static void find_units(struct search *search) {
    const struct tfl_ints *plan = search->graph->plan;
    for (int place = 0; place < plan->size; place++) {
        const struct lc_replacement *replacement = &search->replacements[place];
        const bool is_unit = replacement->computes_halves || replacement->may_halve;
        for (int i = 0; is_unit && i < replacement->node_count; i++) {
            for (int other = 0; other < plan->size; other++) {
                if (plan->data[other] == replacement->nodes[i]) {
                    search->units[other] = place + 1;
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
            search->writers[index] = search->units[place];
        }
    }
}

// Whoever computes in float32 wants such inputs, and within a layer there is nothing to store.
static void note_inputs(struct search *search, int place, const struct tfl_node *node) {
    for (int i = 0; i < node->inputs->size; i++) {
        int index = node->inputs->data[i];
        if (lc_tensor(search->graph->context, index) &&
            (!search->units[place] || search->units[place] == search->writers[index])) {
            search->writers[index] = 0;
        }
    }
}

static void for_all_nodes(struct search *search,
                          void (*note)(struct search *, int, const struct tfl_node *)) {
    for (int place = 0; place < search->graph->plan->size; place++) {
        struct lc_node_view view;
        if (lc_node_at(search->graph->context, search->graph->plan->data[place], &view)) {
            note(search, place, view.node);
        }
    }
}

// Whether an operator may read and write float16 everywhere.
static bool is_among_halves(const struct search *search, const struct lc_node_view *view) {
    const struct lc_operator *kind = lc_operator_for(view->builtin_code);
    const struct lc_operation operation =
        lc_operation_of(search->graph->context, view->node, view->builtin_code);
    bool all = true;
    for (int i = 0; i < view->node->inputs->size; i++) {
        all &= lc_is_integer_input(kind, i) || search->writers[view->node->inputs->data[i]] > 0 ||
               lc_is_wide_constant(&operation, i) ||
               lc_half_source(&operation, i, search->graph->sources) >= 0;
    }
    for (int i = 0; i < view->node->outputs->size; i++) {
        all &= search->writers[view->node->outputs->data[i]] > 0;
    }
    return all;
}

// Leaves operators in float32 some of whose tensors are. False if there are none of these any more.
static bool leave_operators(struct search *search) {
    bool any = false;
    for (int place = 0; place < search->graph->plan->size; place++) {
        struct lc_node_view view;
        if (search->units[place] && search->replacements[place].may_halve &&
            (!lc_node_at(search->graph->context, search->graph->plan->data[place], &view) ||
             !is_among_halves(search, &view))) {
            search->units[place] = 0;
            any = true;
        }
    }
    return any;
}

static void find_tensors(struct search *search) {
    const size_t tensors = search->graph->context->tensors_size;
    do {
        memset(search->writers, 0, tensors * sizeof *search->writers);
        for_all_nodes(search, note_outputs);
        for_all_nodes(search, note_inputs);
    } while (leave_operators(search));
}

// Operators of float16 read such constants, not what these are made into.
static void forget_sources(struct search *search, int place, const struct tfl_node *node) {
    struct lc_graph *graph = search->graph;
    if (search->units[place] && search->replacements[place].may_halve) {
        const struct lc_operation operation = lc_operation_of(graph->context, node, 0);
        for (int i = 0; i < node->inputs->size; i++) {
            if (lc_half_source(&operation, i, graph->sources) >= 0) {
                lc_forget_reader(graph, node->inputs->data[i]);
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

void lc_halve_between(struct lc_graph *graph, struct lc_delegate *delegate,
                      const struct lc_replacement *replacements) {
    size_t tensors = graph->context->tensors_size;
    struct search search = {
        .graph = graph,
        .replacements = replacements,
        .units = calloc((size_t)graph->plan->size + 1, sizeof *search.units),
        .writers = calloc(tensors + 1, sizeof *search.writers),
    };
    int *found = calloc(tensors + 1, sizeof *found), count = 0;
    bool done = search.units && search.writers && found;
    if (done) {
        find_units(&search);
        find_tensors(&search);
        count = list(&search, found);
        done = count == 0 || lc_halve(delegate, graph->context, found, count);
    }
    if (done) {
        for_all_nodes(&search, forget_sources);
    }
    if (!done) {
        lc_log("out of memory: tensors between layers stay float32");
    }
    free(search.units);
    free(search.writers);
    free(found);
}
