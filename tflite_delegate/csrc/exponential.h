// SPDX-License-Identifier: Apache-2.0
//
// e^x and the logistic function, without branches or calls.

#ifndef LEANCONV_EXPONENTIAL_H
#define LEANCONV_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

#include "lanes.h"

// e^x for x in [-87, 88], and the value at the nearer end outside. Relative error below 2^-22.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r), where q is the polynomial of degree
// 4 whose largest relative error is least: 3.1e-9.
LC_INLINE float lc_exp(float x) {
    x = lc_clamp(x, -87.0f, 88.0f);
    // Adding 1.5 2^23 rounds to an integer and leaves it in the low bits.
    const float shift = 0x1.8p23f;
    float shifted = x * 0x1.715476p0f + shift;
    float n = shifted - shift;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    float power; // 2^n
    memcpy(&power, &bits, sizeof power);
    // ln 2 in two parts; n times the first is exact.
    float r = x - n * 0x1.62e4p-1f;
    r -= n * 1.42860677e-6f;
    float q = 1.381454012e-3f;
    q = q * r + 8.368745149e-3f;
    q = q * r + 4.166839079e-2f;
    q = q * r + 1.666652040e-1f;
    q = q * r + 4.999999343e-1f;
    return (q * (r * r) + r + 1.0f) * power;
}

// 1 / (1 + e^-x). Relative error below 2^-21 for x >= -88; less than 2^-126 below that.
LC_INLINE float lc_logistic(float x) { return 1.0f / (1.0f + lc_exp(-x)); }

#endif // LEANCONV_EXPONENTIAL_H
