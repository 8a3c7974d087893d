// SPDX-License-Identifier: Apache-2.0
//
// An operator joins a node of ours that computes what it reads or reads what it computes, and so on
// from operator to operator. Those that would only cut TFLite's nodes into more pieces are given
// back: runs of the plan without a layer and between two nodes of TFLite's. supported.py predicts
// the same.

#include "claim/operator_claim.h"

#include <stdlib.h>

#include "host/log.h"
#include "host/tensor.h"
#include "operation/inplace.h"
#include "operation/operators.h"

// Of each node in the plan.
enum state {
    THEIRS,   // stays with TFLite
    CONSTANT, // expands a constant, once
    POSSIBLE, // an operator that may join
    JOINED,
    LAYER, // claimed before
};

static bool read_node(const struct lc_graph *graph, int place, struct lc_node_view *view) {
    return lc_node_at(graph->context, graph->plan->data[place], view);
}

// Notes what a claimed node reads and computes.
static void mark(struct lc_graph *graph, const struct tfl_node *node) {
    for (int i = 0; i < node->inputs->size; i++) {
        if (lc_tensor(graph->context, node->inputs->data[i])) {
            graph->uses[node->inputs->data[i]].is_read_by_us = true;
        }
    }
    for (int i = 0; i < node->outputs->size; i++) {
        graph->uses[node->outputs->data[i]].is_computed_by_us = true;
    }
}

static bool touches(const struct lc_graph *graph, const struct tfl_node *node) {
    for (int i = 0; i < node->inputs->size; i++) {
        if (lc_tensor(graph->context, node->inputs->data[i]) &&
            graph->uses[node->inputs->data[i]].is_computed_by_us) {
            return true;
        }
    }
    for (int i = 0; i < node->outputs->size; i++) {
        if (graph->uses[node->outputs->data[i]].is_read_by_us) {
            return true;
        }
    }
    return false;
}

// Whether nobody needs what a node computes.
static bool is_unread(const struct lc_graph *graph, const struct tfl_node *node) {
    bool all = true;
    for (int i = 0; i < node->outputs->size; i++) {
        all &= lc_is_unread(graph, node->outputs->data[i]);
    }
    return all;
}

// Whether a node is what converters put behind a constant.
static bool expands_constant(const struct lc_graph *graph, struct lc_node_view view) {
    if ((view.builtin_code != TFL_BUILTIN_DEQUANTIZE && view.builtin_code != TFL_BUILTIN_DENSIFY) ||
        view.node->inputs->size < 1) {
        return false;
    }
    const int input = view.node->inputs->data[0];
    const struct tfl_tensor *tensor = lc_tensor(graph->context, input);
    return tensor && (lc_is_constant(tensor) || graph->sources[input] >= 0);
}

static bool find_states(struct lc_graph *graph, enum state *states) {
    for (int place = 0; place < graph->plan->size; place++) {
        struct lc_node_view view;
        if (!read_node(graph, place, &view)) {
            return false;
        }
        if (graph->claimed[place]) {
            states[place] = LAYER;
            mark(graph, view.node);
        } else if (expands_constant(graph, view)) {
            states[place] = CONSTANT;
        } else if (!view.node->delegate &&
                   !lc_operator_refuses(graph->context, view.node, view.builtin_code) &&
                   !is_unread(graph, view.node)) {
            states[place] = POSSIBLE;
        }
    }
    return true;
}

// Joins what touches nodes of ours, in the order of the plan and back, until nothing changes.
static bool join(struct lc_graph *graph, enum state *states) {
    const int size = graph->plan->size;
    for (bool changed = true; changed;) {
        changed = false;
        for (int step = 0; step < 2 * size; step++) {
            int place = step < size ? step : 2 * size - 1 - step;
            struct lc_node_view view;
            if (!read_node(graph, place, &view)) {
                return false;
            }
            if (states[place] == POSSIBLE && touches(graph, view.node)) {
                states[place] = JOINED;
                mark(graph, view.node);
                changed = true;
            }
        }
    }
    return true;
}

static void give_back(int size, enum state *states) {
    int previous = -1; // node of TFLite's
    bool has_layer = false;
    for (int place = 0; place < size; place++) {
        has_layer |= states[place] == LAYER;
        if (states[place] != THEIRS && states[place] != POSSIBLE) {
            continue;
        }
        for (int i = previous + 1; i < place && previous >= 0 && !has_layer; i++) {
            states[i] = states[i] == JOINED ? POSSIBLE : states[i];
        }
        previous = place;
        has_layer = false;
    }
}

static bool claim(struct lc_graph *graph, const enum state *states,
                  struct lc_replacement *replacements) {
    for (int place = 0; place < graph->plan->size; place++) {
        struct lc_node_view view;
        if (!read_node(graph, place, &view)) {
            return false;
        }
        if (states[place] == JOINED) {
            const struct lc_operator *kind = lc_operator_for(view.builtin_code);
            replacements[place] = (struct lc_replacement){
                .registration = lc_operator_registration(view.builtin_code,
                                                         lc_inplace_of(graph, kind, view.node)),
                .node_count = 1,
                .may_halve = kind->compute_halves != NULL,
                .first_input = TFL_OPTIONAL_TENSOR,
                .nodes = {view.index},
            };
            graph->claimed[place] = true;
        }
    }
    return true;
}

int lc_claim_operators(struct lc_graph *graph, struct lc_replacement *replacements) {
    enum state *states = calloc((size_t)graph->plan->size + 1, sizeof *states);
    if (!states) {
        lc_log("out of memory: operators between layers stay with TFLite");
        return TFL_OK;
    }
    bool done = find_states(graph, states) && join(graph, states);
    if (done) {
        give_back(graph->plan->size, states);
        done = claim(graph, states, replacements);
    }
    free(states);
    return done ? TFL_OK : TFL_ERROR;
}
