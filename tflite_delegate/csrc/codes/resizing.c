// SPDX-License-Identifier: Apache-2.0
//
// RESIZE_BILINEAR of codes: XNNPACK has shares of 11 binary digits and rounds once, ties going up;
// TFLite's own kernel for int8 finds positions of 10 digits, and its ties go away from zero.

#include <math.h>

#include "codes/coded.h"
#include "codes/codes.h"
#include "codes/lanes.h"

enum {
    XNNPACK_DIGITS = 11,
    TFLITE_DIGITS = 10,
    MOST_PIXELS = 16, // between the same columns that are computed at once
};

struct axis {
    int32_t in, out;
    bool align_corners, half_pixel_centers;
};

// Where a position of the output lies in the input: neighbours, and the share of the second.
struct place {
    int32_t lower, upper, share;
};

struct resizing {
    struct axis height, width;
    int32_t channels;
    bool is_signed, as_xnnpack;
    const uint8_t *x;
    uint8_t *y;
};

// Places

static struct place xnnpack_place(const struct axis *axis, int32_t i) {
    const int32_t skipped = axis->align_corners && axis->out > 1;
    const float scale = (float)(axis->in - skipped) / (float)(axis->out - skipped);
    float position = (float)i * scale;
    if (axis->half_pixel_centers) {
        LC_APART(position);
        position += 0.5f * scale - 0.5f;
    }
    const float last = (float)(axis->in - 1);
    position = position < 0.0f ? 0.0f : position > last ? last : position;
    int32_t lower = (int32_t)position;
    lower = lower < axis->in ? lower : axis->in - 1;
    return (struct place){
        .lower = lower,
        .upper = lower + 1 < axis->in ? lower + 1 : axis->in - 1,
        .share = (int32_t)lrintf((position - (float)lower) * (float)(1 << XNNPACK_DIGITS)),
    };
}

static struct place tflite_place(const struct axis *axis, int32_t i) {
    const int64_t one = 1 << TFLITE_DIGITS;
    int64_t scale = (one * axis->in + axis->out / 2) / axis->out;
    if (axis->align_corners && axis->out > 1) {
        scale = (one * (axis->in - 1) + (axis->out - 1) / 2) / (axis->out - 1);
    }
    const int64_t position = i * scale + (axis->half_pixel_centers ? scale / 2 - one / 2 : 0);
    const int64_t lower = position / one, upper = (position + one - 1) / one;
    const int64_t most = axis->in - 1, from = lower > most ? most : lower > 0 ? lower : 0;
    return (struct place){
        .lower = (int32_t)from,
        .upper = (int32_t)(upper < most ? upper : most),
        .share = (int32_t)(position - one * from),
    };
}

static struct place find_place(const struct resizing *self, const struct axis *axis, int32_t i) {
    return self->as_xnnpack ? xnnpack_place(axis, i) : tflite_place(axis, i);
}

// Pixels

// Pixels of the output between the same columns of the input.
struct pixels {
    const uint8_t *corners[2][2]; // rows, columns
    int32_t row_share, shares[MOST_PIXELS];
    int32_t count;
};

// Exact, with `digits` more than before: in any order.
LC_INLINE lc_integers16 mix(int digits, lc_integers16 a, lc_integers16 b, int32_t share) {
    return (a << digits) + (b - a) * share;
}

LC_INLINE lc_integers16 rounded(bool as_xnnpack, lc_integers16 v) {
    if (as_xnnpack) {
        return (v + (1 << (2 * XNNPACK_DIGITS - 1))) >> (2 * XNNPACK_DIGITS);
    }
    const lc_integers16 sign = v >> 31; // -1 where it is negative
    const lc_integers16 size = (v ^ sign) - sign;
    return (((size + (1 << (2 * TFLITE_DIGITS - 1))) >> (2 * TFLITE_DIGITS)) ^ sign) - sign;
}

