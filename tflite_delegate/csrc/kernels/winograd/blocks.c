// SPDX-License-Identifier: Apache-2.0

#include "kernels/winograd/blocks.h"

#include <string.h>

#include "host/checked.h"
#include "kernels/geometry.h"

// A row is one point and panel; see schedules/kernel/sparse/blocks.py. Without a domain, points are
// parts of the input channels of all taps.
struct blocks {
    const struct lc_geometry *geometry;
    const struct lc_constants *constants;
    size_t panel, panels, rows, channels; // channels: input channels of a row
};

// Products of an element of the output.
static size_t reduction_of(const struct lc_geometry *g) {
    return (size_t)g->kernel_height * (size_t)g->kernel_width * (size_t)g->in_channels;
}

static struct blocks blocks_of(const struct lc_part *part, const struct lc_geometry *g,
                               const struct lc_constants *constants) {
    size_t panel = (size_t)part->panel, out_channels = (size_t)g->out_channels;
    size_t panels = (out_channels + panel - 1) / panel;
    size_t channels = (size_t)(g->domain ? g->in_channels : part->run);
    size_t points = g->domain ? lc_points(g) : reduction_of(g) / channels;
    return (struct blocks){g, constants, panel, panels, points * panels, channels};
}

// Output channels of a row: the last of a point may be shorter.
static size_t row_channels(const struct blocks *blocks, size_t row) {
    size_t first = row % blocks->panels * blocks->panel;
    size_t rest = (size_t)blocks->geometry->out_channels - first;
    return rest < blocks->panel ? rest : blocks->panel;
}

// The weight of input channel `c` and channel `i` of the row.
static float weight_at(const struct blocks *blocks, size_t row, size_t c, size_t i) {
    float scratch;
    const struct lc_geometry *g = blocks->geometry;
    size_t m = row % blocks->panels * blocks->panel + i, tap = row / blocks->panels;
    if (!g->domain) {
        size_t step = tap * blocks->channels + c;
        tap = step / (size_t)g->in_channels;
        c = step % (size_t)g->in_channels;
    }
    return *lc_weights_read(blocks->constants, g, m, tap, c, 1, &scratch);
}

static bool is_kept(const struct blocks *blocks, size_t row, size_t c) {
    for (size_t i = 0; i < row_channels(blocks, row); i++) {
        if (!(weight_at(blocks, row, c, i) == 0.0f)) {
            return true;
        }
    }
    return false;
}

void lc_pack_points(float *packed, const struct lc_part *part, const struct lc_geometry *g,
                    const struct lc_constants *constants) {
    const struct blocks blocks = blocks_of(part, g, constants);
    for (size_t row = 0; row < blocks.rows; row++) {
        for (size_t c = 0; c < blocks.channels; c++, packed += blocks.panel) {
            for (size_t i = 0; i < row_channels(&blocks, row); i++) {
                packed[i] = weight_at(&blocks, row, c, i);
            }
        }
    }
}

// Where Idx and Val begin. False on overflow.
static bool find_parts(const struct lc_part *part, size_t *indices, size_t *values) {
    *indices = 0;
    if (part->rows > 0) {
        *indices = sizeof(int32_t);
        if (!lc_multiply(indices, (int64_t)part->rows + 1) || !lc_round_up(indices)) {
            return false;
        }
    }
    size_t bytes = sizeof(int16_t);
    *values = *indices;
    return lc_multiply(&bytes, part->capacity) && lc_add(values, bytes) && lc_round_up(values);
}

size_t lc_blocks_bytes(const struct lc_part *part, const struct lc_geometry *g) {
    if (!g->domain &&
        (part->run < 1 || part->run > INT16_MAX || reduction_of(g) % (size_t)part->run)) {
        return SIZE_MAX;
    }
    const struct blocks blocks = blocks_of(part, g, NULL);
    size_t indices, total, bytes = sizeof(float);
    if (part->capacity < 1 || (g->domain && g->in_channels > INT16_MAX) ||
        (part->rows ? (size_t)part->rows != blocks.rows
                    : (size_t)part->capacity % blocks.rows != 0) ||
        !find_parts(part, &indices, &total) || !lc_multiply(&bytes, part->capacity) ||
        !lc_multiply(&bytes, part->panel) || !lc_add(&total, bytes)) {
        return SIZE_MAX;
    }
    return total;
}

// Packs unless `packed` is NULL.
static bool pack(char *packed, const struct lc_part *part, const struct blocks *blocks) {
    size_t indices, values, capacity = (size_t)part->capacity;
    if (!find_parts(part, &indices, &values)) {
        return false;
    }
    size_t count = 0, size = part->rows ? 0 : capacity / blocks->rows;
    for (size_t row = 0; row < blocks->rows; row++) {
        count = part->rows ? count : row * size;
        size_t end = part->rows ? capacity : count + size;
        for (size_t c = 0; c < blocks->channels; c++) {
            if (!is_kept(blocks, row, c)) {
                continue;
            }
            if (count == end) {
                return false;
            }
            if (packed) {
                int16_t index = (int16_t)c;
                memcpy(packed + indices + count * sizeof index, &index, sizeof index);
                float *block = (float *)(void *)(packed + values) + count * blocks->panel;
                for (size_t i = 0; i < row_channels(blocks, row); i++) {
                    block[i] = weight_at(blocks, row, c, i);
                }
            }
            count++;
        }
        if (packed && part->rows) {
            int32_t pointer = (int32_t)count;
            memcpy(packed + (row + 1) * sizeof pointer, &pointer, sizeof pointer);
        }
    }
    return true;
}

bool lc_pack_blocks(char *packed, const struct lc_part *part, const struct lc_geometry *g,
                    const struct lc_constants *constants) {
    const struct blocks blocks = blocks_of(part, g, constants);
    return pack(packed, part, &blocks);
}

bool lc_fits_blocks(const struct lc_part *part, const struct lc_geometry *g,
                    const struct lc_constants *constants) {
    const struct blocks blocks = blocks_of(part, g, constants);
    return pack(NULL, part, &blocks);
}
