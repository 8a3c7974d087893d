// SPDX-License-Identifier: Apache-2.0
//
// RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR of NHWC images.
//
// Pixels of the output that lie between the same four of the input share the sums of these along
// the columns: an enlarged image takes little more than its own size in memory.

#include <math.h>
#include <string.h>

#include "codes/coded.h"
#include "operation/operation.h"
#include "operation/vector.h"
#include "operators/halves/resizing.h"

// One axis of input and output.
struct axis {
    int32_t in, out;
    float scale; // input positions from one output position to the next
    bool align_corners, half_pixel_centers;
};

struct resizing {
    struct axis height, width;
    int32_t channels;
    bool doubles;   // see lc_mix
    size_t element; // bytes of one
    void (*interpolate)(const struct lc_pixels *pixels, void *y, size_t channels);
    const void *x;
    void *y;
};

// Where a position of the output lies in the input: neighbours and the share of the second.
struct place {
    int32_t lower, upper;
    float share;
};

static struct axis find_axis(const struct lc_operation *operation, int32_t in, int32_t out) {
    const struct tfl_resize_params *params = operation->params;
    bool aligned = params->align_corners && out > 1;
    return (struct axis){
        .in = in,
        .out = out,
        .scale = aligned ? (float)(in - 1) / (float)(out - 1) : (float)in / (float)out,
        .align_corners = params->align_corners,
        .half_pixel_centers = params->half_pixel_centers,
    };
}

// Rounded as TFLite does, product and difference apart.
static struct place find_place(const struct axis *axis, int32_t i) {
    float position = (float)i * axis->scale;
    if (axis->half_pixel_centers) {
        position = ((float)i + 0.5f) * axis->scale;
        position = position - 0.5f;
    }
    int32_t lower = position > 0.0f ? (int32_t)position : 0; // it is no less than -0.5
    int32_t upper = lower + (position > (float)lower);
    return (struct place){
        .lower = lower,
        .upper = upper < axis->in - 1 ? upper : axis->in - 1,
        .share = position - (float)lower,
    };
}

static int32_t find_nearest(const struct axis *axis, int32_t i) {
    float position = ((float)i + (axis->half_pixel_centers ? 0.5f : 0.0f)) * axis->scale;
    int32_t nearest = (int32_t)(axis->align_corners ? roundf(position) : floorf(position));
    return nearest < axis->in - 1 ? nearest : axis->in - 1;
}

static const char *resize_refuses(const struct lc_operation *operation) {
    const struct tfl_resize_params *params = operation->params;
    return params->align_corners && params->half_pixel_centers
               ? "corners and pixel centers cannot both be aligned"
               : NULL;
}

static const char *resize_infer(const struct lc_operation *operation, struct lc_shape *output) {
    int32_t count;
    const int32_t *size = lc_integers(operation, 1, &count);
    *output = lc_input_shape(operation, 0);
    if (output->rank != 4 || output->dims[1] < 1 || output->dims[2] < 1) {
        return "the input is not an image";
    }
    if (count != 2 || size[0] < 1 || size[1] < 1) {
        return "malformed size";
    }
    output->dims[1] = size[0];
    output->dims[2] = size[1];
    return NULL;
}

// One vector of channels, or `some` channels if that is not 0.
LC_INLINE void interpolate_vector(const struct lc_pixels *self, bool doubles, size_t c, float *y,
                                  size_t channels, int32_t some) {
    lc_vector columns[2];
    for (int k = 0; k < 2; k++) {
        const float *above = (const float *)self->corners[0][k] + c;
        const float *below = (const float *)self->corners[1][k] + c;
        columns[k] = some ? lc_mix(lc_load_some(above, some, 0.0f), lc_load_some(below, some, 0.0f),
                                   self->row_share, doubles)
                          : lc_mix(lc_load(above), lc_load(below), self->row_share, doubles);
    }
    LC_ROLLED
    for (int32_t i = 0; i < self->count; i++, y += channels) {
        lc_vector pixel = lc_mix(columns[0], columns[1], self->shares[i], doubles);
        if (some) {
            lc_store_some(y, pixel, some);
        } else {
            lc_store(y + c, pixel);
        }
    }
}

