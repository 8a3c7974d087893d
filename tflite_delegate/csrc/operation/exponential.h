// SPDX-License-Identifier: Apache-2.0
//
// e^x, the logistic function and the hyperbolic tangent, without branches or calls.
//
// Errors are the largest found among all floats, in ulp: units in the last place of the result.

#pragma once

#include "operation/vector.h"

// e^x = 2^n t (1 + r p)
struct lc_power {
    lc_vector n, t, r, p;
};

#if LC_WIDE

// n is a multiple of 1/32, and t is 2 to what it is more than an integer; |r| <= ln 2 / 64. p is
// the polynomial of degree 1 with the least relative error of e^r: 5.3e-8.
LC_INLINE struct lc_power lc_power_of(lc_vector x) {
    static const float table[32] __attribute__((aligned(64))) = {
        1.0f,           0x1.059b0ep+0f, 0x1.0b5586p+0f, 0x1.11301ep+0f, 0x1.172b84p+0f,
        0x1.1d4874p+0f, 0x1.2387a6p+0f, 0x1.29e9ep+0f,  0x1.306fep+0f,  0x1.371a74p+0f,
        0x1.3dea64p+0f, 0x1.44e086p+0f, 0x1.4bfdaep+0f, 0x1.5342b6p+0f, 0x1.5ab07ep+0f,
        0x1.6247ecp+0f, 0x1.6a09e6p+0f, 0x1.71f75ep+0f, 0x1.7a1148p+0f, 0x1.82589ap+0f,
        0x1.8ace54p+0f, 0x1.93737cp+0f, 0x1.9c4918p+0f, 0x1.a5503cp+0f, 0x1.ae89fap+0f,
        0x1.b7f77p+0f,  0x1.c199bep+0f, 0x1.cb720ep+0f, 0x1.d5818ep+0f, 0x1.dfc974p+0f,
        0x1.ea4afap+0f, 0x1.f50766p+0f,
    };
    const float shift = 0x1.8p18f; // adding it rounds to a multiple of 1/32
    lc_vector sum = x * 0x1.715476p0f + shift;
    struct lc_power power = {.n = sum - shift};
    power.t = (lc_vector)_mm512_permutex2var_ps(_mm512_load_ps(table), (__m512i)sum,
                                                _mm512_load_ps(table + LC_LANES));
    power.r = x - power.n * 0x1.62e43p-1f;
    power.r = power.r + power.n * 1.904654240e-9f;
    power.p = 5.000010680e-01f * power.r + 1.000014657e+00f;
    return power;
}

LC_INLINE lc_vector lc_mantissa(struct lc_power power) {
    return (power.r * power.p) * power.t + power.t;
}

// v 2^floor(n)
LC_INLINE lc_vector lc_scale(lc_vector v, lc_vector n) {
    return (lc_vector)_mm512_scalef_ps((__m512)v, (__m512)n);
}

#else

// n is an integer, t is 1 and |r| <= ln 2 / 2. p is the polynomial of degree 4 with the least
// relative error of e^r: 9.5e-8.
LC_INLINE struct lc_power lc_power_of(lc_vector x) {
    const float shift = 0x1.8p23f; // adding it rounds to an integer
    struct lc_power power = {.n = (x * 0x1.715476p0f + shift) - shift, .t = lc_splat(1.0f)};
    power.r = x - power.n * 0x1.62e43p-1f;
    power.r = power.r + power.n * 1.904654240e-9f;
    lc_vector p = 8.290229365e-3f * power.r + 4.189838842e-2f;
    p = p * power.r + 1.666764021e-1f;
    p = p * power.r + 4.999914467e-1f;
    power.p = p * power.r + 9.999997020e-1f;
    return power;
}

LC_INLINE lc_vector lc_mantissa(struct lc_power power) { return power.r * power.p + 1.0f; }

// v 2^n, exact where it is a normal number; n is an integer from -126 to 127.
LC_INLINE lc_vector lc_scale(lc_vector v, lc_vector n) {
    // Adding 1.5 2^23 leaves n in the low bits; 127 is what the exponent of 2^0 is stored as.
    return v * (lc_vector)((lc_mask)(n + (0x1.8p23f + 127.0f)) << 23);
}

#endif

// e^x for x in [-87, 88], and the value at the nearer end outside. At most 2 ulp: the error of the
// polynomial is up to .9 ulp (1.6 without a table), and t and the sum are rounded, .5 ulp each.
LC_INLINE lc_vector lc_exp(lc_vector x) {
    struct lc_power power = lc_power_of(lc_clamp(x, lc_splat(-87.0f), lc_splat(88.0f)));
    return lc_scale(lc_mantissa(power), power.n);
}

// e^x, infinite and subnormal where it is; at most 2 ulp. Scaled in two steps, each of them a
// float.
LC_INLINE lc_vector lc_exp_full(lc_vector x) {
    struct lc_power power = lc_power_of(lc_clamp(x, lc_splat(-104.0f), lc_splat(89.0f)));
    const float shift = 0x1.8p23f;
    lc_vector half = (power.n * 0.5f + shift) - shift;
    return lc_scale(lc_scale(lc_mantissa(power), half), power.n - half);
}

// x p(x^2) / q(x^2), with the polynomials of degree 3 and 4 of the least relative error, 1.2e-7 or
// 2 ulp, for |x| up to 7.8. From there on it is tanh 7.8: at most 6.5 ulp in all.
LC_INLINE lc_vector lc_tanh(lc_vector x) {
    lc_vector a = lc_smaller(lc_splat(7.8f), lc_abs(x)), square = a * a;
    lc_vector p = 1.163540953e-05f * square + 2.969860964e-03f;
    p = p * square + 1.294308996e-01f;
    p = p * square + 9.999998827e-01f;
    lc_vector q = 2.526135938e-07f * square + 2.413506086e-04f;
    q = q * square + 2.389228341e-02f;
    q = q * square + 4.627632689e-01f;
    q = q * square + 1.0f;
    return lc_copy_sign((a * p) / q, x);
}

// 1 / (1 + e^-x). At most 4 ulp for x >= -87: 2 of e^-x, and a sum and a quotient are rounded. Less
// than 2^-125 below that.
LC_INLINE lc_vector lc_logistic(lc_vector x) { return 1.0f / (1.0f + lc_exp(-x)); }
