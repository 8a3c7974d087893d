// SPDX-License-Identifier: Apache-2.0

#include "kernels/reference_conv.h"

#include <math.h>

#include "host/checked.h"
#include "host/tflite_abi.h"
#include "kernels/geometry.h"
#include "kernels/hybrid/hybrid.h"
#include "kernels/quantised/quantised.h"
#include "kernels/winograd/reference_winograd.h"

// Channels that are converted from float16 at once and reused along an output row.
enum { CHUNK = 64 };

// Independent partial sums, so that a compiler may use vector registers without reassociating.
enum { PARTIAL_SUMS = 8 };

static float dot(const float *a, const float *b, size_t count) {
    float sums[PARTIAL_SUMS] = {0};
    size_t i = 0;
    for (; i + PARTIAL_SUMS <= count; i += PARTIAL_SUMS) {
        for (size_t j = 0; j < PARTIAL_SUMS; j++) {
            sums[j] += a[i + j] * b[i + j];
        }
    }
    float sum = 0.0f;
    for (; i < count; i++) {
        sum += a[i] * b[i];
    }
    for (size_t j = 0; j < PARTIAL_SUMS; j++) {
        sum += sums[j];
    }
    return sum;
}

// The output columns whose input column, for the kernel column at `offset` from the left border
// of the image, is inside the image: *begin <= ox < *end.
static void valid_columns(const struct lc_geometry *g, int64_t offset, int32_t out_width,
                          int32_t *begin, int32_t *end) {
    int64_t stride = g->stride_width;
    int64_t first = offset < 0 ? (-offset + stride - 1) / stride : 0;
    int64_t last = (g->in_width - 1 - offset) / stride; // meaningful unless offset >= in_width
    if (offset >= g->in_width || first >= out_width) {
        *begin = *end = 0;
        return;
    }
    *begin = (int32_t)first;
    *end = last + 1 < out_width ? (int32_t)(last + 1) : out_width;
}

// Adds one tap of the kernel, restricted to `count` input channels, to one channel of an output
// row. x: the first of those channels in the input row. y: the channel in the row's first pixel.
static void accumulate_row(const struct lc_geometry *g, const float *x, const float *w,
                           size_t count, int64_t offset, int32_t out_width, float *y) {
    int32_t begin, end;
    valid_columns(g, offset, out_width, &begin, &end);
    for (int32_t ox = begin; ox < end; ox++) {
        size_t column = (size_t)(lc_multiply_add(ox, g->stride_width, offset));
        y[(size_t)ox * (size_t)g->out_channels] +=
            dot(x + column * (size_t)g->in_channels, w, count);
    }
}

// One channel of one output row, before the activation. x: the image, from the first channel of the
// group that the output channel belongs to.
static void accumulate_channel(const struct lc_geometry *g, const float *x,
                               const struct lc_constants *constants, int32_t oy, int32_t m,
                               int32_t out_width, float *y) {
    float scratch[CHUNK];
    size_t channels = (size_t)(g->in_channels / g->groups);
    size_t row_elements = (size_t)g->in_width * (size_t)g->in_channels;
    for (int32_t kh = 0; kh < lc_kernel_rows(g); kh++) {
        int64_t row = lc_tap_row(g, oy, kh);
        if (row < 0) {
            continue;
        }
        for (int32_t kw = 0; kw < g->kernel_width; kw++) {
            int64_t offset = lc_multiply_add(kw, g->dilation_width, -(int64_t)g->pad_left);
            size_t tap = (size_t)kh * (size_t)g->kernel_width + (size_t)kw;
            for (size_t c = 0; c < channels; c += CHUNK) {
                size_t count = channels - c < CHUNK ? channels - c : CHUNK;
                const float *w = lc_weights_read(constants, g, (size_t)m, tap, c, count, scratch);
                accumulate_row(g, x + (size_t)row * row_elements + c, w, count, offset, out_width,
                               y);
            }
        }
    }
}

static float clamp(float value, float least, float most) {
    return value < least ? least : value > most ? most : value; // keeps NaN
}

static float hard_swish(float value) {
    return value * (clamp(value + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f));
}

static float swish(float value) { return value / (1.0f + expf(-value)); }

void lc_activate(int32_t activation, float *values, size_t count) {
    float least, most;
    lc_activation_range(activation, &least, &most);
    for (size_t i = 0; i < count; i++) {
        values[i] = activation == LC_ACTIVATION_SWISH        ? swish(values[i])
                    : activation == LC_ACTIVATION_HARD_SWISH ? hard_swish(values[i])
                                                             : clamp(values[i], least, most);
    }
}

void lc_reference_conv(const struct lc_reference *layer, int32_t begin, int32_t end) {
    const struct lc_geometry *g = layer->geometry;
    if (g->element != LC_FLOAT32) {
        lc_quantised_conv(g, layer->constants, layer->x, layer->r, layer->y, begin, end);
        return;
    }
    int32_t out_width = lc_out_width(g);
    size_t out_channels = (size_t)g->out_channels;
    size_t row_elements = (size_t)out_width * out_channels;
    if (g->dynamic) {
        lc_hybrid_conv(g, layer->constants, layer->x, layer->y, begin, end);
    }
    for (int32_t oy = begin; oy < end; oy++) {
        float *out_row = (float *)layer->y + (size_t)oy * row_elements;
        for (int32_t m = 0; m < g->out_channels && !g->dynamic; m++) {
            float start = lc_bias_read(layer->constants, (size_t)m);
            for (int32_t ox = 0; ox < out_width; ox++) {
                out_row[(size_t)ox * out_channels + (size_t)m] = start;
            }
            size_t group = (size_t)(m / (g->out_channels / g->groups));
            const float *channels =
                (const float *)layer->x + group * (size_t)(g->in_channels / g->groups);
            if (!g->domain) {
                accumulate_channel(g, channels, layer->constants, oy, m, out_width, out_row + m);
            }
        }
        if (g->domain) {
            lc_winograd_row(layer, oy, out_row);
        }
        lc_activate(g->activation, out_row, row_elements);
        if (layer->r) {
            const float *residual = (const float *)layer->r + (size_t)oy * row_elements;
            for (size_t i = 0; i < row_elements; i++) {
                out_row[i] += residual[i];
            }
            lc_activate(g->output_activation, out_row, row_elements);
        }
    }
}
