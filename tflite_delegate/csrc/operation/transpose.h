// SPDX-License-Identifier: Apache-2.0
//
// Small matrices, transposed in registers.

#pragma once

#include "operation/vector.h"

enum { LC_FOUR = 4, LC_EIGHT = 8 };

#if defined(__aarch64__)

LC_INLINE float32x4_t lc_load_four(const float *x, int32_t count) {
    return count == LC_FOUR ? vld1q_f32(x) : lc_load_few(x, count, vdupq_n_f32(0.0f));
}

// Four columns.
LC_INLINE void lc_transpose_registers(float32x4_t v[LC_FOUR]) {
    float32x4_t even[2] = {vtrn1q_f32(v[0], v[1]), vtrn1q_f32(v[2], v[3])};
    float32x4_t odd[2] = {vtrn2q_f32(v[0], v[1]), vtrn2q_f32(v[2], v[3])};
#define LC_PAIRS(function, pair)                                                                   \
    vreinterpretq_f32_f64(function(vreinterpretq_f64_f32(pair[0]), vreinterpretq_f64_f32(pair[1])))
    v[0] = LC_PAIRS(vtrn1q_f64, even);
    v[1] = LC_PAIRS(vtrn1q_f64, odd);
    v[2] = LC_PAIRS(vtrn2q_f64, even);
    v[3] = LC_PAIRS(vtrn2q_f64, odd);
#undef LC_PAIRS
}

#else

LC_INLINE __m128 lc_load_four(const float *x, int32_t count) {
    const __m128i lanes = _mm_setr_epi32(0, 1, 2, 3);
    return count == LC_FOUR ? _mm_loadu_ps(x)
                            : _mm_maskload_ps(x, _mm_cmpgt_epi32(_mm_set1_epi32(count), lanes));
}

// Four columns in the lower halves, and four in the upper ones.
LC_INLINE void lc_transpose_registers(__m256 v[LC_FOUR]) {
    __m256 low[2] = {_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpacklo_ps(v[2], v[3])};
    __m256 high[2] = {_mm256_unpackhi_ps(v[0], v[1]), _mm256_unpackhi_ps(v[2], v[3])};
    v[0] = _mm256_shuffle_ps(low[0], low[1], 0x44);
    v[1] = _mm256_shuffle_ps(low[0], low[1], 0xee);
    v[2] = _mm256_shuffle_ps(high[0], high[1], 0x44);
    v[3] = _mm256_shuffle_ps(high[0], high[1], 0xee);
}

LC_INLINE void lc_store_eight(float *y, __m256 v, int32_t count) {
    if (count == LC_EIGHT) {
        _mm256_storeu_ps(y, v);
        return;
    }
#if LC_WIDE
    _mm256_mask_storeu_ps(y, (__mmask8)((1u << count) - 1), v);
#else
    lc_store_some(y, (lc_vector)v, count);
#endif
}

#endif

// y[i][j] = x[j][i] for up to four i and up to eight j: i are neighbours in x, j in y.
LC_INLINE void lc_transpose(const float *x, ptrdiff_t x_step, int32_t rows, float *y, size_t y_step,
                            int32_t columns) {
#if defined(__aarch64__)
    for (int32_t first = 0; first < columns;
         first += LC_FOUR, x += LC_FOUR * x_step, y += LC_FOUR) {
        const int32_t left = columns - first, count = left < LC_FOUR ? left : LC_FOUR;
        float32x4_t v[LC_FOUR];
        for (int32_t j = 0; j < LC_FOUR; j++) {
            v[j] = j < count ? lc_load_four(x + j * x_step, rows) : vdupq_n_f32(0.0f);
        }
        lc_transpose_registers(v);
        for (int32_t i = 0; i < rows; i++) {
            if (count == LC_FOUR) {
                vst1q_f32(y + (size_t)i * y_step, v[i]);
            } else {
                lc_store_few(y + (size_t)i * y_step, v[i], count);
            }
        }
    }
#else
    __m256 v[LC_FOUR];
    for (int32_t j = 0; j < LC_FOUR; j++) {
        __m128 low = j < columns ? lc_load_four(x + j * x_step, rows) : _mm_setzero_ps();
        __m128 high = j + LC_FOUR < columns ? lc_load_four(x + (j + LC_FOUR) * x_step, rows)
                                            : _mm_setzero_ps();
        v[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
    }
    lc_transpose_registers(v);
    for (int32_t i = 0; i < LC_FOUR; i++) {
        if (i < rows) {
            lc_store_eight(y + (size_t)i * y_step, v[i], columns);
        }
    }
#endif
}
