// SPDX-License-Identifier: Apache-2.0

#include "kernels/quantised/rounding.h"

#include <math.h>

#include "kernels/geometry.h"

// Channels that TFLite's vector loops compute at once.
enum { VECTOR = 8 };

// Whether output positions along an axis need no more than a padded image has.
static bool reach(int32_t positions, int32_t size, int32_t stride, int32_t pad) {
    return (int64_t)(positions - 1) * stride - pad + 3 <= (int64_t)size + pad;
}

// TFLite's Fast3x3FilterKernelSupported, of a layer with one output for each input channel.
static bool is_fast(const struct lc_geometry *g) {
    int32_t pad = g->pad_top, stride = g->stride_height;
    if (g->kernel_height != 3 || g->kernel_width != 3 || g->stride_width != stride || stride > 2 ||
        g->dilation_height != 1 || g->dilation_width != 1 || g->in_channels % VECTOR ||
        pad != g->pad_left || pad > 1) {
        return false;
    }
    bool is_line = g->in_height != g->in_width && (g->in_height == 1 || g->in_width == 1);
    return reach(lc_out_height(g), g->in_height, stride, pad) &&
           reach(lc_out_width(g), g->in_width, stride, pad) && !(pad && is_line);
}

static bool fits(const struct lc_rule_case *c, const struct lc_geometry *g, int64_t pixels) {
    int64_t taps = (int64_t)g->kernel_height * g->kernel_width;
    int64_t depth = taps * (g->in_channels / g->groups);
    return taps <= c->most_taps && g->out_channels / g->in_channels <= c->most_multiplier &&
           pixels <= c->most_pixels && g->out_channels >= c->least_outputs &&
           depth >= c->least_depth && (!c->is_fast || is_fast(g));
}

int32_t lc_rule_of(enum lc_kind kind, const struct lc_geometry *g, int32_t images) {
    int64_t pixels = (int64_t)lc_out_height(g) * lc_out_width(g);
    pixels = pixels > INT32_MAX ? INT32_MAX : pixels * images;
    for (size_t i = 0; i < lc_library.rule_count; i++) {
        const struct lc_rule_case *c = &lc_library.rules[i];
        if (c->kind == (int32_t)kind && c->element == g->element && fits(c, g, pixels)) {
            return c->rule;
        }
    }
    return LC_NO_RULE;
}

// XNNPACK's, computed in float32.
static union lc_ratio xnnpack_ratio(int32_t rule, float ratio) {
    if (rule == LC_XNN_FP32) {
        return (union lc_ratio){.single = ratio};
    }
    struct lc_multiplier by = lc_multiplier_of((double)ratio);
    if (rule == LC_XNN_RNDNU16) {
        const int32_t lost = 16;
        by.mantissa = (int32_t)(((int64_t)by.mantissa + (1 << (lost - 1))) >> lost);
        if (by.mantissa == 1 << (31 - lost)) {
            by.mantissa /= 2;
            by.shift++;
        }
    }
    return (union lc_ratio){.scaled = by};
}

union lc_ratio lc_ratio_of(int32_t rule, const struct lc_quantised_layer *layer, size_t m) {
    if (rule < LC_DOUBLE) {
        return xnnpack_ratio(rule, lc_ratio(layer, m));
    }
    float scale = layer->scales[m * (size_t)layer->scale_step];
    double product = (double)layer->input_scale * (double)scale;
    if (rule == LC_REAL64) {
        return (union lc_ratio){.real = product / (double)layer->output_scale};
    }
    if (layer->is_dense ? !layer->scale_step : layer->element == LC_UINT8) {
        product = (double)(layer->input_scale * scale);
    }
    return (union lc_ratio){.scaled = lc_multiplier_of(product / (double)layer->output_scale)};
}

static double clamp(double value) {
    return value < INT32_MIN ? INT32_MIN : value > INT32_MAX ? INT32_MAX : value;
}

static int64_t clamp_to_16(int64_t value) {
    return value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value;
}

// Sums of 16 bits by 15 bits.
static int64_t scale_narrow(int32_t sum, struct lc_multiplier by) {
    int64_t value = clamp_to_16(by.shift < 0 ? lc_shift_up(sum, -by.shift) : sum);
    value = clamp_to_16(by.shift > 0 ? value * (INT64_C(1) << by.shift) : value);
    return (value * by.mantissa + (1 << 14)) >> 15;
}

int64_t lc_rounded(int32_t rule, int32_t sum, union lc_ratio ratio, size_t m, size_t channels) {
    switch (rule) {
    case LC_XNN_FP32:
        return (int64_t)rint(clamp((double)((float)sum * ratio.single)));
    case LC_XNN_RNDNU: {
        // What a shift takes beyond 32 bits is beyond every element too.
        int32_t left = ratio.scaled.shift >= 0 ? ratio.scaled.shift + 1 : 0;
        int64_t ends = INT32_MAX >> left;
        int64_t value = sum < -ends ? -ends : sum > ends ? ends : sum;
        return lc_scale_once((int32_t)value, ratio.scaled);
    }
    case LC_XNN_RNDNU16:
        return scale_narrow(sum, ratio.scaled);
    case LC_DOUBLE:
        return lc_scale_away(sum, ratio.scaled);
    case LC_DOUBLE_UP:
        return lc_scale_up(sum, ratio.scaled);
    case LC_DEPTHWISE_INT8:
        return m < channels / VECTOR * VECTOR ? lc_scale_up(sum, ratio.scaled)
                                              : lc_scale_away(sum, ratio.scaled);
    case LC_REAL64:
        return (int64_t)clamp(round((double)sum * ratio.real));
    default: // LC_SINGLE, LC_XNN_RNDNU_WRAPPING
        return lc_scale_once(sum, ratio.scaled);
    }
}
