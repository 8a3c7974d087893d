// SPDX-License-Identifier: Apache-2.0

#include "kernels/quantised/quantised.h"

#include <math.h>
#include <string.h>

#include "host/checked.h"
#include "kernels/geometry.h"
#include "kernels/weights.h"

// What a kernel reads of a layer beside its channels'; schedules/kernel/quantised/constants.py.
struct parameters {
    int8_t zeros[LC_WORD]; // the input's zero point, as often as a word has elements
    int32_t zero;          // the output's
    int32_t low, high;     // of the output's range
};

float lc_ratio(const struct lc_quantised_layer *layer, size_t m) {
    float scale = layer->scales[m * (size_t)layer->scale_step];
    return layer->input_scale * scale / layer->output_scale;
}

static float clamp(float value, float least, float most) {
    return value < least ? least : value > most ? most : value;
}

// A bound of an activation among the output's elements: the zero point is added before rounding.
static int32_t element_of(float bound, const struct lc_quantised_layer *layer) {
    float value = bound / layer->output_scale + (float)layer->output_zero;
    return (int32_t)lrintf(clamp(value, INT8_MIN, INT8_MAX));
}

static struct parameters parameters_of(const struct lc_geometry *g,
                                       const struct lc_quantised_layer *layer) {
    float least, most;
    struct parameters parameters = {.zero = layer->output_zero};
    memset(parameters.zeros, layer->input_zero, sizeof parameters.zeros);
    lc_activation_range(g->activation, &least, &most);
    parameters.low = element_of(least, layer);
    parameters.high = element_of(most, layer);
    return parameters;
}

bool lc_add_parameters(size_t *bytes) {
    return lc_round_up(bytes) && lc_multiply(bytes, 2) && lc_add(bytes, LC_CACHE_LINE);
}

// Weights of output channel `m`: the first, and how far apart they are.
static const int8_t *weights_of(const struct lc_geometry *g, const struct lc_constants *constants,
                                size_t m, size_t *count, size_t *step) {
    size_t taps = (size_t)g->kernel_height * (size_t)g->kernel_width;
    const int8_t *weights = constants->weights.data;
    *count = taps * (size_t)(g->in_channels / g->groups);
    if (constants->layout == LC_TAPS) {
        *step = (size_t)g->out_channels;
        return weights + m;
    }
    *step = 1;
    return weights + m * *count;
}

static int32_t bias_of(const struct lc_constants *constants, size_t m) {
    return constants->bias.data ? ((const int32_t *)constants->bias.data)[m] : 0;
}

void lc_write_parameters(void *block, size_t elements, const struct lc_geometry *g,
                         const struct lc_constants *constants, size_t first, size_t channels) {
    const struct lc_quantised_layer *layer = &constants->quantised;
    // Depthwise kernels add nothing to the image.
    const int32_t added = constants->layout == LC_TAPS ? 0 : lc_library.image_offset;
    const uint32_t taken = (uint32_t)(layer->input_zero + added);
    size_t line = elements * sizeof(float);
    lc_round_up(&line);
    for (size_t m = 0; m < channels; m++) {
        size_t count, step;
        const int8_t *weights = weights_of(g, constants, first + m, &count, &step);
        uint32_t sum = 0; // wraps as the kernel's sums do
        for (size_t i = 0; i < count; i++) {
            sum += (uint32_t)(int32_t)weights[i * step];
        }
        uint32_t bias = (uint32_t)bias_of(constants, first + m) - taken * sum;
        float ratio = lc_ratio(layer, first + m);
        memcpy((char *)block + m * sizeof bias, &bias, sizeof bias);
        memcpy((char *)block + line + m * sizeof ratio, &ratio, sizeof ratio);
    }
    struct parameters parameters = parameters_of(g, layer);
    memcpy((char *)block + 2 * line, &parameters, sizeof parameters);
}

// The kernel in plain C

// The sum of one output element.
static int32_t sum_of(const struct lc_geometry *g, const struct lc_constants *constants,
                      const int8_t *x, int32_t oy, int32_t ox, size_t m) {
    size_t count, step, channels = (size_t)(g->in_channels / g->groups);
    size_t group = m / (size_t)(g->out_channels / g->groups);
    const int8_t *weights = weights_of(g, constants, m, &count, &step);
    uint32_t sum = (uint32_t)bias_of(constants, m);
    for (int32_t kh = 0; kh < g->kernel_height; kh++) {
        int64_t row = lc_multiply_add(oy, g->stride_height, -(int64_t)g->pad_top) +
                      lc_multiply_add(kh, g->dilation_height, 0);
        for (int32_t kw = 0; kw < g->kernel_width; kw++, weights += channels * step) {
            int64_t column = lc_multiply_add(ox, g->stride_width, -(int64_t)g->pad_left) +
                             lc_multiply_add(kw, g->dilation_width, 0);
            if (row < 0 || row >= g->in_height || column < 0 || column >= g->in_width) {
                continue;
            }
            size_t pixel = (size_t)row * (size_t)g->in_width + (size_t)column;
            const int8_t *from = x + pixel * (size_t)g->in_channels + group * channels;
            for (size_t c = 0; c < channels; c++) {
                sum += (uint32_t)((from[c] - constants->quantised.input_zero) * weights[c * step]);
            }
        }
    }
    return (int32_t)sum;
}

void lc_quantised_conv(const struct lc_geometry *g, const struct lc_constants *constants,
                       const int8_t *x, int8_t *y, int32_t begin, int32_t end) {
    struct parameters parameters = parameters_of(g, &constants->quantised);
    float most = (float)(parameters.high - parameters.zero);
    int32_t out_width = lc_out_width(g);
    size_t out_channels = (size_t)g->out_channels;
    y += (size_t)begin * (size_t)out_width * out_channels;
    for (int32_t oy = begin; oy < end; oy++) {
        for (int32_t ox = 0; ox < out_width; ox++, y += out_channels) {
            for (size_t m = 0; m < out_channels; m++) {
                float value = (float)sum_of(g, constants, x, oy, ox, m);
                value *= lc_ratio(&constants->quantised, m);
                // Far enough below every element, and no overflow.
                value = clamp(value, -1024.0f, most);
                int32_t element = (int32_t)lrintf(value) + parameters.zero;
                y[m] = (int8_t)(element > parameters.low ? element : parameters.low);
            }
        }
    }
}
