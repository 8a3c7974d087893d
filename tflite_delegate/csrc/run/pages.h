// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "layer/graph.h"
#include "run/node.h"

// Gives back to the system the pages of weights that the nodes of a graph have packed and that
// nobody else reads. `graph` is as it was before nodes were replaced. The pages come back from the
// model's file if they should be read after all.
void lc_give_back_pages(const struct lc_graph *graph, struct lc_delegate *delegate);
