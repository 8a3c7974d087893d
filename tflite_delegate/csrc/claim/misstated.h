// SPDX-License-Identifier: Apache-2.0

#ifndef LEANCONV_MISSTATED_H
#define LEANCONV_MISSTATED_H

#include "layer/graph.h"

// Marks the tensors whose images do not have the shape that the model states, because a node
// computes another, or a node in front of it. Batches may be others: hosts change them.
void lc_mark_misstated(struct lc_graph *graph);

#endif // LEANCONV_MISSTATED_H
