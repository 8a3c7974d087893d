// SPDX-License-Identifier: Apache-2.0
//
// Layers one after the other that one kernel computes, and the nodes that they are made of.

#pragma once

#include "layer/layer.h"
#include "layer/merge.h"
#include "layer/winograd/composite.h"

enum {
    LC_MAX_LAYER_ENDS = 9, // PAD, core, activation, ADD, activation, of one or two nodes, PAD, pool
    LC_MAX_NODES = LC_MAX_LAYERS * LC_MAX_LAYER_ENDS + LC_COMPOSITE_NODES
};

// Zero-initialised: empty.
struct lc_chain {
    int32_t layer_count;
    struct lc_layer layers[LC_MAX_LAYERS]; // all residuals but the last's are inputs of layers

    // While it grows: a node of ours ends before.
    int32_t node_count;
    int nodes[LC_MAX_NODES]; // indices, in the order of execution
    bool ends_with_pad;      // which waits for a convolution or a pool
    struct lc_pad pad;
    bool ends_with_gate;           // the LOGISTIC of a swish, which waits for its MUL
    int gate;                      // its output
    struct lc_composite composite; // in which the last layer is, if one was begun
};

// Appends a node that reads what the chain computes. `sources`: see lc_layer_read.
// Returns NULL, or why it cannot be appended; the chain is then as it was.
const char *lc_chain_append(struct lc_chain *chain, struct tfl_context *context, int index,
                            const int *sources);

// Whether the last node waits for another one.
bool lc_chain_is_open(const struct lc_chain *chain);

// The tensors that a chain reads and computes; of an empty one, TFL_OPTIONAL_TENSOR.
int lc_chain_input(const struct lc_chain *chain);
int lc_chain_output(const struct lc_chain *chain);

// The tensor that is added to its output, unless that is inside of the chain; else
// TFL_OPTIONAL_TENSOR.
int lc_chain_residual(const struct lc_chain *chain);

// Whether what the chain adds is what the kernel adds.
bool lc_chain_adds(const struct lc_chain *chain, const struct lc_kernel *kernel);

// The geometry of every layer for the shapes that the layers' inputs have now, and the number of
// images. Returns NULL, or what is wrong with the shapes.
const char *lc_chain_geometry(const struct lc_chain *chain, const struct tfl_context *context,
                              struct lc_geometry *layers, int32_t *batch);
