// SPDX-License-Identifier: Apache-2.0
//
// Which nodes may write their output over an input.

#pragma once

#include "layer/graph.h"
#include "operation/operation.h"

// The `inplace_operator` of a node that computes `kind`. TFLite sees to it that nobody else reads
// the input that it shares, nor the tensor whose memory that input has; only tensors in between,
// where one new shape follows another, it forgets.
uint64_t lc_inplace_of(const struct lc_graph *graph, const struct lc_operator *kind,
                       const struct tfl_node *node);

// Whether a node whose kernel may do so may write its output over an input, as far as TFLite does
// not see to it.
bool lc_may_overwrite(const struct lc_graph *graph, int tensor);
