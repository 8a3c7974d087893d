// SPDX-License-Identifier: Apache-2.0
//
// Vectors of floats for the inner loops of operators, in the C extension that gcc and clang share.

#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/target.h"

#if defined(__x86_64__) && LC_AVX512
#define LC_WIDE 1
#else
#define LC_WIDE 0
#endif

enum { LC_LANES = LC_WIDE ? 16 : 8 };

typedef float lc_vector __attribute__((vector_size(LC_LANES * sizeof(float))));
typedef int32_t lc_mask __attribute__((vector_size(LC_LANES * sizeof(float)))); // all bits or none

// As many bytes.
typedef uint8_t lc_bytes __attribute__((vector_size(LC_LANES)));
typedef int8_t lc_signed_bytes __attribute__((vector_size(LC_LANES)));

// For functions with such loops. Every x86 target has the features of the narrower vectors (see
// schedules/target/simd.py), but only code that runs after the delegate has checked the processor
// may use them.
#if LC_WIDE
#define LC_VECTOR __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")))
#elif defined(__x86_64__)
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

LC_INLINE lc_vector lc_load(const float *x) {
    lc_vector v;
    memcpy(&v, x, sizeof v);
    return v;
}

LC_INLINE void lc_store(float *y, lc_vector v) { memcpy(y, &v, sizeof v); }

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

enum { LC_SHORT = 512 }; // bytes that are copied without a call

// Copies `count` pieces of a constant size; returns the bytes.
LC_INLINE size_t lc_copy_pieces(char *y, const char *x, size_t count, size_t size) {
    LC_ROLLED
    for (size_t i = 0; i < count; i++) {
        char piece[128];
        memcpy(piece, x + i * size, size);
        memcpy(y + i * size, piece, size);
    }
    return count * size;
}

LC_INLINE void lc_copy(void *y, const void *x, size_t bytes) {
    if (bytes > LC_SHORT) {
        memcpy(y, x, bytes);
        return;
    }
    char *to = y;
    const char *from = x;
    size_t done = lc_copy_pieces(to, from, bytes / 128, 128);
    if (done < bytes) {
        done += lc_copy_pieces(to + done, from + done, bytes % 128 / 32, 32);
        lc_copy_bytes(to + done, from + done, bytes % 32);
    }
}

LC_INLINE lc_vector lc_select(lc_mask mask, lc_vector yes, lc_vector no) {
    return (lc_vector)((mask & (lc_mask)yes) | (~mask & (lc_mask)no));
}

// The first lanes.
LC_INLINE lc_mask lc_first(int32_t count) {
#if LC_WIDE
    const lc_mask lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
    const lc_mask lanes = {0, 1, 2, 3, 4, 5, 6, 7};
#endif
    return lanes < count;
}

// What each instruction set has an instruction for:
// - lc_splat(x): x in all lanes.
// - lc_larger, lc_smaller(a, b): if b is NaN, so is the result.
// - lc_larger_number(a, b), whose b must be no NaN, passes over an a that is.
// - lc_sqrt(x).
// - lc_load_some(x, count, filler): the first elements, fewer than a vector's, then fillers.
// - lc_store_some(y, v, count): likewise.
#if defined(__aarch64__)
#include "operation/vector_neon.h"
#else
#include "operation/vector_x86.h"
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

// Quarters of a vector, or halves: four lanes each.
enum { LC_PARTS = LC_LANES / 4 };
typedef float lc_part __attribute__((vector_size(4 * sizeof(float))));

LC_INLINE float lc_sum(lc_vector v) {
    lc_part parts[LC_PARTS];
    memcpy(parts, &v, sizeof v);
    for (int size = LC_PARTS / 2; size > 0; size /= 2) {
        for (int i = 0; i < size; i++) {
            parts[i] += parts[i + size];
        }
    }
    return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

LC_INLINE float lc_larger_of(float a, float b) { return a > b ? a : b; }

LC_INLINE float lc_largest(lc_vector v) {
    lc_part parts[LC_PARTS];
    memcpy(parts, &v, sizeof v);
    for (int size = LC_PARTS / 2; size > 0; size /= 2) {
        for (int i = 0; i < size; i++) {
            for (int j = 0; j < 4; j++) {
                parts[i][j] = lc_larger_of(parts[i][j], parts[i + size][j]);
            }
        }
    }
    return lc_larger_of(lc_larger_of(parts[0][0], parts[0][2]),
                        lc_larger_of(parts[0][1], parts[0][3]));
}
