// SPDX-License-Identifier: Apache-2.0
//
// A layer of which whole filters are zero, computed by a kernel for those that are not: a few zero
// ones among them fill these up to whole vectors. The kernel writes its narrower pixels to the end
// of the output, from where they are spread; what the others are follows from the bias.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/kernel_table.h"
#include "host/tflite_abi.h"
#include "layer/chain.h"

struct lc_filters {
    size_t count, all;  // of the kernel's filters, of the layer's
    float *others;      // what the others make of every image, as `of_layer` names them
    int32_t of_layer[]; // the layer's channels: those of the kernel, then the others
};

// Makes of the geometry of a chain that of a narrower kernel, if the library has that and none for
// all filters; false and nothing else. See lc_place_at.
bool lc_filters_narrow(const struct lc_chain *chain, const struct tfl_context *context,
                       int32_t graph_nodes, int32_t plan, struct lc_geometry *layers,
                       const char *algorithm);

// What goes with that kernel; freed by `free`. NULL without memory.
struct lc_filters *lc_filters_new(const struct lc_layer *layer, const struct tfl_context *context,
                                  const struct lc_geometry *geometry,
                                  const struct lc_kernel *kernel);

// Its bytes on the heap; NULL: none.
size_t lc_filters_bytes(const struct lc_filters *filters);

// Spreads `pixels` over `y`, at whose end they are.
void lc_filters_spread(const struct lc_filters *filters, float *y, size_t pixels);
