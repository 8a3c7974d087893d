// SPDX-License-Identifier: Apache-2.0
//
// Vectors of codes as integers of 32 bits.

#pragma once

#include "operation/vector.h"

enum { LC_LANES16 = 16 };

typedef int32_t lc_integers16 __attribute__((vector_size(LC_LANES16 * sizeof(int32_t))));
typedef float lc_floats16 __attribute__((vector_size(LC_LANES16 * sizeof(float))));
typedef uint8_t lc_bytes16 __attribute__((vector_size(LC_LANES16)));
typedef int8_t lc_signed_bytes16 __attribute__((vector_size(LC_LANES16)));

LC_INLINE lc_integers16 lc_splat16(int32_t v) { return v - (lc_integers16){0}; }

// Some codes, all lanes if there are so many.
LC_INLINE lc_integers16 lc_load16(bool is_signed, const uint8_t *x, int32_t some) {
    lc_bytes16 v = {0};
    if (some >= LC_LANES16) {
        memcpy(&v, x, sizeof v);
    } else {
        lc_copy_bytes(&v, x, (size_t)some);
    }
    return is_signed ? __builtin_convertvector((lc_signed_bytes16)v, lc_integers16)
                     : __builtin_convertvector(v, lc_integers16);
}

// Sums of up to LC_MOST_SUMMED codes each.
enum { LC_LANES32 = 32, LC_MOST_SUMMED = 128 };
typedef int16_t lc_sums32 __attribute__((vector_size(LC_LANES32 * sizeof(int16_t))));
typedef uint8_t lc_bytes32 __attribute__((vector_size(LC_LANES32)));
typedef int8_t lc_signed_bytes32 __attribute__((vector_size(LC_LANES32)));

LC_INLINE lc_sums32 lc_load32(bool is_signed, const uint8_t *x) {
    lc_bytes32 v;
    memcpy(&v, x, sizeof v);
    return is_signed ? __builtin_convertvector((lc_signed_bytes32)v, lc_sums32)
                     : __builtin_convertvector(v, lc_sums32);
}

// Adds both halves, and begins anew.
LC_INLINE void lc_flush32(lc_sums32 *sums, lc_integers16 totals[2]) {
    typedef int16_t half __attribute__((vector_size(LC_LANES16 * sizeof(int16_t))));
    half halves[2];
    memcpy(halves, sums, sizeof halves);
    totals[0] += __builtin_convertvector(halves[0], lc_integers16);
    totals[1] += __builtin_convertvector(halves[1], lc_integers16);
    *sums = (lc_sums32){0};
}

// Integers that are codes.
LC_INLINE void lc_store16(uint8_t *y, lc_integers16 v, int32_t some) {
    lc_bytes16 codes = __builtin_convertvector(v, lc_bytes16);
    if (some >= LC_LANES16) {
        memcpy(y, &codes, sizeof codes);
    } else {
        lc_copy_bytes(y, &codes, (size_t)some);
    }
}

LC_INLINE lc_integers16 lc_select16(lc_integers16 mask, lc_integers16 yes, lc_integers16 no) {
    return (mask & yes) | (~mask & no);
}

LC_INLINE lc_integers16 lc_clamp16(lc_integers16 v, int32_t least, int32_t most) {
    v = lc_select16(v < most, v, lc_splat16(most));
    return lc_select16(v > least, v, lc_splat16(least));
}

// The nearest integers, the even ones of two, and those within 2^22 of zero for what is beyond.
LC_INLINE lc_integers16 lc_nearest16(lc_floats16 v) {
    const float shift = 0x1.8p23f, end = 0x1p22f - 1.0f;
    const lc_floats16 most = end - (lc_floats16){0}, least = -most;
    v = (lc_floats16)lc_select16(v < most, (lc_integers16)v, (lc_integers16)most);
    v = (lc_floats16)lc_select16(v > least, (lc_integers16)v, (lc_integers16)least);
    return (lc_integers16)(v + shift) - 0x4b400000;
}
