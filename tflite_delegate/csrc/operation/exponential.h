// SPDX-License-Identifier: Apache-2.0
//
// e^x, the logistic function and the hyperbolic tangent, without branches or calls.

#pragma once

#include "operation/vector.h"

// e^x = 2^n (1 + r p), where r = x - n ln 2 and |r| <= ln 2 / 2.
struct lc_power {
    lc_vector n, r, p;
};

// For |x| <= 2^20; n is an integer. p is the polynomial of degree 4 with the least relative error
// of e^r: 9.5e-8.
LC_INLINE struct lc_power lc_power_of(lc_vector x) {
    const float shift = 0x1.8p23f; // adding it rounds to an integer
    struct lc_power power = {.n = (x * 0x1.715476p0f + shift) - shift};
    // ln 2 in two parts; n times the first is exact.
    lc_vector r = x - power.n * 0x1.62e4p-1f;
    power.r = r - power.n * 1.42860682e-6f;
    lc_vector p = 8.290229365e-3f * power.r + 4.189838842e-2f;
    p = p * power.r + 1.666764021e-1f;
    p = p * power.r + 4.999914467e-1f;
    power.p = p * power.r + 9.999997020e-1f;
    return power;
}

// 2^n for integers from -126 to 127. Adding 1.5 2^23 leaves them in the low bits; 127 is what the
// exponent of 2^0 is stored as.
LC_INLINE lc_vector lc_exponent(lc_vector n) {
    return (lc_vector)((lc_mask)(n + (0x1.8p23f + 127.0f)) << 23);
}

// e^x for x in [-87, 88], and the value at the nearer end outside. Relative error below 2^-22.
LC_INLINE lc_vector lc_exp(lc_vector x) {
    struct lc_power power = lc_power_of(lc_clamp(x, lc_splat(-87.0f), lc_splat(88.0f)));
    lc_vector scale = lc_exponent(power.n);
    return (power.r * scale) * power.p + scale;
}

// e^x, infinite and subnormal where it is. Scaled in two steps, each of them a float.
LC_INLINE lc_vector lc_exp_full(lc_vector x) {
    struct lc_power power = lc_power_of(lc_clamp(x, lc_splat(-104.0f), lc_splat(89.0f)));
    const float shift = 0x1.8p23f;
    lc_vector half = (power.n * 0.5f + shift) - shift;
    lc_vector scale = lc_exponent(half);
    return ((power.r * scale) * power.p + scale) * lc_exponent(power.n - half);
}

// tanh |x| = m / (m + 2), where m = e^(2 |x|) - 1 loses nothing where it is small. Relative error
// below 2^-20. It rounds to 1 from 9.02 on.
LC_INLINE lc_vector lc_tanh(lc_vector x) {
    struct lc_power power = lc_power_of(lc_smaller(lc_splat(20.0f), 2.0f * lc_abs(x)));
    lc_vector scale = lc_exponent(power.n);
    lc_vector m = (power.r * scale) * power.p + (scale - 1.0f);
    return lc_copy_sign(m / (m + 2.0f), x);
}

// 1 / (1 + e^-x). Relative error below 2^-21 for x >= -88; less than 2^-126 below that.
LC_INLINE lc_vector lc_logistic(lc_vector x) { return 1.0f / (1.0f + lc_exp(-x)); }
