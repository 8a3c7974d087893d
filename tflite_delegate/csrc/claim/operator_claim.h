// SPDX-License-Identifier: Apache-2.0
//
// Which operators between layers the delegate takes, once its layers are chosen.

#ifndef LEANCONV_OPERATOR_CLAIM_H
#define LEANCONV_OPERATOR_CLAIM_H

#include "layer/graph.h"
#include "run/replace.h"

// Claims the operators that tensors join to claimed nodes. Returns TFL_OK, or TFL_ERROR if TFLite
// cannot tell the nodes.
int lc_claim_operators(struct lc_graph *graph, struct lc_replacement *replacements);

#endif // LEANCONV_OPERATOR_CLAIM_H
