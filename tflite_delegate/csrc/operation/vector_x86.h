// SPDX-License-Identifier: Apache-2.0
//
// Part of vector.h: the instructions of AVX-512 or AVX2.

#include <immintrin.h>

#if LC_WIDE
typedef __m512 lc_register;
#define LC_X86(name) _mm512_##name
#else
typedef __m256 lc_register;
#define LC_X86(name) _mm256_##name
#endif

LC_INLINE lc_vector lc_splat(float x) { return (lc_vector)LC_X86(set1_ps)(x); }

LC_INLINE lc_vector lc_larger(lc_vector a, lc_vector b) {
    return (lc_vector)LC_X86(max_ps)((lc_register)a, (lc_register)b);
}

LC_INLINE lc_vector lc_smaller(lc_vector a, lc_vector b) {
    return (lc_vector)LC_X86(min_ps)((lc_register)a, (lc_register)b);
}

LC_INLINE lc_vector lc_larger_number(lc_vector a, lc_vector b) { return lc_larger(a, b); }

LC_INLINE lc_vector lc_sqrt(lc_vector x) { return (lc_vector)LC_X86(sqrt_ps)((lc_register)x); }

#if LC_WIDE

LC_INLINE lc_vector lc_load_some(const float *x, int32_t count, float filler) {
    __mmask16 mask = (__mmask16)((1u << count) - 1);
    return (lc_vector)_mm512_mask_loadu_ps(_mm512_set1_ps(filler), mask, x);
}

LC_INLINE void lc_store_some(float *y, lc_vector v, int32_t count) {
    _mm512_mask_storeu_ps(y, (__mmask16)((1u << count) - 1), (__m512)v);
}

#else

LC_INLINE lc_vector lc_load_some(const float *x, int32_t count, float filler) {
    lc_mask mask = lc_first(count);
    return lc_select(mask, (lc_vector)_mm256_maskload_ps(x, (__m256i)mask), lc_splat(filler));
}

// Masked stores take AMD's processors dozens of operations.
LC_INLINE void lc_store_some(float *y, lc_vector v, int32_t count) {
    __m128 part = _mm256_castps256_ps128((__m256)v);
    if (count & 4) {
        _mm_storeu_ps(y, part);
        part = _mm256_extractf128_ps((__m256)v, 1);
        y += 4;
    }
    if (count & 2) {
        _mm_storel_pi((__m64 *)y, part);
        part = _mm_movehl_ps(part, part);
        y += 2;
    }
    if (count & 1) {
        _mm_store_ss(y, part);
    }
}

#endif
