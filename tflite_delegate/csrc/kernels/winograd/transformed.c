// SPDX-License-Identifier: Apache-2.0

#include "kernels/winograd/transformed.h"

#include <string.h>

#include "kernels/geometry.h"
#include "kernels/halves.h"

// Weights that are in hand at once.
enum { CHUNK = 64 };

// One point: its rows of the transform.
struct point {
    const struct lc_geometry *geometry;
    const double *height, *width;
};

// Of `count` input channels from `c` on: sums = sum over i, j of height[i] w[i][j] width[j], for
// the weights of output channel `m`.
static void transform_channels(double *sums, size_t c, size_t count, struct point point,
                               const struct lc_constants *constants, size_t m) {
    float scratch[CHUNK];
    const struct lc_geometry *g = point.geometry;
    size_t kernel_width = (size_t)g->kernel_width, taps = (size_t)lc_kernel_rows(g) * kernel_width;
    memset(sums, 0, count * sizeof *sums);
    for (size_t tap = 0; tap < taps; tap++) {
        const float *row = lc_weights_read(constants, g, m, tap, c, count, scratch);
        double h = point.height[tap / kernel_width], w = point.width[tap % kernel_width];
        for (size_t i = 0; i < count; i++) {
            sums[i] += h * (double)row[i] * w;
        }
    }
}

// Of integers, whose transforms are whole, in 16 bits.
static void store(void *packed, size_t i, double value, const struct lc_geometry *g) {
    if (lc_sums_integers(g)) {
        ((int16_t *)packed)[i] = (int16_t)value;
    } else {
        lc_store_float(packed, i, (float)value, g->half_weights);
    }
}

void lc_pack_transformed(void *packed, const struct lc_part *part, const struct lc_geometry *g,
                         const struct lc_constants *constants, size_t first, size_t out_channels) {
    double sums[CHUNK];
    const struct lc_transform *transform = part->transform;
    const size_t panel = (size_t)part->panel, channels = (size_t)(g->in_channels / g->groups);
    const size_t matrix = (out_channels + panel - 1) / panel * panel * channels;
    const size_t points = (size_t)transform->rows * (size_t)transform->columns;
    for (size_t p = 0; p < points; p++) {
        size_t a = p / (size_t)transform->columns, b = p % (size_t)transform->columns;
        struct point point = {g, transform->height + a * (size_t)lc_kernel_rows(g),
                              transform->width + b * (size_t)g->kernel_width};
        for (size_t m = 0; m < out_channels; m++) {
            size_t from = p * matrix + m / panel * panel * channels + m % panel;
            for (size_t c = 0; c < channels; c += CHUNK) {
                size_t count = channels - c < CHUNK ? channels - c : CHUNK;
                transform_channels(sums, c, count, point, constants, first + m);
                for (size_t i = 0; i < count; i++) {
                    store(packed, from + (c + i) * panel, sums[i], g);
                }
            }
        }
    }
}
