// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layer/graph.h"
#include "run/node.h"
#include "run/replace.h"

// Makes every tensor float16 that a layer or operator of float16 computes and nothing but others of
// these read, once all are claimed. An operator is one of these if all its tensors are, but for
// constants. precision.py predicts the same. Without memory, none.
void lc_halve_between(struct lc_graph *graph, struct lc_delegate *delegate,
                      const struct lc_replacement *replacements);
