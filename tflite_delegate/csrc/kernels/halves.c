// SPDX-License-Identifier: Apache-2.0

#include "kernels/halves.h"

#include <string.h>

float lc_half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31, mantissa = half & 1023, bits;
    if (exponent == 0) { // zero and subnormal: exact, and not flushed by a host that flushes
        float magnitude = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &magnitude, sizeof bits);
    } else if (exponent == 31) { // infinity and NaN
        bits = 0x7f800000u | mantissa << 13;
    } else {
        bits = (exponent + 112) << 23 | mantissa << 13;
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The bits of a number that fits into so few, without those from `dropped` on.
static uint32_t round_off(uint32_t bits, int dropped) {
    uint32_t half = 1u << (dropped - 1), odd = bits >> dropped & 1;
    return (bits + half - 1 + odd) >> dropped;
}

uint16_t lc_float_to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff, half;
    if (magnitude > 0x7f800000) { // NaN
        half = 0x7e00;
    } else if (magnitude >= 0x47800000) { // 2^16 and more
        half = 0x7c00;
    } else if (magnitude >= 0x38800000) { // 2^-14 and more; a carry moves on to infinity
        half = round_off(magnitude - (112u << 23), 13);
    } else if (magnitude >= 0x33000000) { // 2^-25 and more: subnormal
        int exponent = (int)(magnitude >> 23);
        half = round_off((magnitude & 0x7fffff) | 0x800000, 126 - exponent);
    } else {
        half = 0;
    }
    return (uint16_t)(sign | half);
}

void lc_store_float(void *array, size_t index, float value, bool is_half) {
    if (is_half) {
        ((uint16_t *)array)[index] = lc_float_to_half(value);
    } else {
        ((float *)array)[index] = value;
    }
}

#if defined(__aarch64__)
#include <arm_neon.h>

enum { LANES = 8 };

static void widen_lanes(float *to, const uint16_t *from) {
    float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(from));
    vst1q_f32(to, vcvt_f32_f16(vget_low_f16(halves)));
    vst1q_f32(to + 4, vcvt_high_f32_f16(halves));
}

static void narrow_lanes(uint16_t *to, const float *from) {
    float16x4_t low = vcvt_f16_f32(vld1q_f32(from));
    vst1q_u16(to, vreinterpretq_u16_f16(vcvt_high_f16_f32(low, vld1q_f32(from + 4))));
}
#else
enum { LANES = 1 };

static void widen_lanes(float *to, const uint16_t *from) { *to = lc_half_to_float(*from); }

static void narrow_lanes(uint16_t *to, const float *from) { *to = lc_float_to_half(*from); }
#endif

void lc_widen(float *to, const uint16_t *from, size_t count) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        widen_lanes(to + i, from + i);
    }
    for (; i < count; i++) {
        to[i] = lc_half_to_float(from[i]);
    }
}

void lc_narrow(uint16_t *to, const float *from, size_t count) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        narrow_lanes(to + i, from + i);
    }
    for (; i < count; i++) {
        to[i] = lc_float_to_half(from[i]);
    }
}
