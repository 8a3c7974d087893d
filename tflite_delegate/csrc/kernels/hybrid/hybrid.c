// SPDX-License-Identifier: Apache-2.0

#include "kernels/hybrid/hybrid.h"

#include "kernels/geometry.h"
#include "kernels/hybrid/steps.h"
#include "kernels/quantised/quantised.h"
#include "kernels/weights.h"

// One image, and the steps of the part that an output pixel reads.
struct image {
    const float *x;
    size_t first, count; // elements of that part
    struct lc_steps steps;
};

// The sum of one output element.
static int32_t sum_of(const struct lc_geometry *g, const struct lc_constants *constants,
                      const struct image *image, int32_t oy, int32_t ox, size_t m) {
    size_t channels = (size_t)(g->in_channels / g->groups);
    size_t group = m / (size_t)(g->out_channels / g->groups), tap = 0;
    enum lc_dynamic rule = (enum lc_dynamic)g->dynamic;
    uint32_t sum = 0;
    for (int32_t kh = 0; kh < g->kernel_height; kh++) {
        for (int32_t kw = 0; kw < g->kernel_width; kw++, tap++) {
            size_t pixel = lc_tap_pixel(g, oy, ox, kh, kw);
            if (pixel == SIZE_MAX) {
                continue;
            }
            size_t from = pixel * (size_t)g->in_channels + group * channels;
            const int8_t *weights = constants->weights.data;
            weights += lc_weights_index(constants, g, m, tap);
            for (size_t c = 0; c < channels; c++) {
                int32_t code = lc_code_of(rule, &image->steps, image->x[from + c],
                                          from + c - image->first, image->count);
                sum += (uint32_t)((code - image->steps.zero) * weights[c]);
            }
        }
    }
    return (int32_t)sum;
}

void lc_hybrid_conv(const struct lc_geometry *g, const struct lc_constants *constants,
                    const float *x, float *y, int32_t begin, int32_t end) {
    enum lc_dynamic rule = (enum lc_dynamic)g->dynamic;
    bool by_row = lc_is_by_row(rule);
    int32_t out_width = lc_out_width(g);
    size_t out_channels = (size_t)g->out_channels, depth = (size_t)g->in_channels;
    size_t elements = (size_t)g->in_height * (size_t)g->in_width * depth;
    struct image image = {.x = x, .count = by_row ? depth : elements};
    if (!by_row) {
        image.steps = lc_steps_of(rule, x, elements);
    }
    y += (size_t)begin * (size_t)out_width * out_channels;
    for (int32_t oy = begin; oy < end; oy++) {
        for (int32_t ox = 0; ox < out_width; ox++, y += out_channels) {
            if (by_row) {
                image.first = ((size_t)oy * (size_t)out_width + (size_t)ox) * depth;
                image.steps = lc_steps_of(rule, x + image.first, depth);
            }
            for (size_t m = 0; m < out_channels; m++) {
                y[m] = lc_dequantise(rule, sum_of(g, constants, &image, oy, ox, m),
                                     image.steps.scale, lc_scale_of(constants, m),
                                     lc_bias_read(constants, m), m, out_channels);
            }
        }
    }
}
