// SPDX-License-Identifier: Apache-2.0
//
// The custom operator leanconv.winograd_conv2d: a layer whose weights are those of Winograd's
// domain.

#pragma once

#include "layer/graph.h"
#include "layer/layer.h"

#define LC_WINOGRAD_NAME "leanconv.winograd_conv2d"

// Reads its options into `layer`. Returns NULL, or why the node is not for this delegate.
const char *lc_read_winograd_params(struct lc_layer *layer, const struct tfl_node *node);
