// SPDX-License-Identifier: Apache-2.0

#include "claim/coverage.h"

#include <stdio.h>

#include "host/log.h"
#include "layer/constants/half_constant.h"
#include "operation/operators.h"
#include "run/replace.h"

struct lc_coverage lc_coverage_of(const struct lc_graph *graph) {
    struct lc_coverage coverage = {.nodes = graph->plan->size, .left = -1};
    for (int place = 0; place < graph->plan->size; place++) {
        int index = graph->plan->data[place];
        struct lc_node_view view;
        if (!lc_node_at(graph->context, index, &view)) {
            continue; // it was there a moment ago
        }
        if (view.node->delegate) {
            coverage.others++;
        } else if (graph->claimed[place] || lc_is_unread_constant(graph, index)) {
            coverage.ours++;
        } else if (lc_is_half_constant(graph, index)) {
            coverage.halves++;
        } else if (coverage.left < 0) {
            coverage.left = index;
        }
    }
    return coverage;
}

void lc_log_coverage(const struct lc_coverage *coverage, const struct lc_delegate *delegate) {
    int ours = coverage->ours + (delegate->options.one_node ? coverage->halves : 0);
    if (ours == coverage->nodes && coverage->ours > 0) {
        lc_log("no operator is left to TFLite%s",
               delegate->options.one_node ? "" : " (one_node:1 makes one node of the whole graph)");
    } else if (coverage->others == coverage->nodes && coverage->others > 0) {
        lc_log("every node is taken by another delegate already: nothing runs here. Apply this "
               "delegate first");
    } else if (coverage->others > 0 && coverage->ours == 0) {
        lc_log("%d of %d nodes are taken by another delegate already, and no layer is left for "
               "this one. Apply it first",
               coverage->others, coverage->nodes);
    }
}

// The name of a node's operator.
static void name_operator(const struct lc_graph *graph, int index, char *name, size_t size) {
    struct lc_node_view view;
    if (!lc_node_at(graph->context, index, &view)) {
        snprintf(name, size, "unknown");
        return;
    }
    const struct lc_operator *known = lc_operator_for(view.builtin_code);
    const char *core = lc_core_name(view.builtin_code), *custom = view.registration->custom_name;
    if (custom || core) {
        snprintf(name, size, "%.60s", core ? core : custom);
    } else if (known) {
        snprintf(name, size, "%s", known->name + sizeof "leanconv/" - 1);
    } else {
        snprintf(name, size, "operator %d", (int)view.builtin_code);
    }
}

void lc_log_many_nodes(const struct lc_coverage *coverage, const struct lc_graph *graph,
                       const char *reason) {
    if (reason) {
        lc_log("one_node: %s: a node for each layer", reason);
        return;
    }
    char name[64];
    name_operator(graph, coverage->left, name, sizeof name);
    lc_log("one_node: node %d (%s) is not for this delegate: a node for each layer", coverage->left,
           name);
}
