// SPDX-License-Identifier: Apache-2.0

#include "run/strips/strips.h"

#include <string.h>

#include "kernels/geometry.h"
#include "operators/pooling.h"

static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

// Rows of the pool's output that need no more than the first `ready` rows of the layer's.
static int32_t complete_rows(const struct lc_geometry *g, int32_t ready) {
    if (ready >= lc_out_height(g)) {
        return lc_pooled_height(g);
    }
    int32_t behind = ready + g->pool_top - g->pool_height;
    return behind < 0 ? 0 : behind / g->pool_stride_height + 1;
}

// The input's rows for a strip that begins with row `start` of the output, in a copy with zeros
// beyond the borders if it reaches there.
static const char *input_rows(const struct lc_strips *strips, int32_t start) {
    const struct lc_geometry *g = strips->kernel->layers;
    const size_t row = (size_t)g->in_width * (size_t)g->in_channels * lc_element_bytes(g);
    const int32_t rows = (strips->kernel->rows - 1) * g->stride_height +
                         (g->kernel_height - 1) * g->dilation_height + 1;
    const int32_t first = start * g->stride_height - g->pad_top;
    const int32_t above = larger(-first, 0);
    const int32_t end = larger(smaller(rows, g->in_height - first), above);
    if (above == 0 && end == rows) {
        return strips->x + (size_t)first * row;
    }
    char *copy = (char *)strips->workspace + strips->kernel->strip_bytes;
    memset(copy, strips->zero, (size_t)above * row);
    if (end > above) {
        memcpy(copy + (size_t)above * row, strips->x + (size_t)(first + above) * row,
               (size_t)(end - above) * row);
    }
    memset(copy + (size_t)end * row, strips->zero, (size_t)(rows - end) * row);
    return copy;
}

// Rows [first, ready) of the layer's output are in the strip. Those that no window needs any more
// make room for the next ones; the last strip may compute some of them anew.
bool lc_run_strips(const struct lc_strips *strips) {
    const struct lc_geometry *g = strips->kernel->layers;
    const int32_t height = lc_out_height(g), rows = strips->kernel->rows;
    const size_t row = (size_t)lc_out_width(g) * (size_t)g->out_channels * lc_element_bytes(g);
    char *strip = (char *)strips->workspace;
    int32_t first = 0, ready = 0, pooled = 0;
    while (ready < height) {
        const int32_t start = smaller(ready, height - rows);
        const int32_t needed = larger(pooled * g->pool_stride_height - g->pool_top, 0);
        const int32_t kept = larger(first, smaller(needed, start));
        if (kept > first && kept < start) {
            memmove(strip, strip + (size_t)(kept - first) * row, (size_t)(start - kept) * row);
        }
        first = kept;
        if (!strips->run(strips->argument, input_rows(strips, start),
                         strip + (size_t)(start - first) * row)) {
            return false;
        }
        ready = start + rows;
        const int32_t complete = complete_rows(g, ready);
        const struct lc_pooled part = {
            .geometry = g,
            .x = strip,
            .first = first,
            .y = strips->y,
            .threads = strips->threads,
        };
        if (complete > pooled) {
            lc_pool_rows(&part, pooled, complete);
        }
        pooled = complete;
    }
    return true;
}
