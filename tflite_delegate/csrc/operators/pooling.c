// SPDX-License-Identifier: Apache-2.0
//
// MAX_POOL_2D and AVERAGE_POOL_2D over NHWC images. The average counts real elements only.

#include "operators/pooling.h"

#include <math.h>

#include "codes/codes.h"
#include "codes/pooling.h"
#include "host/pool.h"
#include "kernels/geometry.h"
#include "operation/operation.h"
#include "operation/vector.h"
#include "operators/halves/pooling.h"
#include "operators/windows.h"

enum {
    VECTORS = 8, // of channels that are pooled at once
    MANY = VECTORS * LC_LANES,
    LARGE = 32,  // elements of a window that is added in the order of memory
    MOST = 256,  // channels whose sums are kept meanwhile
    AT_ONCE = 4, // pixels that are added to these
};

// Windows along one axis.
struct axis {
    int32_t in, out, window, stride, before; // before: padding
};

struct pooling {
    struct axis height, width;
    int32_t channels;
    int32_t first_in, first_out; // rows that `x` and the first item of work begin with
    int32_t pieces, piece;       // of the channels of an output row that are one item of work each
    float least, most;           // of the activation
    struct lc_coded_pooling codes;
    struct lc_half_pooling halves;
    const void *x;
    void *y;
};

enum kind { LARGEST, AVERAGE, CODES, HALVES };

// False if TFLite would make less than nothing of an image that is smaller than a window; what is
// only a little smaller makes an empty output.
static bool find_axis(struct axis *axis, int padding, int32_t in, int32_t window, int32_t stride) {
    *axis = (struct axis){.in = in, .window = window, .stride = stride};
    if (padding == TFL_PADDING_VALID) {
        axis->out = (int32_t)(((int64_t)in + stride - window) / stride);
        return axis->out >= 0;
    }
    axis->out = (int32_t)(((int64_t)in + stride - 1) / stride);
    int64_t total = (int64_t)(axis->out - 1) * stride + window - in;
    axis->before = total > 0 ? (int32_t)(total / 2) : 0;
    return true;
}

static bool find_axes(const struct lc_operation *operation, struct pooling *self) {
    const struct tfl_pool_params *params = operation->params;
    struct lc_shape x = lc_input_shape(operation, 0);
    return find_axis(&self->height, params->padding, x.dims[1], params->filter_height,
                     params->stride_height) &&
           find_axis(&self->width, params->padding, x.dims[2], params->filter_width,
                     params->stride_width);
}

static const char *pool_refuses(const struct lc_operation *operation) {
    const struct tfl_pool_params *params = operation->params;
    if (params->padding != TFL_PADDING_SAME && params->padding != TFL_PADDING_VALID) {
        return "unknown padding";
    }
    if (params->stride_height < 1 || params->stride_width < 1 || params->filter_height < 1 ||
        params->filter_width < 1) {
        return "malformed stride or window";
    }
    if (params->activation < TFL_ACTIVATION_NONE || params->activation > TFL_ACTIVATION_RELU6) {
        return "activation is not supported";
    }
    return NULL;
}

static const char *pool_infer(const struct lc_operation *operation, struct lc_shape *output) {
    *output = lc_input_shape(operation, 0);
    if (output->rank != 4) {
        return "the input is not an image";
    }
    struct pooling self;
    if (!find_axes(operation, &self)) {
        return "the window is larger than the image";
    }
    output->dims[1] = self.height.out;
    output->dims[2] = self.width.out;
    return NULL;
}

// The positions of window number `i` that are inside the image: [begin, end).
static void clip(const struct axis *axis, int32_t i, int32_t *begin, int32_t *end) {
    int64_t first = (int64_t)i * axis->stride - axis->before, last = first + axis->window;
    *begin = (int32_t)(first < 0 ? 0 : first);
    *end = (int32_t)(last < axis->in ? last : axis->in);
}

// Pools some vectors of channels or so many channels only.
LC_INLINE void pool_vectors(bool is_max, const struct pooling *self, const struct lc_window *window,
                            float *y, int vectors, int32_t count) {
    lc_vector results[VECTORS];
    for (int i = 0; i < vectors; i++) {
        results[i] = lc_splat(is_max ? -INFINITY : 0.0f);
    }
    const size_t step = window->column_step;
    const float *row = window->x;
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const float *x = row;
        int32_t w = window->columns;
        LC_ROLLED
        for (; w >= 3; w -= 3, x += 3 * step) { // most windows have two or three columns
            lc_pool_element(is_max, x, results, vectors, count);
            lc_pool_element(is_max, x + step, results, vectors, count);
            lc_pool_element(is_max, x + 2 * step, results, vectors, count);
        }
        LC_ROLLED
        for (; w > 0; w--, x += step) {
            lc_pool_element(is_max, x, results, vectors, count);
        }
    }
    const float elements = is_max ? 1.0f : (float)window->rows * (float)window->columns;
    for (int i = 0; i < vectors; i++) {
        results[i] /= elements;
    }
    if (self->least > -INFINITY || self->most < INFINITY) {
        const lc_vector least = lc_splat(self->least), most = lc_splat(self->most);
        for (int i = 0; i < vectors; i++) {
            results[i] = lc_clamp(results[i], least, most);
        }
    }
    for (int i = 0; i < vectors; i++) {
        if (count) {
            lc_store_some(y, results[i], count);
        } else {
            lc_store(y + i * LC_LANES, results[i]);
        }
    }
}

