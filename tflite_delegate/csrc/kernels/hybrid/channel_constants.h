// SPDX-License-Identifier: Apache-2.0
//
// What kernels read for each output channel: the bias, and what lies behind all biases of a layer,
// each array on a cache line of its own.
//
// Of quantised layers that is in kernels/quantised/quantised.h. Of hybrid ones, which have a float
// bias, they are float32 scales of the weights, and int32 sums of the weights of a channel with the
// sign changed; of int8 weights that are multiplied as floats, only the scales.

#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "host/kernel_table.h"

struct lc_constants;

// Adds what lies behind `bytes` of biases. False on overflow.
bool lc_add_constants(const struct lc_geometry *geometry, size_t *bytes);

// Writes `channels` biases, of those that a part has room for, and what lies behind them.
// `first` is the layer's output channel that is the first of these.
void lc_write_constants(void *block, const struct lc_part *part, const struct lc_geometry *geometry,
                        const struct lc_constants *constants, size_t first, size_t channels);
