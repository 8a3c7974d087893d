// SPDX-License-Identifier: Apache-2.0
//
// A pool behind a layer, perhaps behind a PAD, that its kernel computes too.

#pragma once

#include "layer/layer.h"
#include "layer/merge.h"

// What an operator makes of the pixels of a window, LC_NO_POOL if it is none that pools.
enum lc_pool lc_pool_of(int32_t builtin_code);

// Merges a pool of the layer's output, or of `pad` around that, unless it is NULL. Returns NULL, or
// why it cannot be merged; the layer is then as it was.
const char *lc_merge_pool(struct lc_layer *layer, const struct lc_pad *pad,
                          const struct tfl_context *context, struct lc_node_view view);
