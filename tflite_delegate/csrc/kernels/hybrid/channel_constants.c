// SPDX-License-Identifier: Apache-2.0

#include "kernels/hybrid/channel_constants.h"

#include <string.h>

#include "host/checked.h"
#include "kernels/quantised/quantised.h"
#include "kernels/weights.h"

bool lc_add_constants(const struct lc_geometry *g, size_t *bytes) {
    size_t bias = *bytes;
    if (g->rule) {
        return lc_add_parameters(bytes, g->rule);
    }
    if (!g->dynamic && !g->byte_weights) {
        return true;
    }
    return lc_round_up(bytes) && lc_multiply(bytes, g->dynamic ? 2 : 1) && lc_add(bytes, bias);
}

static int32_t negative_sum_of(const struct lc_geometry *g, const struct lc_constants *constants,
                               size_t m) {
    size_t taps = (size_t)g->kernel_height * (size_t)g->kernel_width;
    size_t channels = (size_t)(g->in_channels / g->groups);
    int32_t sum = 0; // of so few that their products do not overflow either
    for (size_t tap = 0; tap < taps && constants->weights.data; tap++) {
        const int8_t *weights = constants->weights.data;
        weights += lc_weights_index(constants, g, m, tap);
        for (size_t c = 0; c < channels; c++) {
            sum -= weights[c];
        }
    }
    return sum;
}

void lc_write_constants(void *block, const struct lc_part *part, const struct lc_geometry *g,
                        const struct lc_constants *constants, size_t first, size_t channels) {
    if (g->rule) {
        lc_write_parameters(block, part, g, constants, first, channels);
        return;
    }
    size_t line = part->bias_elements * sizeof(float);
    lc_round_up(&line);
    for (size_t m = 0; m < channels; m++) {
        char *to = (char *)block + m * sizeof(float);
        float bias = lc_bias_read(constants, first + m);
        memcpy(to, &bias, sizeof bias);
        if (g->dynamic || g->byte_weights) {
            float scale = lc_scale_of(constants, first + m);
            memcpy(to + line, &scale, sizeof scale);
        }
        if (g->dynamic) {
            int32_t sum = negative_sum_of(g, constants, first + m);
            memcpy(to + 2 * line, &sum, sizeof sum);
        }
    }
}
