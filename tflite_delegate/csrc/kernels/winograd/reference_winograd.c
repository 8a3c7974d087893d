// SPDX-License-Identifier: Apache-2.0

#include "kernels/winograd/reference_winograd.h"

#include <string.h>

#include "kernels/geometry.h"

// Output channels whose products are in hand at once.
enum { CHUNK = 16, MAX_POINTS = LC_MAX_INPUTS * LC_MAX_INPUTS };

const struct lc_domain *lc_domain_of(const struct lc_geometry *g) {
    for (size_t i = 0; i < lc_library.domain_count; i++) {
        const struct lc_domain *domain = &lc_library.domains[i];
        if (domain->outputs == g->domain && domain->taps == g->kernel_height) {
            return domain;
        }
    }
    return NULL;
}

// A tile of the output, of one layer.
struct tile {
    const struct lc_reference *layer;
    const struct lc_domain *domain;
    int32_t down, across; // among all tiles
    size_t inputs;        // along one axis
};

static double pixel(const struct tile *tile, size_t i, size_t j, size_t c) {
    const struct lc_geometry *g = tile->layer->geometry;
    int64_t row = (int64_t)tile->down * g->domain + (int64_t)i - g->pad_top;
    int64_t column = (int64_t)tile->across * g->domain + (int64_t)j - g->pad_left;
    if (row < 0 || row >= g->in_height || column < 0 || column >= g->in_width) {
        return 0.0;
    }
    size_t place = (size_t)row * (size_t)g->in_width + (size_t)column;
    return (double)((const float *)tile->layer->x)[place * (size_t)g->in_channels + c];
}

// B^T d B of input channel `c`.
static void transform(const struct tile *tile, size_t c, double *points) {
    const size_t n = tile->inputs;
    const double *image = tile->domain->image;
    double rows[MAX_POINTS] = {0};
    for (size_t a = 0; a < n; a++) {
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < n && image[a * n + i] != 0.0; j++) {
                rows[a * n + j] += image[a * n + i] * pixel(tile, i, j, c);
            }
        }
    }
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < n; b++) {
            double sum = 0.0;
            for (size_t j = 0; j < n; j++) {
                sum += image[b * n + j] != 0.0 ? image[b * n + j] * rows[a * n + j] : 0.0;
            }
            bool is_cut = tile->layer->geometry->domain_relu && sum < 0.0; // keeps NaN
            points[a * n + b] = is_cut ? 0.0 : sum;
        }
    }
}

// Products of `count` output channels from `m` on, [points][CHUNK].
static void multiply(const struct tile *tile, size_t m, size_t count, double *products) {
    const struct lc_geometry *g = tile->layer->geometry;
    const size_t points = tile->inputs * tile->inputs;
    double transformed[MAX_POINTS];
    memset(products, 0, points * CHUNK * sizeof *products);
    for (size_t c = 0; c < (size_t)g->in_channels; c++) {
        transform(tile, c, transformed);
        for (size_t point = 0; point < points; point++) {
            for (size_t i = 0; i < count; i++) {
                float scratch;
                float weight =
                    *lc_weights_read(tile->layer->constants, g, m + i, point, c, 1, &scratch);
                products[point * CHUNK + i] += transformed[point] * (double)weight;
            }
        }
    }
}

// Row `y`, column `x` of A^T M A of the chunk's channel `i`.
static double output(const struct tile *tile, const double *products, size_t y, size_t x,
                     size_t i) {
    const size_t n = tile->inputs;
    double sum = 0.0;
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < n; b++) {
            double factor = tile->domain->output[y * n + a] * tile->domain->output[x * n + b];
            sum += factor != 0.0 ? factor * products[(a * n + b) * CHUNK + i] : 0.0;
        }
    }
    return sum;
}

void lc_winograd_row(const struct lc_reference *layer, int32_t row, float *out) {
    const struct lc_geometry *g = layer->geometry;
    const struct lc_domain *domain = lc_domain_of(g);
    if (!domain) {
        return; // no such layer is claimed
    }
    const size_t channels = (size_t)g->out_channels, width = (size_t)lc_out_width(g);
    double products[MAX_POINTS * CHUNK];
    const size_t step = (size_t)g->domain;
    for (size_t first = 0; first < width; first += step) {
        struct tile tile = {layer, domain, row / g->domain, (int32_t)(first / step),
                            step + (size_t)g->kernel_height - 1};
        for (size_t m = 0; m < channels; m += CHUNK) {
            size_t count = channels - m < CHUNK ? channels - m : CHUNK;
            multiply(&tile, m, count, products);
            for (size_t x = 0; x < step && first + x < width; x++) {
                for (size_t i = 0; i < count; i++) {
                    out[(first + x) * channels + m + i] +=
                        (float)output(&tile, products, (size_t)(row % g->domain), x, i);
                }
            }
        }
    }
}
