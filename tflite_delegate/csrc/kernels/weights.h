// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/kernel_table.h"
#include "kernels/pages/weight_region.h"
#include "kernels/quantised/quantised.h"
#include "kernels/upsampling.h"

// A float32, float16 or int8 constant of the model, read in place.
struct lc_constant {
    const void *data; // NULL: there is none, all zeros
    bool is_half;
    bool is_copy;        // of a sparse constant: it is dense, and goes away
    const float *scales; // of int8 weights that stand for floats; else NULL
    int32_t scale_step;  // 1: each output channel has a scale, or 0: one for all
};

// Weights and bias of one layer as the model holds them: the weights in LC_ROWS; in LC_TAPS, where
// every group has one input channel; or in LC_VOLUME, which are float32 or float16.
struct lc_constants {
    struct lc_constant weights, bias;
    enum lc_layout layout;
    struct lc_upsampling upsampling; // of a transposed convolution, whose weights are in LC_ROWS
    const int32_t *filters; // those that a kernel computes, of a layer in LC_ROWS; NULL: all
    size_t filter_count;    // that there are, if these are not all
    struct lc_quantised_layer quantised; // of one of int8: weights are int8, the bias is int32
};

// The `count` elements from `first` as floats: the constant itself, or copied into `scratch`.
const float *lc_constant_read(const struct lc_constant *constant, size_t first, size_t count,
                              float *scratch);

// Where the weights of output channel `m` and tap kh K_w + kw begin, for all of the group's input
// channels, side by side but in LC_VOLUME; SIZE_MAX if they are zeros.
size_t lc_weights_index(const struct lc_constants *constants, const struct lc_geometry *geometry,
                        size_t m, size_t tap);

// The weights of output channel `m` and tap kh K_w + kw for `count` of the group's input channels
// from `c` on, as lc_constant_read.
const float *lc_weights_read(const struct lc_constants *constants,
                             const struct lc_geometry *geometry, size_t m, size_t tap, size_t c,
                             size_t count, float *scratch);

// The model's output channel whose bias and scale output channel `m` has: another one of a
// transposed convolution, or of a kernel that computes not all of them.
size_t lc_model_channel(const struct lc_constants *constants, size_t m);

// The scale of the int8 weights of output channel `m`.
float lc_scale_of(const struct lc_constants *constants, size_t m);

// The bias of output channel `m`; 0 if there is none.
float lc_bias_read(const struct lc_constants *constants, size_t m);

// What a kernel reads instead of the model's constants. One block of memory, which holds the
// weights and biases of one group after another.
struct lc_packed {
    void *block;              // NULL: nothing is copied
    struct lc_region *region; // that the block is a part of; NULL: it is memory of its own
    char *weights;            // of the first group; NULL: they are read where the model has them
    char *bias;               // likewise, and what is behind it
    size_t group_pitch;       // bytes from what belongs to one group to what belongs to the next
    size_t bytes;             // of the heap
    size_t embedded_bytes;    // or of the library, where `block` is NULL: kernels/embedded
    bool weights_in_place;    // whether weights are read where the model has them
};

// What lc_pack will make, but for the block; `bias`: where each layer's bias will begin in it.
// `layers`: the constants of every layer. False if the kernel does not read the layout that this
// delegate writes.
bool lc_packed_places(struct lc_packed *packed, size_t *bias, const struct lc_kernel *kernel,
                      const struct lc_constants *layers);

// Packs weights and biases for `kernel`, in the region if there is one with room. False, and
// nothing to free, if memory cannot be had or the kernel does not read the layout that this
// delegate writes.
bool lc_pack(struct lc_packed *packed, const struct lc_kernel *kernel,
             const struct lc_constants *layers, struct lc_region *region);

void lc_packed_free(struct lc_packed *packed);
