// SPDX-License-Identifier: Apache-2.0
//
// Which operators between layers the delegate takes, once its layers are chosen.

#pragma once

#include "layer/graph.h"
#include "run/replace.h"

// Claims the operators that tensors join to claimed nodes. Returns TFL_OK, or TFL_ERROR if TFLite
// cannot tell the nodes.
int lc_claim_operators(struct lc_graph *graph, struct lc_replacement *replacements);
