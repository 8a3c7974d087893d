// SPDX-License-Identifier: Apache-2.0
//
// The chains around a core node that a kernel was compiled for.

#pragma once

#include "layer/chain.h"
#include "layer/graph.h"

struct lc_candidate {
    const struct lc_kernel *kernel;
    struct lc_chain chain;
    bool is_meant;    // the kernel was compiled for this very place of the model
    bool is_embedded; // and the library has its weights, if the model's are still those
};

// Finds the best chain whose first core is at `place` of the plan, and which becomes one node when
// it is replaced: what was meant for the place, then the most layers, then the most nodes, then the
// first kernel of the table. Only kernels of `algorithm`, unless that is NULL. The cores of what is
// found name their float16 constants themselves from then on. False if there is none.
bool lc_candidate_find(struct lc_candidate *best, const struct lc_graph *graph, int place,
                       const char *algorithm);
