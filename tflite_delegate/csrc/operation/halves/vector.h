// SPDX-License-Identifier: Apache-2.0
//
// Vectors of float16, of as many lanes as vector.h has of float32, for targets that compute with
// them. Those functions that have namesakes there do as these do.

#pragma once

#include "operation/exponential.h"
#include "operation/vector.h"

#if LC_HALVES

// For functions with such vectors: only code that runs after the delegate has checked the processor
// may use them.
#define LC_HALF_VECTOR __attribute__((target("arch=armv8.2-a+fp16")))
#define LC_HALF_INLINE LC_HALF_VECTOR static inline __attribute__((always_inline))

typedef _Float16 lc_half;
typedef lc_half lc_halves __attribute__((vector_size(LC_LANES * sizeof(lc_half))));
typedef int16_t lc_half_mask __attribute__((vector_size(LC_LANES * sizeof(lc_half))));

LC_HALF_INLINE lc_halves lc_half_splat(float x) { return (lc_half)x - (lc_halves){0}; }

LC_HALF_INLINE lc_halves lc_half_load(const lc_half *x) {
    lc_halves v;
    memcpy(&v, x, sizeof v);
    return v;
}

LC_HALF_INLINE void lc_half_store(lc_half *y, lc_halves v) { memcpy(y, &v, sizeof v); }

LC_HALF_INLINE lc_halves lc_half_load_some(const lc_half *x, int32_t count, float filler) {
    lc_halves v = lc_half_splat(filler);
    lc_copy_bytes(&v, x, (size_t)count * sizeof *x);
    return v;
}

LC_HALF_INLINE void lc_half_store_some(lc_half *y, lc_halves v, int32_t count) {
    lc_copy_bytes(y, &v, (size_t)count * sizeof *y);
}

// Of these instructions, compilers have intrinsics only for code that is all for such processors.
#define LC_HALF_BINARY(name, instruction)                                                          \
    LC_HALF_INLINE lc_halves name(lc_halves a, lc_halves b) {                                      \
        lc_halves y;                                                                               \
        __asm__(instruction " %0.8h, %1.8h, %2.8h" : "=w"(y) : "w"(a), "w"(b));                    \
        return y;                                                                                  \
    }

LC_HALF_BINARY(lc_half_larger, "fmax")
LC_HALF_BINARY(lc_half_smaller, "fmin")
LC_HALF_BINARY(lc_half_larger_number, "fmaxnm")

LC_HALF_INLINE lc_halves lc_half_sqrt(lc_halves x) {
    lc_halves y;
    __asm__("fsqrt %0.8h, %1.8h" : "=w"(y) : "w"(x));
    return y;
}

LC_HALF_INLINE lc_halves lc_half_clamp(lc_halves x, lc_halves least, lc_halves most) {
    return lc_half_smaller(most, lc_half_larger(least, x));
}

LC_HALF_INLINE lc_halves lc_half_select(lc_half_mask mask, lc_halves yes, lc_halves no) {
    return (lc_halves)((mask & (lc_half_mask)yes) | (~mask & (lc_half_mask)no));
}

LC_HALF_INLINE lc_halves lc_half_abs(lc_halves x) { return (lc_halves)((lc_half_mask)x & 0x7fff); }

LC_HALF_INLINE lc_vector lc_widened(lc_halves x) { return __builtin_convertvector(x, lc_vector); }

// Rounds to the nearest, ties to even.
LC_HALF_INLINE lc_halves lc_narrowed(lc_vector x) { return __builtin_convertvector(x, lc_halves); }

// Computed in float32, and rounded.
LC_HALF_INLINE lc_halves lc_half_logistic(lc_halves x) {
    return lc_narrowed(lc_logistic(lc_widened(x)));
}

LC_HALF_INLINE lc_halves lc_half_tanh(lc_halves x) { return lc_narrowed(lc_tanh(lc_widened(x))); }

LC_HALF_INLINE lc_halves lc_half_exp_full(lc_halves x) {
    return lc_narrowed(lc_exp_full(lc_widened(x)));
}

#endif
