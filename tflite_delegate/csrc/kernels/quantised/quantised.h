// SPDX-License-Identifier: Apache-2.0
//
// Layers of int8 and uint8: the numbers that their elements stand for, as kernels read them, and a
// kernel in plain C.
//
// Behind the biases of a layer, each on a cache line of its own, lie as many ratios, as the rule of
// the layer has them, and its parameters. Sums of products with the image as it is, beyond the
// border with its zero point, are right once each bias is less by the zero point times the sum of
// the channel's weights; see schedules/kernel/quantised/constants.py.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/kernel_table.h"

struct lc_constants;

// int8 side by side that are multiplied at once
enum { LC_WORD = 4, LC_MATRIX_WORD = 8, LC_LONG_WORD = 16 };
static inline bool lc_is_word(int32_t count) {
    return count == 1 || count == LC_WORD || count == LC_MATRIX_WORD || count == LC_LONG_WORD;
}

// An element x stands for scale (x - zero); weights with scales of each output channel or one for
// all, and one zero point.
struct lc_quantised_layer {
    float input_scale, output_scale;
    int32_t input_zero, output_zero, weight_zero;
    const float *scales; // the model's
    int32_t scale_step;  // 1, or 0 if there is one for all
    int32_t element;     // LC_INT8 or LC_UINT8
    bool is_dense;       // a FULLY_CONNECTED
    // Of one with a residual; its output is the other operand of the sum.
    float residual_scale, sum_scale;
    int32_t residual_zero, sum_zero;
};

// Steps of the output in one of the sums of output channel `m`: float32 as XNNPACK computes it.
float lc_ratio(const struct lc_quantised_layer *layer, size_t m);

// Adds what lies behind `bytes` of biases of a layer with this rule. False on overflow.
bool lc_add_parameters(size_t *bytes, int32_t rule);

// Writes `channels` biases, of those that a part has room for, and what lies behind them.
// `first` is the layer's output channel that is the first of these.
void lc_write_parameters(void *block, const struct lc_part *part,
                         const struct lc_geometry *geometry, const struct lc_constants *constants,
                         size_t first, size_t channels);

// Computes output rows [begin, end) of one image. r: NULL unless the geometry has a residual.
void lc_quantised_conv(const struct lc_geometry *geometry, const struct lc_constants *constants,
                       const void *x, const void *r, void *y, int32_t begin, int32_t end);
