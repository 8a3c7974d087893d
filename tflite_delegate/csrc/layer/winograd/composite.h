// SPDX-License-Identifier: Apache-2.0
//
// A layer with weights of Winograd's domain as a composite of built-in operators, as scripts/prune
// exports it: a depthwise layer that transforms tiles of the image and goes over from one to the
// next in steps of m, then RESHAPE, TRANSPOSE, BATCH_MATMUL, TRANSPOSE, FULLY_CONNECTED, TRANSPOSE,
// RESHAPE, DEPTH_TO_SPACE, perhaps SLICE, and ADD of the bias.

#pragma once

#include "layer/graph.h"
#include "layer/layer.h"

enum { LC_COMPOSITE_NODES = 10 }; // at most, behind the depthwise layer

// Zero-initialised: none was begun.
struct lc_composite {
    int32_t step;                 // of the recognition; 0: none was begun
    int output;                   // of the last node
    int weights;                  // [n n][C][O]
    int32_t images, down, across; // tiles: of each image, down and across
    int32_t tiles;                // in all
    int32_t channels, filters;    // C and O
    int32_t height, width;        // of the output
};

// Whether the node behind a layer, NULL if there is none, is for lc_composite_append.
bool lc_composite_awaits(const struct lc_composite *composite, const struct lc_layer *layer,
                         struct lc_node_view view);

// Goes on with a node that reads what was computed before. The last has `layer`, which is the
// depthwise one until then, be the layer that all of them are, and ends the composite.
// Returns NULL, or why it is none; both are then as they were.
const char *lc_composite_append(struct lc_composite *composite, struct lc_layer *layer,
                                const struct tfl_context *context, struct lc_node_view view);
