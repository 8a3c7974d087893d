// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layer/graph.h"
#include "run/node.h"
#include "run/replace.h"

// Makes every tensor float16 that a layer of float16 computes and nothing but other such layers
// read, once all layers are claimed. precision.py predicts the same. Without memory, none.
void lc_halve_between(const struct lc_graph *graph, struct lc_delegate *delegate,
                      const struct lc_replacement *replacements);
