// SPDX-License-Identifier: Apache-2.0

#include "kernels/hybrid/steps.h"

#include <math.h>

// Where a product is to be fused with a sum, it says so.
#pragma STDC FP_CONTRACT OFF

bool lc_is_by_row(enum lc_dynamic rule) {
    switch (rule) {
    case LC_XNN_QD8_FUSED_ROWS:
    case LC_XNN_QP8:
    case LC_BUILTIN_ASYMMETRIC_ROWS:
    case LC_BUILTIN_SYMMETRIC_ROWS:
    case LC_BUILTIN_ASYMMETRIC_ROWS_FUSED:
    case LC_BUILTIN_SYMMETRIC_ROWS_FUSED:
        return true;
    default:
        return false;
    }
}

static bool is_xnnpack(enum lc_dynamic rule) { return rule <= LC_XNN_QP8; }

static bool is_symmetric(enum lc_dynamic rule) {
    return rule == LC_BUILTIN_SYMMETRIC || rule == LC_BUILTIN_SYMMETRIC_ROWS ||
           rule == LC_BUILTIN_SYMMETRIC_ROWS_FUSED;
}

static struct lc_steps xnnpack_steps(float low, float high) {
    float spread = high - low;
    float factor = spread == 0.0f ? 1.0f : 255.0f / spread;
    float below = low * factor, above = high * factor;
    float zero = (-128.0f + below) + (127.0f + above) > 0.0f ? -128.0f - below : 127.0f - above;
    zero = fmaxf(fminf(zero, 127.0f), -128.0f);
    return (struct lc_steps){factor, 1.0f / factor, (int32_t)rintf(zero)};
}

static struct lc_steps asymmetric_steps(float low, float high) {
    if (low == high) {
        return (struct lc_steps){1.0f, 1.0f, 0};
    }
    double scale = (double)(high - low) / 255.0;
    double below = (double)low / scale, above = (double)high / scale;
    double zero = 128.0 + fabs(below) < 127.0 + fabs(above) ? -128.0 - below : 127.0 - above;
    zero = fmax(fmin(round(zero), 127.0), -128.0);
    float single = (float)scale;
    return (struct lc_steps){(float)(1.0 / (double)single), single, (int32_t)zero};
}

static struct lc_steps symmetric_steps(float low, float high) {
    float spread = fmaxf(-low, high);
    return spread == 0.0f ? (struct lc_steps){1.0f, 1.0f, 0}
                          : (struct lc_steps){127.0f / spread, spread / 127.0f, 0};
}

struct lc_steps lc_steps_of(enum lc_dynamic rule, const float *x, size_t count) {
    float low = 0.0f, high = 0.0f;
    for (size_t i = 0; i < count; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    return is_xnnpack(rule)     ? xnnpack_steps(low, high)
           : is_symmetric(rule) ? symmetric_steps(low, high)
                                : asymmetric_steps(low, high);
}

// Halves away from zero; by TFLite's own kernels, on x86, eight at a time by adding one half.
static float round_away(enum lc_dynamic rule, float value, size_t index, size_t count) {
    bool adds = !is_xnnpack(rule) && !(lc_library.features & LC_CPU_NEON) && index < count / 8 * 8;
    return truncf(value + copysignf(adds ? 0.5f : 0x1.fffffep-2f, value));
}

int32_t lc_code_of(enum lc_dynamic rule, const struct lc_steps *steps, float x, size_t index,
                   size_t count) {
    float value = x * steps->factor;
    bool is_even = is_xnnpack(rule) && rule != LC_XNN_QP8;
    value = is_even ? rintf(value) : round_away(rule, value, index, count);
    value = fmaxf(fminf(value, 1024.0f), -1024.0f); // what is not a number becomes any element
    int32_t code = (int32_t)value + steps->zero, least = is_symmetric(rule) ? -127 : INT8_MIN;
    return code < least ? least : code > INT8_MAX ? INT8_MAX : code;
}

float lc_dequantise(enum lc_dynamic rule, int32_t sum, float scale, float weight_scale, float bias,
                    size_t m, size_t channels) {
    float total = (float)sum;
    if (rule == LC_XNN_QD8_FUSED || rule == LC_XNN_QD8_FUSED_ROWS) {
        return fmaf(total * scale, weight_scale, bias);
    }
    if (rule == LC_BUILTIN_ASYMMETRIC_ROWS_FUSED || rule == LC_BUILTIN_SYMMETRIC_ROWS_FUSED) {
        return fmaf(total, scale * weight_scale, bias);
    }
    if (rule == LC_REFERENCE_ASYMMETRIC) {
        return total * weight_scale * scale + bias;
    }
    if (rule == LC_BUILTIN_DEPTHWISE) {
        bool is_vector = m < channels / 4 * 4;
        total = is_vector ? total * weight_scale * scale : total * scale * weight_scale;
        return total + bias;
    }
    return total * (scale * weight_scale) + bias;
}
