// SPDX-License-Identifier: Apache-2.0
//
// Hybrid layers, whose float images are multiplied as int8 (schedules/kernel/hybrid): a kernel in
// plain C.

#pragma once

#include <stdint.h>

#include "host/kernel_table.h"

struct lc_constants;

// Writes what output rows [begin, end) of one image are before their activation.
void lc_hybrid_conv(const struct lc_geometry *geometry, const struct lc_constants *constants,
                    const float *x, float *y, int32_t begin, int32_t end);
