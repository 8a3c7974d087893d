// SPDX-License-Identifier: Apache-2.0
//
// Rules by which sums of integers become elements again, as schedules/layer/rounding.py names them:
// what kernels read of a ratio, and what the kernel in plain C does with it.

#pragma once

#include <stdint.h>

#include "host/kernel_table.h"
#include "kernels/quantised/fixed_point.h"
#include "kernels/quantised/quantised.h"

// A ratio in the form of a rule.
union lc_ratio {
    float single;                // LC_XNN_FP32
    double real;                 // LC_REAL64
    struct lc_multiplier scaled; // all others; of LC_XNN_RNDNU16, a mantissa of 15 bits
};

// The rule of a layer of a kind; `images` are computed in one invocation. LC_NO_RULE of floats.
int32_t lc_rule_of(enum lc_kind kind, const struct lc_geometry *geometry, int32_t images);

// Output channel `m` of a layer.
union lc_ratio lc_ratio_of(int32_t rule, const struct lc_quantised_layer *layer, size_t m);

// Steps of the output for a sum of output channel `m` of `channels`, without the zero point.
int64_t lc_rounded(int32_t rule, int32_t sum, union lc_ratio ratio, size_t m, size_t channels);
