// SPDX-License-Identifier: Apache-2.0
//
// How the inner loops of operators are written: over blocks of a constant number of elements, in
// local arrays that a compiler keeps in vector registers. All of a block is read before any of it
// is written, so that an operator may write over what it reads.

#ifndef LEANCONV_LANES_H
#define LEANCONV_LANES_H

enum { LC_LANES = 32 };

// For functions with such loops. Every x86 target has these features (see schedules/simd.py), but
// only code that runs after the delegate has checked the processor may use them.
#if defined(__x86_64__)
#define LC_VECTOR __attribute__((target("avx2,fma")))
#else
#define LC_VECTOR
#endif

// For what such functions are made of: compiled anew for the constants of each caller.
#define LC_INLINE static inline __attribute__((always_inline))

LC_INLINE float lc_larger(float a, float b) { return a > b ? a : b; }
LC_INLINE float lc_smaller(float a, float b) { return a < b ? a : b; }

// A NaN stays one.
LC_INLINE float lc_clamp(float x, float least, float most) {
    return lc_smaller(most, lc_larger(least, x));
}

#endif // LEANCONV_LANES_H