// Adds pixels of `count` channels to their sums.
LC_INLINE void add_pixels(const float *x, size_t step, int pixels, float *sums, int32_t count) {
    int32_t c = 0;
    LC_ROLLED
    for (; c + LC_LANES <= count; c += LC_LANES) {
        lc_vector part = lc_load(x + c);
        for (int i = 1; i < pixels; i++) {
            part += lc_load(x + (size_t)i * step + c);
        }
        lc_store(sums + c, lc_load(sums + c) + part);
    }
    LC_ROLLED
    for (; c < count; c++) {
        float part = x[c];
        for (int i = 1; i < pixels; i++) {
            part += x[(size_t)i * step + (size_t)c];
        }
        sums[c] += part;
    }
}

// The average of a large window for `count` channels, MOST at most.
LC_INLINE void average(const struct pooling *self, const struct lc_window *window, float *y,
                       int32_t count) {
    float sums[MOST] = {0};
    const size_t step = window->column_step;
    const bool spans_rows = window->row_step == (size_t)window->columns * step;
    const int32_t rows = spans_rows ? 1 : window->rows;
    for (int32_t h = 0; h < rows; h++) {
        const float *x = (const float *)window->x + (size_t)h * window->row_step;
        int32_t w = window->columns * (spans_rows ? window->rows : 1);
        LC_ROLLED
        for (; w >= AT_ONCE; w -= AT_ONCE, x += AT_ONCE * step) {
            add_pixels(x, step, AT_ONCE, sums, count);
        }
        LC_ROLLED
        for (; w > 0; w--, x += step) {
            add_pixels(x, step, 1, sums, count);
        }
    }
    const lc_vector least = lc_splat(self->least), most = lc_splat(self->most);
    const float elements = (float)window->rows * (float)window->columns;
    LC_ROLLED
    for (int32_t c = 0; c < count; c += LC_LANES) {
        lc_vector result = lc_clamp(lc_load(sums + c) / elements, least, most);
        if (count - c < LC_LANES) {
            lc_store_some(y + c, result, count - c);
        } else {
            lc_store(y + c, result);
        }
    }
}

LC_INLINE void pool_pixel(bool is_max, const struct pooling *self, struct lc_window window,
                          float *y, int32_t count) {
    if (!is_max && (int64_t)window.rows * window.columns >= LARGE) {
        LC_ROLLED
        for (int32_t part; count > 0; count -= part, y += part) {
            part = count < MOST ? count : MOST;
            average(self, &window, y, part);
            window.x = (const float *)window.x + part;
        }
        return;
    }
    LC_ROLLED
    for (; count >= MANY; count -= MANY, y += MANY) {
        pool_vectors(is_max, self, &window, y, VECTORS, 0);
        window.x = (const float *)window.x + MANY;
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, y += LC_LANES) {
        pool_vectors(is_max, self, &window, y, 1, 0);
        window.x = (const float *)window.x + LC_LANES;
    }
    if (count > 0) {
        pool_vectors(is_max, self, &window, y, 1, count);
    }
}

// How many windows from number `ox` on are of three columns inside of an image, two apart.
static int32_t count_threes(const struct axis *axis, int32_t ox) {
    if (axis->window != 3 || axis->stride != 2 || 2 * ox < axis->before) {
        return 0;
    }
    const int32_t end = (axis->in + axis->before - 1) / 2;
    return (end < axis->out ? end : axis->out) - ox;
}

