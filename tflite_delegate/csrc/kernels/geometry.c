// SPDX-License-Identifier: Apache-2.0

#include "kernels/geometry.h"

#include <math.h>
#include <stdio.h>

#include "host/checked.h"
#include "host/tflite_abi.h"

static int32_t out_positions(int32_t size, int32_t before, int32_t after, int32_t kernel,
                             int32_t stride, int32_t dilation) {
    int64_t span = lc_multiply_add(kernel - 1, dilation, 1);
    return (int32_t)(((int64_t)size + before + after + stride - span) / stride);
}

int32_t lc_out_height(const struct lc_geometry *g) {
    return out_positions(g->in_height, g->pad_top, g->pad_bottom, g->kernel_height,
                         g->stride_height, g->dilation_height);
}

int32_t lc_out_width(const struct lc_geometry *g) {
    return out_positions(g->in_width, g->pad_left, g->pad_right, g->kernel_width, g->stride_width,
                         g->dilation_width);
}

int32_t lc_pooled_height(const struct lc_geometry *g) {
    return g->pool ? out_positions(lc_out_height(g), g->pool_top, g->pool_bottom, g->pool_height,
                                   g->pool_stride_height, 1)
                   : lc_out_height(g);
}

int32_t lc_pooled_width(const struct lc_geometry *g) {
    return g->pool ? out_positions(lc_out_width(g), g->pool_left, g->pool_right, g->pool_width,
                                   g->pool_stride_width, 1)
                   : lc_out_width(g);
}

int32_t lc_out_depth(const struct lc_geometry *g) {
    return g->in_depth ? out_positions(g->in_depth, g->pad_front, g->pad_back, g->kernel_depth,
                                       g->stride_depth, g->dilation_depth)
                       : 1;
}

int32_t lc_kernel_rows(const struct lc_geometry *g) {
    return g->in_depth ? g->kernel_depth * g->kernel_height : g->kernel_height;
}

int32_t lc_out_rows(const struct lc_geometry *g) { return lc_out_depth(g) * lc_out_height(g); }

int64_t lc_tap_row(const struct lc_geometry *g, int32_t row, int32_t tap) {
    int32_t height = lc_out_height(g);
    int64_t y = lc_multiply_add(row % height, g->stride_height, -(int64_t)g->pad_top) +
                lc_multiply_add(tap % g->kernel_height, g->dilation_height, 0);
    if (y < 0 || y >= g->in_height) {
        return -1;
    }
    if (!g->in_depth) {
        return y;
    }
    int64_t z = lc_multiply_add(row / height, g->stride_depth, -(int64_t)g->pad_front) +
                lc_multiply_add(tap / g->kernel_height, g->dilation_depth, 0);
    return z < 0 || z >= g->in_depth ? -1 : z * g->in_height + y;
}

bool lc_image_elements(const struct lc_geometry *g, size_t *input, size_t *output) {
    *input = *output = 1;
    if (!lc_multiply(input, g->in_height) || !lc_multiply(input, g->in_width) ||
        !lc_multiply(input, g->in_channels) || !lc_multiply(output, lc_out_height(g)) ||
        !lc_multiply(output, lc_out_width(g)) || !lc_multiply(output, g->out_channels)) {
        return false;
    }
    if (g->in_depth &&
        (!lc_multiply(input, g->in_depth) || !lc_multiply(output, lc_out_depth(g)))) {
        return false;
    }
    return *input <= SIZE_MAX / sizeof(float) && *output <= SIZE_MAX / sizeof(float);
}

size_t lc_tap_pixel(const struct lc_geometry *g, int32_t oy, int32_t ox, int32_t kh, int32_t kw) {
    int64_t row = lc_multiply_add(oy, g->stride_height, -(int64_t)g->pad_top) +
                  lc_multiply_add(kh, g->dilation_height, 0);
    int64_t column = lc_multiply_add(ox, g->stride_width, -(int64_t)g->pad_left) +
                     lc_multiply_add(kw, g->dilation_width, 0);
    if (row < 0 || row >= g->in_height || column < 0 || column >= g->in_width) {
        return SIZE_MAX;
    }
    return (size_t)row * (size_t)g->in_width + (size_t)column;
}

size_t lc_points(const struct lc_geometry *g) {
    return ((size_t)g->domain + (size_t)g->kernel_height - 1) *
           ((size_t)g->domain + (size_t)g->kernel_width - 1);
}

bool lc_packs_narrow(const struct lc_geometry *g) {
    return g->byte_weights || (g->half_weights && g->element != LC_FLOAT16);
}

size_t lc_element_bytes(const struct lc_geometry *g) {
    switch (g->element) {
    case LC_FLOAT32:
        return sizeof(float);
    case LC_FLOAT16:
        return sizeof(uint16_t);
    default:
        return sizeof(int8_t);
    }
}

bool lc_sums_integers(const struct lc_geometry *g) {
    return g->element == LC_INT8 || g->element == LC_UINT8 || g->dynamic;
}

int32_t lc_activation_of_node(int32_t builtin_code) {
    switch (builtin_code) {
    case TFL_BUILTIN_RELU:
        return TFL_ACTIVATION_RELU;
    case TFL_BUILTIN_RELU_N1_TO_1:
        return TFL_ACTIVATION_RELU_N1_TO_1;
    case TFL_BUILTIN_RELU6:
        return TFL_ACTIVATION_RELU6;
    default:
        return TFL_ACTIVATION_NONE;
    }
}

