// SPDX-License-Identifier: Apache-2.0
//
// e^x and the logistic function, without branches or calls.

#ifndef LEANCONV_EXPONENTIAL_H
#define LEANCONV_EXPONENTIAL_H

#include "vector.h"

// e^x for x in [-87, 88], and the value at the nearer end outside. Relative error below 2^-22.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r p(r), where p is the polynomial of degree 4 with
// the least relative error of e^r: 9.5e-8.
LC_INLINE lc_vector lc_exp(lc_vector x) {
    x = lc_clamp(x, lc_splat(-87.0f), lc_splat(88.0f));
    // Adding 1.5 2^23 rounds to an integer and leaves it in the low bits; 127 is what the exponent
    // of 2^0 is stored as.
    const float shift = 0x1.8p23f + 127.0f;
    lc_vector shifted = x * 0x1.715476p0f + shift;
    lc_vector power = (lc_vector)((lc_mask)shifted << 23); // 2^n
    lc_vector n = shifted - shift;
    // ln 2 in two parts; n times the first is exact.
    lc_vector r = x - n * 0x1.62e4p-1f;
    r -= n * 1.42860682e-6f;
    lc_vector p = 8.290229365e-3f * r + 4.189838842e-2f;
    p = p * r + 1.666764021e-1f;
    p = p * r + 4.999914467e-1f;
    p = p * r + 9.999997020e-1f;
    return (r * power) * p + power;
}

// 1 / (1 + e^-x). Relative error below 2^-21 for x >= -88; less than 2^-126 below that.
LC_INLINE lc_vector lc_logistic(lc_vector x) { return 1.0f / (1.0f + lc_exp(-x)); }

#endif // LEANCONV_EXPONENTIAL_H
