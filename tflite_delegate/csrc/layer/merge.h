// SPDX-License-Identifier: Apache-2.0
//
// Nodes around a layer's core that its kernel computes too: a PAD in front of it, an activation, an
// ADD and another activation behind it.

#pragma once

#include "layer/layer.h"

// A PAD of zeros, or of codes that stand for zero, around images or volumes.
struct lc_pad {
    int input, output; // tensor indices
    bool is_of_volumes;
    int32_t front, back; // of volumes
    int32_t top, bottom, left, right;
};

// Whether both tensors, which may be NULL, hold the same codes of one scale and zero point.
bool lc_share_codes(const struct tfl_tensor *input, const struct tfl_tensor *output);

// Reads a PAD node. Returns NULL, or why no convolution can do its work.
const char *lc_pad_read(struct lc_pad *pad, const struct tfl_context *context,
                        struct lc_node_view view);

// Has the layer pad its input itself. Returns NULL, or why it cannot.
const char *lc_merge_pad(struct lc_layer *layer, const struct lc_pad *pad);

// Merges the node that reads the layer's output. Returns NULL, or why it cannot be merged; the
// layer is then as it was.
const char *lc_merge_follower(struct lc_layer *layer, const struct tfl_context *context,
                              struct lc_node_view view);

// Reads a LOGISTIC node of the layer's output, whose product with that is a swish. Returns NULL, or
// why it is none.
const char *lc_gate_read(const struct lc_layer *layer, const struct tfl_context *context,
                         struct lc_node_view view, int *gate);

// Merges that product, a MUL node. Returns NULL, or why it cannot be merged; the layer is then as
// it was.
const char *lc_merge_product(struct lc_layer *layer, const struct tfl_context *context,
                             struct lc_node_view view, int gate);