void lc_activation_range(int32_t activation, float *least, float *most) {
    *least = -INFINITY;
    *most = INFINITY;
    if (activation == TFL_ACTIVATION_RELU || activation == TFL_ACTIVATION_RELU6) {
        *least = 0.0f;
    }
    if (activation == TFL_ACTIVATION_RELU6) {
        *most = 6.0f;
    }
    if (activation == TFL_ACTIVATION_RELU_N1_TO_1) {
        *least = -1.0f;
        *most = 1.0f;
    }
}

// " relu", or nothing.
static const char *activation_name(int32_t activation) {
    static const char *const names[] = {"", " relu", " relu_n1_to_1", " relu6"};
    if (activation == LC_ACTIVATION_HARD_SWISH) {
        return " hard_swish";
    }
    return activation == LC_ACTIVATION_SWISH ? " swish" : names[activation];
}

static const char *element_name(int32_t element) {
    return element == LC_INT8 ? " int8" : element == LC_UINT8 ? " uint8" : "";
}

// " xnn_fp32", or nothing.
static const char *rule_name(int32_t rule) {
    static const char *const names[] = {"",
                                        " xnn_fp32",
                                        " xnn_rndnu",
                                        " xnn_rndnu_wrapping",
                                        " xnn_rndnu16",
                                        " double",
                                        " double_up",
                                        " depthwise_int8",
                                        " single",
                                        " real64"};
    return names[rule];
}

// " s2", " s2x1", or nothing where both steps are 1.
static void describe_step(char *text, size_t size, char letter, int32_t height, int32_t width) {
    if (height == 1 && width == 1) {
        text[0] = '\0';
    } else if (height == width) {
        snprintf(text, size, " %c%d", letter, (int)height);
    } else {
        snprintf(text, size, " %c%dx%d", letter, (int)height, (int)width);
    }
}

// "3x", "8x", and " sd2 dd2" or what of it is not 1.
static void describe_depth(const struct lc_geometry *g, char kernel[16], char images[16],
                           char steps[48]) {
    snprintf(kernel, 16, "%dx", (int)g->kernel_depth);
    snprintf(images, 16, "%dx", (int)g->in_depth);
    int length = 0;
    if (g->stride_depth > 1) {
        length = snprintf(steps, 48, " sd%d", (int)g->stride_depth);
    }
    if (g->dilation_depth > 1) {
        snprintf(steps + length, 48 - (size_t)length, " dd%d", (int)g->dilation_depth);
    }
}

// " | max_pool3x3 s2 relu", or nothing.
static void describe_pool(const struct lc_geometry *g, char text[96]) {
    char stride[32];
    text[0] = '\0';
    if (g->pool) {
        describe_step(stride, sizeof stride, 's', g->pool_stride_height, g->pool_stride_width);
        snprintf(text, 96, " | %s_pool%dx%d%s%s", g->pool == LC_LARGEST ? "max" : "average",
                 (int)g->pool_height, (int)g->pool_width, stride,
                 activation_name(g->pool_activation));
    }
}

size_t lc_geometry_describe(const struct lc_geometry *g, char *text, size_t size) {
    char stride[32], dilation[32], groups[16] = "", outputs[16] = "", kernel[16] = "";
    char images[16] = "", depth_steps[48] = "", pool[96];
    bool is_depthwise = g->groups > 1 && g->groups == g->in_channels;
    describe_step(stride, sizeof stride, 's', g->stride_height, g->stride_width);
    describe_step(dilation, sizeof dilation, 'd', g->dilation_height, g->dilation_width);
    if (g->groups > 1 && !is_depthwise) {
        snprintf(groups, sizeof groups, " g%d", (int)g->groups);
    }
    if (!is_depthwise || g->out_channels != g->in_channels) {
        snprintf(outputs, sizeof outputs, "->%d", (int)g->out_channels);
    }
    if (g->in_depth) {
        describe_depth(g, kernel, images, depth_steps);
    }
    describe_pool(g, pool);
    return (size_t)snprintf(text, size, "%sconv%s%dx%d%s%s%s%s %s%dx%dx%d%s%s%s%s%s%s%s%s",
                            is_depthwise ? "dw" : "", kernel, (int)g->kernel_height,
                            (int)g->kernel_width, depth_steps, stride, dilation, groups, images,
                            (int)g->in_height, (int)g->in_width, (int)g->in_channels, outputs,
                            activation_name(g->activation), g->residual ? " +" : "",
                            activation_name(g->output_activation), element_name(g->element),
                            g->half_weights                 ? " float16 weights"
                            : g->dynamic || g->byte_weights ? " int8 weights"
                                                            : "",
                            g->domain ? " in Winograd's domain" : rule_name(g->rule), pool);
}

void lc_layers_describe(const struct lc_geometry *layers, int32_t count, char *text, size_t size) {
    size_t length = 0;
    for (int32_t i = 0; i < count && length < size; i++) {
        if (i > 0) {
            length += (size_t)snprintf(text + length, size - length, " | ");
        }
        if (length < size) {
            length += lc_geometry_describe(&layers[i], text + length, size - length);
        }
    }
}
