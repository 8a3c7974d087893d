// SPDX-License-Identifier: Apache-2.0
//
// Integers times real numbers, as TFLite's kernels compute them: with multipliers of 31 bits.

#pragma once

#include <math.h>
#include <stdint.h>

// mantissa 2^(shift - 31)
struct lc_multiplier {
    int32_t mantissa, shift;
};

static inline struct lc_multiplier lc_multiplier_of(double real) {
    int shift;
    if (fabs(real) >= 0x1p30) { // more is no use for products of 32 bits
        return (struct lc_multiplier){INT32_MAX, 30};
    }
    int64_t mantissa = (int64_t)round(fabs(frexp(real, &shift)) * 0x1p31);
    if (mantissa == INT64_C(1) << 31) {
        mantissa /= 2;
        shift++;
    }
    return shift < -31 ? (struct lc_multiplier){0, 0}
                       : (struct lc_multiplier){(int32_t)mantissa, shift};
}

// The upper half of twice the product, rounded; ties go up.
static inline int32_t lc_high_product(int32_t a, int32_t b) {
    int64_t product = ((int64_t)a * b + (INT64_C(1) << 30)) >> 31;
    return (int32_t)(product > INT32_MAX ? INT32_MAX : product);
}

// v / 2^n for n up to 31, rounded; ties go up, or away from zero.
static inline int32_t lc_shift_up(int32_t v, int32_t n) {
    return n > 0 ? (int32_t)(((int64_t)v + (INT64_C(1) << (n - 1))) >> n) : v;
}

static inline int32_t lc_shift_away(int32_t v, int32_t n) {
    return n > 0 ? (int32_t)(((int64_t)v + (INT64_C(1) << (n - 1)) - (v < 0)) >> n) : v;
}

// What is beyond 32 bits is lost.
static inline int32_t lc_shift_left(int32_t v, int32_t n) {
    return n < 32 ? (int32_t)((uint32_t)v << n) : 0;
}

// v times the multiplier, rounded twice: ties go up, and then away from zero or up again.
static inline int32_t lc_scale_away(int32_t v, struct lc_multiplier by) {
    int32_t left = lc_shift_left(v, by.shift > 0 ? by.shift : 0);
    return lc_shift_away(lc_high_product(left, by.mantissa), by.shift < 0 ? -by.shift : 0);
}

static inline int32_t lc_scale_up(int32_t v, struct lc_multiplier by) {
    int32_t left = lc_shift_left(v, by.shift > 0 ? by.shift : 0);
    return lc_shift_up(lc_high_product(left, by.mantissa), by.shift < 0 ? -by.shift : 0);
}

// v times the multiplier, rounded once, ties up; multipliers of a half and more lose what is beyond
// 32 bits of v.
static inline int32_t lc_scale_once(int32_t v, struct lc_multiplier by) {
    int32_t right = by.shift < -1 ? by.shift : -1;
    int64_t product = (int64_t)lc_shift_left(v, by.shift - right) * by.mantissa;
    return lc_shift_up((int32_t)(product >> 31), -right);
}
