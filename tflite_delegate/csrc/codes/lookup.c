// SPDX-License-Identifier: Apache-2.0
//
// A table of 256 bytes in registers: 16 at a time by a shuffle, 64 at a time on Arm, or 128 at a
// time by AVX-512's VBMI.

#include "codes/tables.h"
#include "operation/vector.h"

static void look_up_rest(const uint8_t table[LC_ALL_CODES], const uint8_t *x, uint8_t *y,
                         size_t count) {
    for (size_t i = 0; i < count; i++) {
        y[i] = table[x[i]];
    }
}

#if defined(__x86_64__)

#include <immintrin.h>

// Returns how many it did.
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) static size_t
look_up_128(const uint8_t table[LC_ALL_CODES], const uint8_t *x, uint8_t *y, size_t count) {
    __m512i quarters[4];
    memcpy(quarters, table, sizeof quarters);
    size_t done = 0;
    for (; done + sizeof(__m512i) <= count; done += sizeof(__m512i)) {
        const __m512i codes = _mm512_loadu_si512(x + done);
        const __m512i low = _mm512_permutex2var_epi8(quarters[0], codes, quarters[1]);
        const __m512i high = _mm512_permutex2var_epi8(quarters[2], codes, quarters[3]);
        const __mmask64 is_high = _mm512_movepi8_mask(codes);
        _mm512_storeu_si512(y + done, _mm512_mask_blend_epi8(is_high, low, high));
    }
    return done;
}

// The shuffle gives zero for codes whose highest bit is set: by an addition that saturates, those
// of another part of the table.
LC_VECTOR static size_t look_up_16(const uint8_t table[LC_ALL_CODES], const uint8_t *x, uint8_t *y,
                                   size_t count) {
    enum { PARTS = 16 };
    __m256i parts[PARTS];
    for (int i = 0; i < PARTS; i++) {
        __m128i part;
        memcpy(&part, table + i * PARTS, sizeof part);
        parts[i] = _mm256_broadcastsi128_si256(part);
    }
    const __m256i others = _mm256_set1_epi8(0x70);
    size_t done = 0;
    for (; done + sizeof(__m256i) <= count; done += sizeof(__m256i)) {
        const __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)(x + done));
        __m256i result = _mm256_setzero_si256();
        for (int i = 0; i < PARTS; i++) {
            const __m256i own = _mm256_xor_si256(codes, _mm256_set1_epi8((char)(i * PARTS)));
            const __m256i index = _mm256_adds_epu8(own, others);
            result = _mm256_or_si256(result, _mm256_shuffle_epi8(parts[i], index));
        }
        _mm256_storeu_si256((__m256i *)(void *)(y + done), result);
    }
    return done;
}

static size_t look_up(const uint8_t table[LC_ALL_CODES], uint32_t features, const uint8_t *x,
                      uint8_t *y, size_t count) {
    return features & LC_CPU_AVX512VBMI ? look_up_128(table, x, y, count)
                                        : look_up_16(table, x, y, count);
}

#elif defined(__aarch64__)

// Codes beyond 64 leave what is there.
static size_t look_up(const uint8_t table[LC_ALL_CODES], uint32_t features, const uint8_t *x,
                      uint8_t *y, size_t count) {
    (void)features;
    uint8x16x4_t parts[4];
    for (int i = 0; i < 4; i++) {
        parts[i] = vld1q_u8_x4(table + 64 * i);
    }
    size_t done = 0;
    for (; done + sizeof(uint8x16_t) <= count; done += sizeof(uint8x16_t)) {
        uint8x16_t codes = vld1q_u8(x + done), result = vqtbl4q_u8(parts[0], codes);
        for (int i = 1; i < 4; i++) {
            codes = vsubq_u8(codes, vdupq_n_u8(64));
            result = vqtbx4q_u8(result, parts[i], codes);
        }
        vst1q_u8(y + done, result);
    }
    return done;
}

#endif

void lc_look_up(const uint8_t table[LC_ALL_CODES], uint32_t features, const uint8_t *x, uint8_t *y,
                size_t count) {
    const size_t done = look_up(table, features, x, y, count);
    look_up_rest(table, x + done, y + done, count - done);
}
