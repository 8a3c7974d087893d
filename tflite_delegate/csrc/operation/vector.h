// SPDX-License-Identifier: Apache-2.0
//
// Vectors of floats for the inner loops of operators, in the C extension that gcc and clang share.

#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__x86_64__)
#include <immintrin.h>
#endif

enum { LC_LANES = 8 };

typedef float lc_vector __attribute__((vector_size(LC_LANES * sizeof(float))));
typedef int32_t lc_mask __attribute__((vector_size(LC_LANES * sizeof(float)))); // all bits or none

// As many bytes.
typedef uint8_t lc_bytes __attribute__((vector_size(LC_LANES)));
typedef int8_t lc_signed_bytes __attribute__((vector_size(LC_LANES)));

// For functions with such loops. Every x86 target has these features (see
// schedules/target/simd.py), but only code that runs after the delegate has checked the processor
// may use them.
#if defined(__x86_64__)
#define LC_VECTOR __attribute__((target("avx2,fma")))
#else
#define LC_VECTOR
#endif

// For what such functions are made of: compiled anew for the constants of each caller.
#define LC_INLINE LC_VECTOR static inline __attribute__((always_inline))

// Before loops that compilers would unroll, as if there were no vectors in them already.
#if defined(__clang__)
#define LC_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define LC_ROLLED _Pragma("GCC unroll 1")
#endif

LC_INLINE lc_vector lc_splat(float x) { return (lc_vector){x, x, x, x, x, x, x, x}; }

LC_INLINE lc_vector lc_load(const float *x) {
    lc_vector v;
    memcpy(&v, x, sizeof v);
    return v;
}

LC_INLINE void lc_store(float *y, lc_vector v) { memcpy(y, &v, sizeof v); }

// Copies fewer elements than a vector's without a call.
LC_INLINE void lc_copy_some(float *y, const float *x, int32_t count) {
    for (int32_t size = LC_LANES / 2; size > 0; size /= 2) {
        if (count & size) {
            memcpy(y, x, (size_t)size * sizeof *x);
            x += size;
            y += size;
        }
    }
}

// Copies fewer than 32 bytes without a call.
LC_INLINE void lc_copy_bytes(void *y, const void *x, size_t count) {
    char *to = y;
    const char *from = x;
    for (size_t size = 16; size > 0; size /= 2) {
        if (count & size) {
            memcpy(to, from, size);
            from += size;
            to += size;
        }
    }
}

// The first `count` elements, fewer than a vector's; the others are `filler`.
LC_INLINE lc_vector lc_load_some(const float *x, int32_t count, float filler) {
    lc_vector v = lc_splat(filler);
    lc_copy_some((float *)&v, x, count);
    return v;
}

LC_INLINE void lc_store_some(float *y, lc_vector v, int32_t count) {
    lc_copy_some(y, (const float *)&v, count);
}

LC_INLINE lc_vector lc_select(lc_mask mask, lc_vector yes, lc_vector no) {
    return (lc_vector)((mask & (lc_mask)yes) | (~mask & (lc_mask)no));
}

// One instruction for each register. If b is NaN, so is the result; lc_larger_number, whose b must
// be none, passes over an a that is.
#if defined(__aarch64__)
#define LC_HALVES(function, a, b)                                                                  \
    float32x4_t halves[2][2];                                                                      \
    memcpy(halves[0], &(a), sizeof(a));                                                            \
    memcpy(halves[1], &(b), sizeof(b));                                                            \
    halves[0][0] = function(halves[0][0], halves[1][0]);                                           \
    halves[0][1] = function(halves[0][1], halves[1][1]);                                           \
    memcpy(&(a), halves[0], sizeof(a));                                                            \
    return a
// c + a b, rounded once.
LC_INLINE lc_vector lc_fused(lc_vector a, lc_vector b, lc_vector c) {
    float32x4_t halves[3][2];
    memcpy(halves[0], &a, sizeof a);
    memcpy(halves[1], &b, sizeof b);
    memcpy(halves[2], &c, sizeof c);
    halves[0][0] = vfmaq_f32(halves[2][0], halves[0][0], halves[1][0]);
    halves[0][1] = vfmaq_f32(halves[2][1], halves[0][1], halves[1][1]);
    memcpy(&a, halves[0], sizeof a);
    return a;
}
LC_INLINE lc_vector lc_larger(lc_vector a, lc_vector b) { LC_HALVES(vmaxq_f32, a, b); }
LC_INLINE lc_vector lc_smaller(lc_vector a, lc_vector b) { LC_HALVES(vminq_f32, a, b); }
LC_INLINE lc_vector lc_larger_number(lc_vector a, lc_vector b) { LC_HALVES(vmaxnmq_f32, a, b); }
#else
LC_INLINE lc_vector lc_larger(lc_vector a, lc_vector b) { return lc_select(a > b, a, b); }
LC_INLINE lc_vector lc_smaller(lc_vector a, lc_vector b) { return lc_select(a < b, a, b); }
LC_INLINE lc_vector lc_larger_number(lc_vector a, lc_vector b) { return lc_select(a > b, a, b); }
#endif

// A NaN stays one.
LC_INLINE lc_vector lc_clamp(lc_vector x, lc_vector least, lc_vector most) {
    return lc_smaller(most, lc_larger(least, x));
}

// Both clear or keep the sign bit, of a NaN as well.
LC_INLINE lc_vector lc_abs(lc_vector x) { return (lc_vector)((lc_mask)x & 0x7fffffff); }

LC_INLINE lc_vector lc_copy_sign(lc_vector magnitude, lc_vector sign) {
    return (lc_vector)((lc_mask)magnitude | ((lc_mask)sign & ~0x7fffffff));
}

// A value that is rounded before anything is added to it, whatever compilers would contract.
#if defined(__aarch64__)
#define LC_APART(v) __asm__("" : "+w"(v))
#else
#define LC_APART(v) __asm__("" : "+x"(v))
#endif

// Element by element; compilers know the vector instruction.
LC_INLINE lc_vector lc_sqrt(lc_vector x) {
#if defined(__aarch64__)
    float32x4_t halves[2];
    memcpy(halves, &x, sizeof x);
    halves[0] = vsqrtq_f32(halves[0]);
    halves[1] = vsqrtq_f32(halves[1]);
    memcpy(&x, halves, sizeof x);
    return x;
#else
    return (lc_vector)_mm256_sqrt_ps((__m256)x);
#endif
}

LC_INLINE float lc_sum(lc_vector v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

LC_INLINE float lc_largest(lc_vector v) {
    for (int half = LC_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
        }
    }
    return v[0];
}