LC_INLINE void interpolate_lanes(bool is_signed, bool as_xnnpack, const struct pixels *self,
                                 int32_t c, uint8_t *y, size_t channels, int32_t some) {
    const int digits = as_xnnpack ? XNNPACK_DIGITS : TFLITE_DIGITS;
    lc_integers16 columns[2];
    for (int k = 0; k < 2; k++) {
        columns[k] = mix(digits, lc_load16(is_signed, self->corners[0][k] + c, some),
                         lc_load16(is_signed, self->corners[1][k] + c, some), self->row_share);
    }
    LC_ROLLED
    for (int32_t i = 0; i < self->count; i++, y += channels) {
        const lc_integers16 v = mix(digits, columns[0], columns[1], self->shares[i]);
        lc_store16(y + c, rounded(as_xnnpack, v), some);
    }
}

LC_INLINE void interpolate(bool is_signed, bool as_xnnpack, const struct pixels *self, uint8_t *y,
                           int32_t channels) {
    const size_t pitch = (size_t)channels;
    int32_t c = 0;
    LC_ROLLED
    for (; c + LC_LANES16 <= channels; c += LC_LANES16) {
        interpolate_lanes(is_signed, as_xnnpack, self, c, y, pitch, LC_LANES16);
    }
    if (c < channels) {
        interpolate_lanes(is_signed, as_xnnpack, self, c, y, pitch, channels - c);
    }
}

// Rows of all images.
LC_INLINE void resize_rows(bool is_signed, bool as_xnnpack, const struct resizing *self,
                           int32_t begin, int32_t end) {
    const size_t channels = (size_t)self->channels, row = (size_t)self->width.in * channels;
    for (int32_t i = begin; i < end; i++) {
        const struct place place = find_place(self, &self->height, i % self->height.out);
        const uint8_t *image =
            self->x + (size_t)(i / self->height.out) * (size_t)self->height.in * row;
        const uint8_t *rows[2] = {image + (size_t)place.lower * row,
                                  image + (size_t)place.upper * row};
        uint8_t *y = self->y + (size_t)i * (size_t)self->width.out * channels;
        struct place next = find_place(self, &self->width, 0);
        for (int32_t column = 0; column < self->width.out;) {
            const struct place first = next;
            struct pixels pixels = {.row_share = place.share};
            for (int k = 0; k < 2; k++) {
                pixels.corners[k][0] = rows[k] + (size_t)first.lower * channels;
                pixels.corners[k][1] = rows[k] + (size_t)first.upper * channels;
            }
            while (column < self->width.out && pixels.count < MOST_PIXELS &&
                   next.lower == first.lower && next.upper == first.upper) {
                pixels.shares[pixels.count++] = next.share;
                next = find_place(self, &self->width, ++column);
            }
            interpolate(is_signed, as_xnnpack, &pixels, y, self->channels);
            y += (size_t)pixels.count * channels;
        }
    }
}

LC_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct resizing *self = argument;
    if (!self->as_xnnpack) {
        resize_rows(true, false, self, begin, end);
    } else if (self->is_signed) {
        resize_rows(true, true, self, begin, end);
    } else {
        resize_rows(false, true, self, begin, end);
    }
    return true;
}

static const char *resize_refuses(const struct lc_operation *operation) {
    return lc_follows_xnnpack() || lc_output_codes(operation).is_signed
               ? NULL
               : "uint8 is resized by XNNPACK's rounding only";
}

static void resize_compute(const struct lc_operation *operation) {
    const struct tfl_resize_params *params = operation->params;
    const struct lc_shape x = lc_input_shape(operation, 0), y = lc_output_shape(operation, 0);
    struct axis axes[2];
    for (int i = 0; i < 2; i++) {
        axes[i] = (struct axis){
            .in = x.dims[1 + i],
            .out = y.dims[1 + i],
            .align_corners = params->align_corners,
            .half_pixel_centers = params->half_pixel_centers,
        };
    }
    struct resizing self = {
        .height = axes[0],
        .width = axes[1],
        .channels = x.dims[3],
        .is_signed = lc_output_codes(operation).is_signed,
        .as_xnnpack = lc_follows_xnnpack(),
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    lc_operation_run(operation, y.dims[0] * y.dims[1], lc_count(&y, 0, y.rank), run_rows, &self);
}

const struct lc_coded lc_coded_RESIZE_BILINEAR = {
    .keeps_scale = true, .refuses = resize_refuses, .compute = resize_compute};
