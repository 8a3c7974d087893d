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

// OHWI to [ceil(M / panel)][K_h][K_w][C][panel]; `reduction` is K_h K_w C.
static void pack_panels(float *packed, const struct lc_constant *weights, size_t out_channels,
                        size_t reduction, size_t panel) {
    enum { CHUNK = 64 };
    float scratch[CHUNK];
    for (size_t m = 0; m < out_channels; m++) {
        float *column = packed + m / panel * panel * reduction + m % panel;
        for (size_t k = 0; k < reduction; k += CHUNK) {
            size_t count = reduction - k < CHUNK ? reduction - k : CHUNK;
            const float *row = lc_constant_read(weights, m * reduction + k, count, scratch);
            for (size_t i = 0; i < count; i++) {
                column[(k + i) * panel] = row[i];
            }
        }
    }
}

bool lc_pack(struct lc_packed *packed, const struct lc_kernel *kernel,
             const struct lc_constant *weights, const struct lc_constant *bias) {
    *packed = (struct lc_packed){0};
    const struct lc_geometry *g = &kernel->geometry;
    if (kernel->panel < 1) {
        return false;
    }
    size_t out_channels = (size_t)g->out_channels, panel = (size_t)kernel->panel;
    size_t panels = (out_channels + panel - 1) / panel;
    size_t reduction = 1;
    if (!lc_multiply(&reduction, g->kernel_height) || !lc_multiply(&reduction, g->kernel_width) ||
        !lc_multiply(&reduction, g->in_channels)) {
        return false;
    }
    size_t weight_bytes = sizeof(float);
    if (!lc_multiply(&weight_bytes, (int64_t)reduction) ||
        !lc_multiply(&weight_bytes, (int64_t)panels) ||
        !lc_multiply(&weight_bytes, kernel->panel) || weight_bytes != kernel->packed_bytes ||
        kernel->bias_elements < out_channels) {
        return false;
    }
    // The bias starts on a cache line of its own.
    size_t bias_offset = weight_bytes, bytes = kernel->bias_elements;
    if (!lc_add(&bias_offset, CACHE_LINE - 1) || !lc_multiply(&bytes, sizeof(float))) {
        return false;
    }
    bias_offset = bias_offset / CACHE_LINE * CACHE_LINE;
    void *block;
    if (!lc_add(&bytes, bias_offset) || posix_memalign(&block, CACHE_LINE, bytes) != 0) {
        return false;
    }
    memset(block, 0, bytes);
    packed->weights = block;
    packed->bias = (float *)((char *)block + bias_offset);
    packed->bytes = bytes;
    pack_panels(packed->weights, weights, out_channels, reduction, panel);
    for (size_t m = 0; bias->data && m < out_channels; m++) {
        float scratch;
        packed->bias[m] = *lc_constant_read(bias, m, 1, &scratch);
    }
    return true;
}

void lc_packed_free(struct lc_packed *packed) {
    free(packed->weights);
    *packed = (struct lc_packed){0};
}
