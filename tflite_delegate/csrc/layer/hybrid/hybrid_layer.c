// SPDX-License-Identifier: Apache-2.0

#include "layer/hybrid/hybrid_layer.h"

#include "host/tensor.h"
#include "kernels/geometry.h"
#include "layer/quantised_layer.h"

bool lc_read_scales(const struct lc_layer *layer, const struct tfl_context *context,
                    struct lc_quantised_layer *quantised) {
    struct lc_quantization weights;
    if (!lc_read_quantization(&context->tensors[layer->weights], &weights) ||
        (weights.count != 1 && weights.axis != (layer->source == LC_TAPS ? 3 : 0))) {
        return false;
    }
    for (int32_t i = 0; i < weights.count; i++) {
        if (weights.zero_points[i * weights.zero_step] != 0) {
            return false;
        }
    }
    *quantised = (struct lc_quantised_layer){
        .scales = weights.scales,
        .scale_step = weights.count > 1,
    };
    return true;
}

const char *lc_check_hybrid(struct lc_layer *layer, const struct tfl_context *context) {
    struct lc_quantised_layer quantised;
    if (!lc_read_scales(layer, context, &quantised)) {
        return "its int8 weights have no scales of their channels, or a zero point";
    }
    if (layer->byte_weights) {
        return NULL;
    }
    if (layer->upsampling.rows) { // which has a scale for several of its channels
        return "a transposed convolution with int8 weights";
    }
    layer->has_one_scale = true;
    for (int32_t m = 1; quantised.scale_step && m < layer->out_channels; m++) {
        layer->has_one_scale &= quantised.scales[m] == quantised.scales[0];
    }
    return NULL;
}

bool lc_has_steps_of_rows(const struct lc_layer *layer) {
    return layer->is_dense || (layer->kernel_height == 1 && layer->kernel_width == 1 &&
                               layer->stride_height == 1 && layer->stride_width == 1);
}

// Whether TFLite has a faster kernel on Arm: its depthwise convolution of 3x3.
static bool is_fast_depthwise(const struct lc_layer *layer, const struct lc_geometry *g) {
    // What a PAD has padded is an image to TFLite.
    int32_t stride = g->stride_height, top = layer->same_padding ? g->pad_top : 0,
            left = layer->same_padding ? g->pad_left : 0;
    if (!(lc_library.features & LC_CPU_NEON) || g->kernel_height != 3 || g->kernel_width != 3 ||
        g->in_channels != g->out_channels || g->in_channels % 8 || g->stride_width != stride ||
        stride > 2 || g->dilation_height != 1 || g->dilation_width != 1 || top != left || top > 1) {
        return false;
    }
    if (!layer->same_padding) {
        return true;
    }
    int64_t end_row = (int64_t)(lc_out_height(g) - 1) * stride - top + 3;
    int64_t end_column = (int64_t)(lc_out_width(g) - 1) * stride - left + 3;
    if (end_row > (int64_t)g->in_height + top || end_column > (int64_t)g->in_width + left) {
        return false;
    }
    bool is_line = g->in_height == 1 || g->in_width == 1;
    return top == 0 || !is_line || g->in_height == g->in_width;
}

// Whether TFLite's matrix product on Arm adds the bias without rounding in between, as all do but
// that of processors with dot products.
static bool is_fused(const struct lc_geometry *g) {
    if (!(lc_library.features & LC_CPU_NEON) || lc_library.dot_kernels == LC_NO_DOTS) {
        return lc_library.features & LC_CPU_NEON;
    }
    int32_t rows = g->in_width, units = g->out_channels;
    bool is_whole = g->in_channels % 16 == 0 && units % 2 == 0 && units >= rows;
    bool is_large = rows >= 2 && (int64_t)units * g->in_channels >= 128 * 128;
    return !(is_whole && (rows % 4 == 0 || is_large));
}

// TFLite's own kernels, or its reference kernels.
static enum lc_dynamic builtin_rule(const struct lc_layer *layer, const struct lc_geometry *g) {
    bool is_reference = lc_library.rounding == LC_ROUNDING_REFERENCE;
    if (layer->source == LC_TAPS) {
        bool is_apart = is_reference || is_fast_depthwise(layer, g);
        return is_apart ? LC_BUILTIN_ASYMMETRIC : LC_BUILTIN_DEPTHWISE;
    }
    if (layer->is_dense && layer->has_asymmetric_rows) {
        return is_fused(g) ? LC_BUILTIN_ASYMMETRIC_ROWS_FUSED : LC_BUILTIN_ASYMMETRIC_ROWS;
    }
    if (layer->is_dense) {
        return is_fused(g) ? LC_BUILTIN_SYMMETRIC_ROWS_FUSED : LC_BUILTIN_SYMMETRIC_ROWS;
    }
    return layer->has_one_scale ? LC_BUILTIN_SYMMETRIC
           : is_reference       ? LC_REFERENCE_ASYMMETRIC
                                : LC_BUILTIN_ASYMMETRIC;
}

enum lc_dynamic lc_dynamic_rule(const struct lc_layer *layer, const struct lc_geometry *g) {
    if (layer->source == LC_TAPS || lc_library.rounding != LC_ROUNDING_XNNPACK) {
        return builtin_rule(layer, g); // XNNPACK has no depthwise kernel
    }
    bool is_pointwise = lc_has_steps_of_rows(layer) && !g->pad_top && !g->pad_bottom &&
                        !g->pad_left && !g->pad_right && g->groups == 1;
    if (layer->is_dense || (is_pointwise && g->in_channels + g->out_channels > 2)) {
        return lc_library.dot_kernels == LC_NO_DOTS ? LC_XNN_QD8_FUSED_ROWS : LC_XNN_QP8;
    }
    bool is_pixel = lc_out_height(g) == 1 && lc_out_width(g) == 1;
    return lc_library.dot_kernels == LC_DOTS && !is_pixel ? LC_XNN_QD8 : LC_XNN_QD8_FUSED;
}
