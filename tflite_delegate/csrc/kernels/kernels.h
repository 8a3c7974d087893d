// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "host/kernel_table.h"

// The first kernel for a chain of layers, of `algorithm` unless that is NULL. NULL if there is
// none.
const struct lc_kernel *lc_find_kernel(const struct lc_geometry *layers, int32_t layer_count,
                                       const char *algorithm);

// Likewise, one that reads the same packed weights as `packed_for`, best that itself, and computes
// no more than `images` at once.
const struct lc_kernel *lc_find_runnable(const struct lc_geometry *layers, int32_t layer_count,
                                         const char *algorithm, const struct lc_kernel *packed_for,
                                         int32_t images);

// The kernel that was compiled for the chain whose first core is the node `core` of a graph of
// `graph_nodes` nodes, if it serves the layers and `algorithm` (as above); else NULL.
const struct lc_place *lc_place_at(int32_t graph_nodes, int32_t core, int32_t plan,
                                   const struct lc_geometry *layers, int32_t layer_count,
                                   const char *algorithm);

// Whether there is a kernel for the layer with some of its output channels, but not all.
bool lc_has_narrower(const struct lc_geometry *layer, const char *algorithm);

// Whether any kernel is walked row by row.
bool lc_walks_rows(void);

// Bytes of workspace for a number of threads. False on overflow.
bool lc_workspace_bytes(const struct lc_kernel *kernel, int32_t threads, size_t *bytes);
