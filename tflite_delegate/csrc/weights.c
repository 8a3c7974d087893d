// SPDX-License-Identifier: Apache-2.0

#include "weights.h"

#include <stdlib.h>
#include <string.h>

#include "checked.h"

enum { CACHE_LINE = 64 };

float lc_half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31, mantissa = half & 1023, bits;
    if (exponent == 0) { // zero and subnormal: exact, and not flushed by a host that flushes
        float magnitude = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &magnitude, sizeof bits);
    } else if (exponent == 31) { // infinity and NaN
        bits = 0x7f800000u | mantissa << 13;
    } else {
        bits = (exponent + 112) << 23 | mantissa << 13;
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

const float *lc_constant_read(const struct lc_constant *constant, size_t first, size_t count,
                              float *scratch) {
    if (!constant->is_half) {
        return (const float *)constant->data + first;
    }
    const uint16_t *halves = (const uint16_t *)constant->data + first;
    for (size_t i = 0; i < count; i++) {
        scratch[i] = lc_half_to_float(halves[i]);
    }
    return scratch;
}

// The constant from one of its elements on.
static struct lc_constant constant_from(const struct lc_constant *constant, size_t first) {
    size_t element = constant->is_half ? sizeof(uint16_t) : sizeof(float);
    return (struct lc_constant){
        .data = (const char *)constant->data + first * element,
        .is_half = constant->is_half,
    };
}

// How packed weights of a group are made of OHWI ones: for each point of the transform's domain
// (one, without a transform) a matrix [panels][depth][panel].
struct layout {
    size_t out_channels, panel, panels;
    size_t kernel_height, kernel_width, channels; // of the OHWI weights
    size_t reduction;                             // K_h K_w C
    size_t points;
    size_t depth;  // of a matrix: C, without a transform K_h K_w C
    size_t matrix; // elements
    size_t bytes;  // of the packed weights
};

// False if the kernel's numbers make no sense or are too large.
static bool layout_of(struct layout *layout, const struct lc_kernel *kernel) {
    const struct lc_geometry *g = kernel->layers;
    const struct lc_transform *transform = kernel->parts->transform;
    if (g->groups < 1 || g->in_channels % g->groups || g->out_channels % g->groups ||
        g->in_channels < 1 || g->out_channels < 1 || g->kernel_height < 1 || g->kernel_width < 1 ||
        kernel->parts->panel < 1 ||
        (transform && (transform->rows < 1 || transform->columns < 1))) {
        return false;
    }
    size_t panel = (size_t)kernel->parts->panel,
           out_channels = (size_t)(g->out_channels / g->groups);
    *layout = (struct layout){
        .out_channels = out_channels,
        .panel = panel,
        .panels = (out_channels + panel - 1) / panel,
        .kernel_height = (size_t)g->kernel_height,
        .kernel_width = (size_t)g->kernel_width,
        .channels = (size_t)(g->in_channels / g->groups),
        .reduction = (size_t)(g->in_channels / g->groups),
        .points = 1,
    };
    if (!lc_multiply(&layout->reduction, g->kernel_height) ||
        !lc_multiply(&layout->reduction, g->kernel_width) ||
        (transform && (!lc_multiply(&layout->points, transform->rows) ||
                       !lc_multiply(&layout->points, transform->columns)))) {
        return false;
    }
    layout->depth = layout->matrix = transform ? layout->channels : layout->reduction;
    if (!lc_multiply(&layout->matrix, (int64_t)layout->panels) ||
        !lc_multiply(&layout->matrix, kernel->parts->panel)) {
        return false;
    }
    layout->bytes = sizeof(float);
    return lc_multiply(&layout->bytes, (int64_t)layout->matrix) &&
           lc_multiply(&layout->bytes, (int64_t)layout->points);
}

// Output channel `m` of the matrix of one point: its elements lie a panel apart.
static float *column_of(float *packed, const struct layout *layout, size_t point, size_t m) {
    return packed + point * layout->matrix + m / layout->panel * layout->panel * layout->depth +
           m % layout->panel;
}

// Weights that are in hand at once.
enum { CHUNK = 64 };

static size_t chunk(size_t rest) { return rest < CHUNK ? rest : CHUNK; }

static void pack_panels(float *packed, const struct layout *layout,
                        const struct lc_constant *weights) {
    float scratch[CHUNK];
    for (size_t m = 0; m < layout->out_channels; m++) {
        float *column = column_of(packed, layout, 0, m);
        for (size_t k = 0; k < layout->reduction; k += CHUNK) {
            size_t count = chunk(layout->reduction - k);
            const float *row = lc_constant_read(weights, m * layout->reduction + k, count, scratch);
            for (size_t i = 0; i < count; i++) {
                column[(k + i) * layout->panel] = row[i];
            }
        }
    }
}

// One point of `count` channels: sums = sum over i, j of height[i] w[i][j] width[j], for the
// point's rows of the transform and weights that begin with the first of those channels.
static void transform_channels(double *sums, size_t count, const struct layout *layout,
                               const double *height, const double *width,
                               const struct lc_constant *weights) {
    float scratch[CHUNK];
    memset(sums, 0, count * sizeof *sums);
    for (size_t i = 0; i < layout->kernel_height; i++) {
        for (size_t j = 0; j < layout->kernel_width; j++) {
            size_t tap = (i * layout->kernel_width + j) * layout->channels;
            const float *row = lc_constant_read(weights, tap, count, scratch);
            for (size_t c = 0; c < count; c++) {
                sums[c] += height[i] * (double)row[c] * width[j];
            }
        }
    }
}

static void pack_transformed(float *packed, const struct layout *layout,
                             const struct lc_transform *transform,
                             const struct lc_constant *weights) {
    double sums[CHUNK];
    for (size_t point = 0; point < layout->points; point++) {
        size_t a = point / (size_t)transform->columns, b = point % (size_t)transform->columns;
        const double *height = transform->height + a * layout->kernel_height;
        const double *width = transform->width + b * layout->kernel_width;
        for (size_t m = 0; m < layout->out_channels; m++) {
            float *column = column_of(packed, layout, point, m);
            for (size_t c = 0; c < layout->channels; c += CHUNK) {
                struct lc_constant first = constant_from(weights, m * layout->reduction + c);
                size_t count = chunk(layout->channels - c);
                transform_channels(sums, count, layout, height, width, &first);
                for (size_t i = 0; i < count; i++) {
                    column[(c + i) * layout->panel] = (float)sums[i];
                }
            }
        }
    }
}

static void pack_group(const struct lc_packed *packed, const struct layout *layout,
                       const struct lc_transform *transform, size_t group,
                       const struct lc_constant *weights, const struct lc_constant *bias) {
    size_t first = group * layout->out_channels;
    struct lc_constant part = constant_from(weights, first * layout->reduction);
    float *packed_weights = packed->weights + group * packed->group_pitch;
    float *packed_bias = packed->bias + group * packed->group_pitch;
    if (transform) {
        pack_transformed(packed_weights, layout, transform, &part);
    } else {
        pack_panels(packed_weights, layout, &part);
    }
    for (size_t m = 0; bias->data && m < layout->out_channels; m++) {
        float scratch;
        packed_bias[m] = *lc_constant_read(bias, first + m, 1, &scratch);
    }
}

// Rounds up to whole cache lines. False on overflow.
static bool round_up(size_t *bytes) {
    bool good = lc_add(bytes, CACHE_LINE - 1);
    *bytes = *bytes / CACHE_LINE * CACHE_LINE;
    return good;
}

bool lc_pack(struct lc_packed *packed, const struct lc_kernel *kernel,
             const struct lc_constant *weights, const struct lc_constant *bias) {
    *packed = (struct lc_packed){0};
    struct layout layout;
    if (!layout_of(&layout, kernel) || layout.bytes != kernel->parts->packed_bytes ||
        kernel->parts->bias_elements < layout.out_channels) {
        return false;
    }
    // Every group's weights, and its bias behind them, start on a cache line of their own.
    size_t bias_offset = layout.bytes, end = kernel->parts->bias_elements;
    if (!round_up(&bias_offset) || !lc_multiply(&end, sizeof(float)) ||
        !lc_add(&end, bias_offset)) {
        return false;
    }
    size_t pitch = end;
    if (!round_up(&pitch)) {
        return false;
    }
    size_t bytes = pitch;
    void *block;
    if (!lc_multiply(&bytes, kernel->layers->groups - 1) || !lc_add(&bytes, end) ||
        posix_memalign(&block, CACHE_LINE, bytes) != 0) {
        return false;
    }
    memset(block, 0, bytes);
    *packed = (struct lc_packed){
        .weights = block,
        .bias = (float *)((char *)block + bias_offset),
        .group_pitch = pitch / sizeof(float),
        .bytes = bytes,
    };
    for (size_t group = 0; group < (size_t)kernel->layers->groups; group++) {
        pack_group(packed, &layout, kernel->parts->transform, group, weights, bias);
    }
    return true;
}

void lc_packed_free(struct lc_packed *packed) {
    free(packed->weights);
    *packed = (struct lc_packed){0};
}
