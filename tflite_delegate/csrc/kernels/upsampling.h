// SPDX-License-Identifier: Apache-2.0
//
// A transposed convolution as an ordinary one of stride 1, whose pixels hold all output pixels that
// fall between two input pixels ("sub-pixel convolution", Shi et al., arXiv 1609.07009): so every
// algorithm serves it. With stride s, output row y + crop = s q + i takes row q of that convolution
// and its channels (i s_w + j) M to (i s_w + j + 1) M, j likewise the column. Tap a of its
// ceil(K / s) taps is tap i + s (ceil(K / s) - 1 - a) of the model's weights, zero where there is
// none.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What the model says; all zeros for any other layer.
struct lc_upsampling {
    int32_t rows, columns;                    // the stride: output pixels for each input pixel
    int32_t kernel_height, kernel_width;      // of the model's weights, OHWI
    int32_t channels;                         // M of the model
    bool same;                                // padding
    int32_t out_batch, out_height, out_width; // 0: they follow from the input
};

// The sub-pixel convolution along one axis.
struct lc_upsampled_axis {
    int32_t before, after; // its padding
    int32_t crop;          // output pixels of its first pixel that are no output
    int32_t size;          // of the output
};

// Taps of the sub-pixel convolution.
int32_t lc_upsampled_taps(int32_t kernel, int32_t stride);

// False if an output of `out` pixels (0: whatever follows) does not fit an input of `size`.
bool lc_upsample_rows(const struct lc_upsampling *up, int32_t size, struct lc_upsampled_axis *axis);
bool lc_upsample_columns(const struct lc_upsampling *up, int32_t size,
                         struct lc_upsampled_axis *axis);

// Which tap of the model's weights is tap `tap` (kh K_w + kw of the sub-pixel convolution) for its
// output channel `m`; SIZE_MAX for none.
size_t lc_upsampled_tap(const struct lc_upsampling *up, size_t m, size_t tap);

// One image of the sub-pixel convolution on its way to the output.
struct lc_spread {
    const struct lc_upsampling *up;
    struct lc_upsampled_axis height, width;
    int32_t columns; // pixels of a row of the sub-pixel convolution
    size_t element_bytes;
    const char *from;
    char *to;
};

// Writes output rows [begin, end).
void lc_spread_rows(const struct lc_spread *spread, int32_t begin, int32_t end);
