// SPDX-License-Identifier: Apache-2.0
//
// The constants of the model, element by element.

#include <string.h>

#include "kernels/halves.h"
#include "kernels/weights.h"

const float *lc_constant_read(const struct lc_constant *constant, size_t first, size_t count,
                              float *scratch) {
    if (!constant->is_half) {
        return (const float *)constant->data + first;
    }
    const uint16_t *halves = (const uint16_t *)constant->data + first;
    lc_widen(scratch, halves, count);
    return scratch;
}

static bool has_outputs_last(const struct lc_constants *constants) {
    return constants->layout == LC_VOLUME || constants->layout == LC_POINTS;
}

size_t lc_weights_index(const struct lc_constants *constants, const struct lc_geometry *g, size_t m,
                        size_t tap) {
    size_t channels = (size_t)(g->in_channels / g->groups);
    size_t taps = (size_t)g->kernel_height * (size_t)g->kernel_width;
    const struct lc_upsampling *up = &constants->upsampling;
    m = constants->filters ? (size_t)constants->filters[m] : m;
    if (up->rows) {
        tap = lc_upsampled_tap(up, m, tap);
        if (tap == SIZE_MAX) {
            return SIZE_MAX;
        }
        taps = (size_t)up->kernel_height * (size_t)up->kernel_width;
        m %= (size_t)up->channels;
    }
    if (has_outputs_last(constants)) {
        return tap * channels * (size_t)g->out_channels + m;
    }
    return constants->layout == LC_TAPS ? tap * (size_t)g->out_channels + m
                                        : (m * taps + tap) * channels;
}

const float *lc_weights_read(const struct lc_constants *constants, const struct lc_geometry *g,
                             size_t m, size_t tap, size_t c, size_t count, float *scratch) {
    size_t index = lc_weights_index(constants, g, m, tap);
    if (index == SIZE_MAX) {
        return memset(scratch, 0, count * sizeof *scratch);
    }
    const struct lc_constant *weights = &constants->weights;
    if (has_outputs_last(constants)) {
        size_t step = (size_t)g->out_channels;
        for (size_t i = 0; i < count; i++) {
            scratch[i] = *lc_constant_read(weights, index + (c + i) * step, 1, &scratch[i]);
        }
        return scratch;
    }
    if (!weights->scales && !constants->quantised.scales) {
        return lc_constant_read(weights, index + c, count, scratch);
    }
    // Those of integers are what is multiplied.
    const int8_t *codes = (const int8_t *)weights->data + index + c;
    float scale = weights->scales ? lc_scale_of(constants, m) : 1.0f;
    for (size_t i = 0; i < count; i++) {
        scratch[i] = scale * (float)codes[i];
    }
    return scratch;
}

size_t lc_model_channel(const struct lc_constants *constants, size_t m) {
    const struct lc_upsampling *up = &constants->upsampling;
    return up->rows             ? m % (size_t)up->channels
           : constants->filters ? (size_t)constants->filters[m]
                                : m;
}

float lc_scale_of(const struct lc_constants *constants, size_t m) {
    const struct lc_constant *weights = &constants->weights;
    return weights->scales[lc_model_channel(constants, m) * (size_t)weights->scale_step];
}

float lc_bias_read(const struct lc_constants *constants, size_t m) {
    if (!constants->bias.data) {
        return 0.0f;
    }
    float scratch;
    return *lc_constant_read(&constants->bias, lc_model_channel(constants, m), 1, &scratch);
}
