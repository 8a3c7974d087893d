// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "layer/graph.h"

// Marks the tensors whose images do not have the shape that the model states, because a node
// computes another, or a node in front of it. Batches may be others: hosts change them.
void lc_mark_misstated(struct lc_graph *graph);
