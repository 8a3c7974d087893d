// SPDX-License-Identifier: Apache-2.0
//
// Sums of two tensors of integers, as XNNPACK computes them; schedules/kernel/quantised/sums.py.

#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

// (a factors[0] + b factors[1] + half - zeros) >> shift steps of the sum, whose ties go up.
struct lc_code_sum {
    int32_t factors[2], shift;
};

enum { LC_SUM_BITS = 20 }; // of the larger factor, but for its highest

// Of operands with these scales. False if XNNPACK computes no such sum.
static inline bool lc_code_sum_of(struct lc_code_sum *sum, float a, float b, float output) {
    const float ratios[2] = {a / output, b / output}, larger = fmaxf(ratios[0], ratios[1]);
    if (!(fminf(ratios[0], ratios[1]) >= 0x1p-10f && larger < 0x1p8f)) {
        return false;
    }
    sum->shift = LC_SUM_BITS - ilogbf(larger);
    for (int i = 0; i < 2; i++) {
        sum->factors[i] = (int32_t)lrint(ldexp((double)ratios[i], sum->shift));
    }
    return true;
}

// Half a step, less what the operands' zero points add.
static inline int32_t lc_sum_offset(const struct lc_code_sum *sum, int32_t a_zero, int32_t b_zero) {
    const int32_t zeros = a_zero * sum->factors[0] + b_zero * sum->factors[1];
    return ((1 << sum->shift) >> 1) - zeros;
}