// Pieces [begin, end) of the output rows of all images.
LC_INLINE void pool_rows(enum kind kind, const struct pooling *self, int32_t begin, int32_t end) {
    const size_t element = kind == CODES ? 1 : kind == HALVES ? sizeof(uint16_t) : sizeof(float);
    size_t channels = (size_t)self->channels, in_row = (size_t)self->width.in * channels;
    for (int32_t item = begin; item < end; item++) {
        const int32_t i = self->first_out + item / self->pieces,
                      first = item % self->pieces * self->piece;
        const int32_t rest = self->channels - first;
        char *y =
            (char *)self->y + ((size_t)i * (size_t)self->width.out * channels + first) * element;
        int32_t top, bottom, left, right;
        clip(&self->height, i % self->height.out, &top, &bottom);
        size_t row = (size_t)(i / self->height.out) * (size_t)self->height.in +
                     (size_t)(top - self->first_in);
        for (int32_t ox = 0; ox < self->width.out; ox++, y += channels * element) {
            clip(&self->width, ox, &left, &right);
            const struct lc_window window = {
                .x = (const char *)self->x +
                     (row * in_row + (size_t)left * channels + (size_t)first) * element,
                .rows = bottom - top,
                .columns = right - left,
                .row_step = in_row,
                .column_step = channels,
            };
            const int32_t count = rest < self->piece ? rest : self->piece;
            const int32_t threes = bottom - top == 3 ? count_threes(&self->width, ox) : 0;
            if (kind == CODES) {
                lc_coded_pool(&self->codes, &window, (uint8_t *)y, count);
            } else if (kind == HALVES) {
                lc_half_pool(&self->halves, &window, y, count);
            } else if (kind == LARGEST && threes > 0) {
                lc_pool_row_of_threes(window, (float *)(void *)y, threes, self->least, self->most,
                                      count);
                ox += threes - 1;
                y += (size_t)(threes - 1) * channels * element;
            } else {
                pool_pixel(kind == LARGEST, self, window, (float *)(void *)y, count);
            }
        }
    }
}

#define TASK(name, kind)                                                                           \
    LC_VECTOR static bool run_##name(void *argument, int32_t thread, int32_t begin, int32_t end) { \
        (void)thread;                                                                              \
        pool_rows(kind, argument, begin, end);                                                     \
        return true;                                                                               \
    }

TASK(max, LARGEST)
TASK(average, AVERAGE)
TASK(codes, CODES)
TASK(halves, HALVES)

static void pool_compute(const struct lc_operation *operation) {
    const struct tfl_pool_params *params = operation->params;
    struct lc_shape x = lc_input_shape(operation, 0);
    struct pooling self = {
        .channels = x.dims[3],
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    find_axes(operation, &self);
    lc_activation_range(params->activation, &self.least, &self.most);
    bool is_max = operation->builtin_code == TFL_BUILTIN_MAX_POOL_2D;
    lc_pool_task run = is_max ? run_max : run_average;
    if (operation->is_coded) {
        const struct lc_codes codes = lc_output_codes(operation);
        self.codes = (struct lc_coded_pooling){.is_max = is_max, .is_signed = codes.is_signed};
        lc_coded_activation(&codes, params->activation, is_max && lc_follows_xnnpack(),
                            &self.codes.least, &self.codes.most);
        run = run_codes;
    } else if (operation->is_half) {
        self.halves = (struct lc_half_pooling){is_max, self.least, self.most};
        run = run_halves;
    }
    int32_t rows = x.dims[0] * self.height.out;
    self.piece = rows < operation->threads ? MANY : self.channels;
    self.pieces = (self.channels - 1) / self.piece + 1;
    lc_operation_run(operation, rows * self.pieces, lc_count(&x, 0, 4), run, &self);
}

void lc_pool_rows(const struct lc_pooled *pooled, int32_t begin, int32_t end) {
    const struct lc_geometry *g = pooled->geometry;
    struct pooling self = {
        .height = {lc_out_height(g), lc_pooled_height(g), g->pool_height, g->pool_stride_height,
                   g->pool_top},
        .width = {lc_out_width(g), lc_pooled_width(g), g->pool_width, g->pool_stride_width,
                  g->pool_left},
        .channels = g->out_channels,
        .first_in = pooled->first,
        .first_out = begin,
        .x = pooled->x,
        .y = pooled->y,
    };
    const bool is_max = g->pool == LC_LARGEST, is_signed = g->element == LC_INT8;
    const int32_t least = is_signed ? INT8_MIN : 0;
    self.codes = (struct lc_coded_pooling){is_max, is_signed, least, least + UINT8_MAX};
    lc_activation_range(g->pool_activation, &self.least, &self.most);
    self.piece = end - begin < pooled->threads ? MANY : self.channels;
    self.pieces = (self.channels - 1) / self.piece + 1;
    lc_pool_run(pooled->threads, (end - begin) * self.pieces, false,
                g->element ? run_codes
                : is_max   ? run_max
                           : run_average,
                &self);
}

#define POOL(builtin)                                                                              \
    LC_DEFINE_OPERATOR(builtin, 1, 1, .params_bytes = sizeof(struct tfl_pool_params),              \
                       .refuses = pool_refuses, .infer = pool_infer, .compute = pool_compute,      \
                       LC_IN_HALVES(pool_compute), .coded = LC_KEEPS_SCALE(pool_compute))

POOL(MAX_POOL_2D);
POOL(AVERAGE_POOL_2D);
