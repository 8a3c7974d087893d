// SPDX-License-Identifier: Apache-2.0

#include "kernels/upsampling.h"

#include <string.h>

#include "host/checked.h"

int32_t lc_upsampled_taps(int32_t kernel, int32_t stride) { return (kernel - 1) / stride + 1; }

// TFLite takes its padding from the output, as if that were the input of a convolution.
static bool upsample(bool same, int32_t size, int32_t kernel, int32_t stride, int64_t out,
                     struct lc_upsampled_axis *axis) {
    int64_t exact = lc_multiply_add(size, stride, 0);          // stride pixels for each
    int64_t whole = lc_multiply_add(size - 1, stride, kernel); // with all taps of the last one
    if (out == 0) {
        out = same || exact > whole ? exact : whole;
    }
    int64_t pixels = same ? (out - 1) / stride + 1 : (out - kernel + stride) / stride;
    if (out < 1 || out > INT32_MAX || pixels != size) {
        return false;
    }
    int64_t padding = same && whole > out ? (whole - out) / 2 : 0;
    int64_t first = padding / stride; // row of the sub-pixel convolution that is the output's
    int64_t last = (out + padding - 1) / stride;
    int64_t before = lc_upsampled_taps(kernel, stride) - 1 - first, after = last + 1 - size;
    if (before < 0 || after < 0) {
        return false;
    }
    *axis = (struct lc_upsampled_axis){
        .before = (int32_t)before,
        .after = (int32_t)after,
        .crop = (int32_t)(padding % stride),
        .size = (int32_t)out,
    };
    return true;
}

bool lc_upsample_rows(const struct lc_upsampling *up, int32_t size,
                      struct lc_upsampled_axis *axis) {
    return upsample(up->same, size, up->kernel_height, up->rows, up->out_height, axis);
}

bool lc_upsample_columns(const struct lc_upsampling *up, int32_t size,
                         struct lc_upsampled_axis *axis) {
    return upsample(up->same, size, up->kernel_width, up->columns, up->out_width, axis);
}

size_t lc_upsampled_tap(const struct lc_upsampling *up, size_t m, size_t tap) {
    size_t phase = m / (size_t)up->channels;
    size_t i = phase / (size_t)up->columns, j = phase % (size_t)up->columns;
    size_t rows = (size_t)lc_upsampled_taps(up->kernel_height, up->rows);
    size_t columns = (size_t)lc_upsampled_taps(up->kernel_width, up->columns);
    size_t kh = i + (size_t)up->rows * (rows - 1 - tap / columns);
    size_t kw = j + (size_t)up->columns * (columns - 1 - tap % columns);
    bool is_there = kh < (size_t)up->kernel_height && kw < (size_t)up->kernel_width;
    return is_there ? kh * (size_t)up->kernel_width + kw : SIZE_MAX;
}

void lc_spread_rows(const struct lc_spread *spread, int32_t begin, int32_t end) {
    const struct lc_upsampling *up = spread->up;
    size_t channels = (size_t)up->channels * spread->element_bytes; // in bytes
    size_t columns = (size_t)up->columns;
    size_t pixel = (size_t)up->rows * columns * channels; // of the sub-pixel convolution
    size_t crop = (size_t)spread->width.crop, width = (size_t)spread->width.size;
    for (int32_t y = begin; y < end; y++) {
        size_t row = (size_t)y + (size_t)spread->height.crop;
        size_t q = row / (size_t)up->rows, i = row % (size_t)up->rows;
        const char *from =
            spread->from + q * (size_t)spread->columns * pixel + i * columns * channels;
        char *to = spread->to + (size_t)y * width * channels;
        for (size_t x = 0; x < width;) {
            size_t j = (x + crop) % columns;
            size_t run = columns - j < width - x ? columns - j : width - x;
            const char *pixels = from + (x + crop) / columns * pixel + j * channels;
            memcpy(to + x * channels, pixels, run * channels);
            x += run;
        }
    }
}
