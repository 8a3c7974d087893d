// SPDX-License-Identifier: Apache-2.0
//
// Windows of float16, on targets that compute with such.

#pragma once

#include "codes/pooling.h"

struct lc_half_pooling {
    bool is_max;       // else the average, of a sum in float32
    float least, most; // of the activation
};

// Pools `count` channels of a window.
void lc_half_pool(const struct lc_half_pooling *self, const struct lc_window *window, void *y,
                  int32_t count);
