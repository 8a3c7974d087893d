// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "layer/graph.h"
#include "run/node.h"

// Whether the graph may be claimed: within memory_limit, with fewer threads if need be. To be asked
// before anything of the graph has changed. Says what becomes of the limit.
bool lc_keep_limit(struct lc_graph *graph, struct lc_delegate *delegate);
