// SPDX-License-Identifier: Apache-2.0
//
// How much of a graph is ours once nodes of it are claimed, and what is said about it.

#pragma once

#include "layer/graph.h"
#include "run/node.h"

struct lc_coverage {
    int nodes;  // of the plan
    int ours;   // claimed, or constants that only claimed nodes read
    int others; // another delegate's
    int halves; // float16 constants of operators: TFLite's, unless the graph becomes one node
    int left;   // index of the first node that is none of these, -1 if there is none
};

// To be asked before claimed nodes are replaced.
struct lc_coverage lc_coverage_of(const struct lc_graph *graph);

// Says that nothing is left to TFLite, or that nothing was left to us.
void lc_log_coverage(const struct lc_coverage *coverage, const struct lc_delegate *delegate);

// Says why the graph does not become one node: `reason`, or if that is NULL the first node that is
// not ours.
void lc_log_many_nodes(const struct lc_coverage *coverage, const struct lc_graph *graph,
                       const char *reason);
