// SPDX-License-Identifier: Apache-2.0
//
// Pooling what a layer has just computed.

#pragma once

#include "host/kernel_table.h"

struct lc_pooled {
    const struct lc_geometry *geometry; // of a layer that is pooled
    const void *x;                      // rows of what it computes, from row `first` on
    int32_t first;
    void *y; // the whole output of the pool
    int32_t threads;
};

// Computes rows [begin, end) of the pool's output.
void lc_pool_rows(const struct lc_pooled *pooled, int32_t begin, int32_t end);
