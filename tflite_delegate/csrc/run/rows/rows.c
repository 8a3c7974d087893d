// SPDX-License-Identifier: Apache-2.0
//
// Each layer asks the one before for the rows that it reads, and keeps them until it has moved on:
// a window of rows that lie side by side. What a residual needs is kept until it was added.
//
// In place, a row of the output is written where that row of the input was, which nobody needs any
// more: the same thread has read it, and those around it are copied before.

#include "run/rows/rows.h"

#include <string.h>

#include "host/pool.h"
#include "kernels/geometry.h"

// The rows [first, end) of a layer's input that are kept.
struct held {
    int32_t first, end;
    size_t row_bytes;
};

// Rows [begin, end) of the chain's input, as they were.
struct copied {
    const char *rows;
    int32_t begin, end;
};

// One strip of columns of one thread's rows.
struct walk {
    const struct lc_kernel *kernel;
    const struct lc_row_kernel *layers; // of the strip
    const char *x, *weights, *bias;
    uint8_t *windows;
    struct copied above, below; // of the input, in place
    struct held held[LC_MAX_LAYERS];
    int32_t next[LC_MAX_LAYERS]; // row of each layer's output
};

struct job {
    const struct lc_kernel *kernel;
    const char *x, *weights, *bias;
    char *y;
    uint8_t *workspace;
    int32_t bands; // of rows, which threads share
};

static bool compute_row(struct walk *walk, int32_t i, int32_t row, char *y);

static size_t pixel_bytes(const struct lc_geometry *layer, int32_t channels) {
    return (size_t)channels * lc_element_bytes(layer);
}

static char *window_of(const struct walk *walk, int32_t i) {
    return (char *)walk->windows + walk->kernel->walk->windows[i].offset;
}

static bool has(const struct copied *copied, int32_t row) {
    return row >= copied->begin && row < copied->end;
}

// Column `column` of a row of the chain's input.
static const char *input_at(const struct walk *walk, int32_t row, int32_t column) {
    const struct lc_geometry *g = walk->kernel->layers;
    const struct copied *copied = has(&walk->above, row)   ? &walk->above
                                  : has(&walk->below, row) ? &walk->below
                                                           : NULL;
    const char *x = copied ? copied->rows : walk->x;
    row -= copied ? copied->begin : 0;
    return x +
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
    const size_t zero = walk->kernel->walk->windows[i].zero;
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
            memset(to, zero ? walk->bias[zero] : 0, held->row_bytes);
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

static int32_t out_rows(const struct lc_kernel *kernel) {
    return lc_out_rows(&kernel->layers[kernel->layer_count - 1]);
}

// The first row of the output that band `band` computes.
static int32_t first_of(const struct job *job, int32_t band) {
    return (int32_t)((int64_t)out_rows(job->kernel) * band / job->bands);
}

// Rows of the input around row `row` that the bands on both sides of it read: how many of them are
// above it, and how many it is followed by.
static struct copied halo_at(const struct job *job, int32_t band) {
    const int32_t height = job->kernel->layers->in_height;
    int32_t above = first_of(job, band), below = above;
    for (int32_t i = 0; i < job->kernel->layer_count; i++) {
        const struct lc_geometry *g = &job->kernel->layers[i];
        above -= g->pad_top;
        below += (g->kernel_height - 1) * g->dilation_height - g->pad_top;
    }
    return (struct copied){
        .rows = (char *)job->workspace + (size_t)band * job->kernel->thread_bytes +
                job->kernel->walk->halo,
        .begin = above > 0 ? above : 0,
        .end = below < height ? below : height,
    };
}

// Copies what bands read of each other's rows, before any is written over.
static void copy_halos(const struct job *job) {
    const struct lc_geometry *g = job->kernel->layers;
    const size_t row_bytes = (size_t)g->in_width * pixel_bytes(g, g->in_channels);
    for (int32_t band = 1; band < job->bands; band++) {
        const struct copied halo = halo_at(job, band);
        memcpy((char *)(uintptr_t)halo.rows, job->x + (size_t)halo.begin * row_bytes,
               (size_t)(halo.end - halo.begin) * row_bytes);
    }
}

// Rows [begin, end) of the output.
static bool walk_band(const struct job *job, int32_t band, int32_t begin, int32_t end) {
    const struct lc_kernel *kernel = job->kernel;
    const int32_t last = kernel->layer_count - 1;
    const struct lc_geometry *g = &kernel->layers[last];
    const size_t pixel = pixel_bytes(g, g->out_channels);
    struct walk walk = {
        .kernel = kernel,
        .x = job->x,
        .weights = job->weights,
        .bias = job->bias,
        .windows = job->workspace + (size_t)band * kernel->thread_bytes,
    };
    if (job->x == job->y) {
        walk.above = band > 0 ? halo_at(job, band) : walk.above;
        walk.below = band + 1 < job->bands ? halo_at(job, band + 1) : walk.below;
    }
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

static bool walk_bands(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread; // each band has its own workspace
    const struct job *job = argument;
    bool good = true;
    for (int32_t band = begin; good && band < end; band++) {
        good = walk_band(job, band, first_of(job, band), first_of(job, band + 1));
    }
    return good;
}

bool lc_walk_rows(const struct lc_kernel *kernel, const char *x, const char *weights,
                  const char *bias, char *y, uint8_t *workspace, int32_t threads) {
    const int32_t rows = out_rows(kernel);
    const struct job job = {
        kernel, x, weights, bias, y, workspace, threads < rows ? threads : rows};
    if (x == y) {
        copy_halos(&job);
    }
    return lc_pool_run(job.bands, job.bands, true, walk_bands, (void *)(uintptr_t)&job);
}
