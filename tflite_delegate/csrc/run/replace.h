// SPDX-License-Identifier: Apache-2.0
//
// Handing claimed nodes over to the delegate.

#pragma once

#include "layer/chain.h"
#include "layer/graph.h"

// Nodes that become one.
struct lc_replacement {
    struct tfl_registration registration;
    int node_count;       // 0: there is none
    bool computes_halves; // a layer in float16
    bool may_halve;       // an operator, where all that it reads and writes can be float16
    int first_input;      // tensor that the node is to name first; TFL_OPTIONAL_TENSOR: any
    int nodes[LC_MAX_NODES];
};

// Has `tensor` be the first of these, unless it is not among them.
void lc_name_first(struct tfl_ints *inputs, int tensor);

// Has one node of TFLite replace these.
int lc_replace_nodes(struct tfl_context *context, struct tfl_delegate *delegate,
                     struct tfl_registration registration, const struct tfl_ints *nodes);

// Whether nobody reads what a node makes of a constant.
bool lc_is_unread_constant(const struct lc_graph *graph, int index);

// Replaces the DEQUANTIZE and DENSIFY nodes whose output only claimed layers read. They would still
// run, and hold a dense float32 copy of the weights, if they were left alone.
int lc_replace_unread(const struct lc_graph *graph, struct tfl_delegate *delegate);

// Makes all replacements, one for each place in the plan.
int lc_replace_claimed(const struct lc_graph *graph, struct tfl_delegate *delegate,
                       const struct lc_replacement *replacements);
