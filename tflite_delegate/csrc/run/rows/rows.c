// SPDX-License-Identifier: Apache-2.0
//
// Each layer asks the one before for the rows that it reads, and keeps them until it has moved on:
// a window of rows that lie side by side. What a residual needs is kept until it was added.

#include "run/rows/rows.h"

#include <string.h>

#include "host/pool.h"
#include "kernels/geometry.h"

// The rows [first, end) of a layer's input that are kept.
struct held {
    int32_t first, end;
    size_t row_bytes;
};

// One strip of columns of one thread's rows.
struct walk {
    const struct lc_kernel *kernel;
    const struct lc_row_kernel *layers; // of the strip
    const char *x, *weights, *bias;
    uint8_t *windows;
    struct held held[LC_MAX_LAYERS];
    int32_t next[LC_MAX_LAYERS]; // row of each layer's output
};

struct job {
    const struct lc_kernel *kernel;
    const char *x, *weights, *bias;
    char *y;
    uint8_t *workspace;
};

static bool compute_row(struct walk *walk, int32_t i, int32_t row, char *y);

static size_t pixel_bytes(const struct lc_geometry *layer, int32_t channels) {
    return (size_t)channels * lc_element_bytes(layer);
}

static char *window_of(const struct walk *walk, int32_t i) {
    return (char *)walk->windows + walk->kernel->walk->windows[i].offset;
}

// Column `column` of a row of the chain's input.
static const char *input_at(const struct walk *walk, int32_t row, int32_t column) {
    const struct lc_geometry *g = walk->kernel->layers;
    return walk->x +
           ((size_t)row * (size_t)g->in_width + (size_t)column) * pixel_bytes(g, g->in_channels);
}

// Column `column` of a row of layer `i`'s input, which is kept.
static const char *held_at(const struct walk *walk, int32_t i, int32_t row, int32_t column) {
    const struct lc_geometry *g = &walk->kernel->layers[i];
    size_t before = (size_t)(column - walk->layers[i].in_begin) * pixel_bytes(g, g->in_channels);
    return window_of(walk, i) + (size_t)(row - walk->held[i].first) * walk->held[i].row_bytes +
           before;
}

// The first row of layer `i`'s input that is still needed, if the layer reads those from `begin`.
static int32_t oldest(const struct walk *walk, int32_t i, int32_t begin) {
    for (int32_t j = i; i > 0 && j < walk->kernel->layer_count; j++) {
        bool adds = walk->kernel->walk->windows[j].source == i;
        begin = adds && walk->next[j] < begin ? walk->next[j] : begin;
    }
    return begin;
}

// Has the window of layer `i` hold the rows [begin, end) of its input.
static bool fill(struct walk *walk, int32_t i, int32_t begin, int32_t end) {
    const struct lc_geometry *g = &walk->kernel->layers[i];
    struct held *held = &walk->held[i];
    char *window = window_of(walk, i);
    int32_t keep = oldest(walk, i, begin);
    if (held->end < keep) { // what strides leave out
        held->first = held->end = keep;
    }
    if (end - held->first > walk->kernel->walk->windows[i].rows) {
        size_t gone = (size_t)(keep - held->first), kept = (size_t)(held->end - keep);
        memmove(window, window + gone * held->row_bytes, kept * held->row_bytes);
        held->first = keep;
    }
    bool good = true;
    for (; good && held->end < end; held->end++) {
        char *to = window + (size_t)(held->end - held->first) * held->row_bytes;
        if (held->end < 0 || held->end >= g->in_height) {
            memset(to, 0, held->row_bytes);
        } else if (i == 0) {
            memcpy(to, input_at(walk, held->end, walk->layers->in_begin), held->row_bytes);
        } else {
            good = compute_row(walk, i - 1, held->end, to);
        }
    }
    return good;
}

// What is added to a row of layer `i`'s output; NULL if nothing is.
static const char *residual_of(const struct walk *walk, int32_t i, int32_t row) {
    const int32_t source = walk->kernel->walk->windows[i].source;
    const int32_t column = walk->layers[i].out_begin;
    if (source < 0) {
        return NULL;
    }
    return source == 0 ? input_at(walk, row, column) : held_at(walk, source, row, column);
}

// Computes one row of layer `i`'s output, and before that of the layers in front what it reads.
static bool compute_row(struct walk *walk, int32_t i, int32_t row, char *y) {
    const struct lc_geometry *g = &walk->kernel->layers[i];
    const struct lc_row_window *window = &walk->kernel->walk->windows[i];
    const struct lc_row_kernel *layer = &walk->layers[i];
    const int32_t begin = row * g->stride_height - g->pad_top;
    const int32_t end = begin + (g->kernel_height - 1) * g->dilation_height + 1;
    walk->next[i] = row;
    if (window->rows && !fill(walk, i, begin, end)) {
        return false;
    }
    const char *x = window->rows ? held_at(walk, i, begin, layer->in_begin)
                                 : input_at(walk, begin, layer->in_begin);
    const char *r = residual_of(walk, i, row);
    for (int32_t j = 0; j < layer->stage_count; j++) {
        const struct lc_stage *stage = &layer->stages[j];
        if (stage->function(x, r, walk->weights + window->weights, walk->bias + window->bias, y,
                            NULL, 0, 0, stage->extent) != 0) {
            return false;
        }
    }
    return true;
}

// Nothing is held yet; rows are computed from those on that row `row` of the output needs.
static void begin_strip(struct walk *walk, int32_t row) {
    for (int32_t i = walk->kernel->layer_count - 1; i >= 0; i--) {
        const struct lc_geometry *g = &walk->kernel->layers[i];
        const struct lc_row_kernel *layer = &walk->layers[i];
        size_t pixels = (size_t)(layer->in_end - layer->in_begin);
        walk->held[i] =
            (struct held){INT32_MIN, INT32_MIN, pixels * pixel_bytes(g, g->in_channels)};
        walk->next[i] = row;
        row = row * g->stride_height - g->pad_top;
        row = row > 0 ? row : 0;
    }
}

static bool walk_band(void *argument, int32_t thread, int32_t begin, int32_t end) {
    const struct job *job = argument;
    const struct lc_kernel *kernel = job->kernel;
    const int32_t last = kernel->layer_count - 1;
    const struct lc_geometry *g = &kernel->layers[last];
    const size_t pixel = pixel_bytes(g, g->out_channels);
    struct walk walk = {
        .kernel = kernel,
        .x = job->x,
        .weights = job->weights,
        .bias = job->bias,
        .windows = job->workspace + (size_t)thread * kernel->thread_bytes,
    };
    const int32_t width =
        kernel->walk->kernels[kernel->walk->strips * kernel->layer_count - 1].out_end;
    bool good = true;
    for (int32_t strip = 0; good && strip < kernel->walk->strips; strip++) {
        walk.layers = &kernel->walk->kernels[strip * kernel->layer_count];
        begin_strip(&walk, begin);
        for (int32_t row = begin; good && row < end; row++) {
            size_t before = (size_t)row * (size_t)width + (size_t)walk.layers[last].out_begin;
            good = compute_row(&walk, last, row, job->y + before * pixel);
        }
    }
    return good;
}

bool lc_walk_rows(const struct lc_kernel *kernel, const char *x, const char *weights,
                  const char *bias, char *y, uint8_t *workspace, int32_t threads) {
    struct job job = {kernel, x, weights, bias, y, workspace};
    const int32_t rows = lc_out_rows(&kernel->layers[kernel->layer_count - 1]);
    return lc_pool_run(threads, rows, true, walk_band, &job);
}
