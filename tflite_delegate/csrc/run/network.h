// SPDX-License-Identifier: Apache-2.0
//
// A whole graph as one node of TFLite: our nodes, run in order, and the memory between them.
//
// TFLite plans no memory for tensors inside a node. They, and what our nodes ask for as their
// temporaries, lie in one temporary of the network's node, each while it is in use.

#pragma once

#include <stdint.h>

#include "layer/graph.h"
#include "run/node.h"
#include "run/replace.h"

// One of our nodes: what TFLite would have had in its place.
struct lc_step {
    struct tfl_registration registration;
    struct tfl_node node;
};

// A tensor inside the network, and the block of memory that it lies in.
struct lc_view {
    int tensor;
    int32_t owner; // the view whose block it is: another one if a step works in place
    size_t offset;
};

struct lc_network {
    struct lc_delegate *delegate;
    struct tfl_context *context;
    struct lc_network *next; // that waits for its node
    struct lc_step *steps;
    int32_t step_count;
    char name[64];

    // Set by every prepare.
    struct lc_view *views;
    int32_t view_count;
    int arena; // tensor index, -1 while there is none
    size_t arena_bytes;
};

// Has one node replace the whole plan, all of whose nodes are in `replacements` (one for each place
// of the plan, as of lc_replace_claimed) or unread. Returns NULL, or why that cannot be done: then
// nothing has changed. `status` is TFLite's if there is no reason.
const char *lc_network_replace(const struct lc_graph *graph, struct lc_delegate *delegate,
                               const struct lc_replacement *replacements, int *status);

// Finds a block of memory for every tensor inside, once the steps are prepared.
int lc_network_plan(struct lc_network *network, struct tfl_node *tfl_node);