// The last vector of channels overlaps the one before it, unless there is none.
LC_INLINE void interpolate(const struct lc_pixels *self, bool doubles, float *y, size_t channels) {
    LC_ROLLED
    for (size_t c = 0; c + LC_LANES <= channels; c += LC_LANES) {
        interpolate_vector(self, doubles, c, y, channels, 0);
    }
    if (channels < LC_LANES) {
        interpolate_vector(self, doubles, 0, y, channels, (int32_t)channels);
    } else if (channels % LC_LANES != 0) {
        interpolate_vector(self, doubles, channels - LC_LANES, y, channels, 0);
    }
}

LC_VECTOR static void interpolate_floats(const struct lc_pixels *self, void *y, size_t channels) {
    if (self->doubles) {
        interpolate(self, true, y, channels);
    } else {
        interpolate(self, false, y, channels);
    }
}

// Rows of all images.
static bool run_bilinear(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct resizing *self = argument;
    const size_t channels = (size_t)self->channels, pixel = channels * self->element;
    const size_t row = (size_t)self->width.in * pixel;
    for (int32_t i = begin; i < end; i++) {
        const struct place place = find_place(&self->height, i % self->height.out);
        const char *image =
            (const char *)self->x + (size_t)(i / self->height.out) * (size_t)self->height.in * row;
        const char *rows[2] = {image + (size_t)place.lower * row,
                               image + (size_t)place.upper * row};
        char *y = (char *)self->y + (size_t)i * (size_t)self->width.out * pixel;
        struct place next = find_place(&self->width, 0);
        for (int32_t column = 0; column < self->width.out;) {
            const struct place first = next;
            struct lc_pixels pixels = {.row_share = place.share, .doubles = self->doubles};
            for (int k = 0; k < 2; k++) {
                pixels.corners[k][0] = rows[k] + (size_t)first.lower * pixel;
                pixels.corners[k][1] = rows[k] + (size_t)first.upper * pixel;
            }
            while (column < self->width.out && pixels.count < LC_MOST_PIXELS &&
                   next.lower == first.lower && next.upper == first.upper) {
                pixels.shares[pixels.count++] = next.share;
                next = find_place(&self->width, ++column);
            }
            self->interpolate(&pixels, y, channels);
            y += (size_t)pixels.count * pixel;
        }
    }
    return true;
}

static bool run_nearest(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct resizing *self = argument;
    const size_t pixel = (size_t)self->channels * self->element;
    const size_t row = (size_t)self->width.in * pixel;
    for (int32_t i = begin; i < end; i++) {
        size_t place = (size_t)(i / self->height.out) * (size_t)self->height.in +
                       (size_t)find_nearest(&self->height, i % self->height.out);
        char *y = (char *)self->y + (size_t)i * (size_t)self->width.out * pixel;
        for (int32_t column = 0; column < self->width.out; column++, y += pixel) {
            const char *x = (const char *)self->x + place * row;
            memcpy(y, x + (size_t)find_nearest(&self->width, column) * pixel, pixel);
        }
    }
    return true;
}

static void resize_compute(const struct lc_operation *operation) {
    struct lc_shape x = lc_input_shape(operation, 0), y = lc_output_shape(operation, 0);
    struct resizing self = {
        .height = find_axis(operation, x.dims[1], y.dims[1]),
        .width = find_axis(operation, x.dims[2], y.dims[2]),
        .channels = x.dims[3],
        .element = (size_t)operation->element_bytes,
        .interpolate = operation->is_half ? lc_half_interpolate : interpolate_floats,
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    self.doubles = self.height.scale == 0.5f && self.width.scale == 0.5f &&
                   !self.height.align_corners && !self.height.half_pixel_centers;
    bool is_bilinear = operation->builtin_code == TFL_BUILTIN_RESIZE_BILINEAR;
    lc_operation_run(operation, y.dims[0] * y.dims[1], lc_count(&y, 0, y.rank),
                     is_bilinear ? run_bilinear : run_nearest, &self);
}

#define RESIZE(builtin, ...)                                                                       \
    LC_DEFINE_OPERATOR(                                                                            \
        builtin, 2, 2, .integers = 1u << 1, .params_bytes = sizeof(struct tfl_resize_params),      \
        .refuses = resize_refuses, .infer = resize_infer, .compute = resize_compute, __VA_ARGS__)

RESIZE(RESIZE_BILINEAR, LC_IN_HALVES(resize_compute), .coded = &lc_coded_RESIZE_BILINEAR);
RESIZE(RESIZE_NEAREST_NEIGHBOR, LC_IN_HALVES(resize_compute),
       .coded = LC_KEEPS_SCALE(resize_compute));
