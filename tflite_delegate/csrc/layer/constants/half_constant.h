// SPDX-License-Identifier: Apache-2.0
//
// A float16 constant that an operator of a network reads, as float32: what TFLite's DEQUANTIZE does
// where nodes are not all ours.

#pragma once

#include <stdbool.h>

#include "layer/graph.h"

// Whether a node only expands a float16 constant that is dense.
bool lc_is_half_constant(const struct lc_graph *graph, int index);

// The node of ours for it.
struct tfl_registration lc_half_constant_registration(void);
