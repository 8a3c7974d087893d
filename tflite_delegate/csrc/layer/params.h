// SPDX-License-Identifier: Apache-2.0
//
// The parameters of a core node: its window, and what is fused with it.

#pragma once

#include "layer/graph.h"
#include "layer/layer.h"

// Reads them into `layer`, whose weights are taken to be in LC_ROWS unless they say otherwise.
// Returns NULL, or why the node is not for this delegate.
const char *lc_read_params(struct lc_layer *layer, struct lc_node_view core);
