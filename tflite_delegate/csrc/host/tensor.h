// SPDX-License-Identifier: Apache-2.0
//
// TFLite's tensors and their shapes.

#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "host/tflite_abi.h"

// The tensor at `index`, or NULL if there is none.
static inline struct tfl_tensor *lc_tensor(const struct tfl_context *context, int index) {
    bool exists = index >= 0 && (size_t)index < context->tensors_size;
    return exists ? &context->tensors[index] : NULL;
}

// Whether the tensor's data never changes while its interpreter lives.
bool lc_is_constant(const struct tfl_tensor *tensor);

// Whether it is that or keeps its value between runs: no output of a node, but in a damaged model.
bool lc_is_kept(const struct tfl_tensor *tensor);

// Whether it holds float32 or float16, computed or constant.
bool lc_holds_floats(const struct tfl_tensor *tensor);

// Bytes of one element of a type that nodes compute with.
int lc_element_size(int type);

// Whether it has so many dimensions, all of them positive.
bool lc_has_rank(const struct tfl_tensor *tensor, int rank);

bool lc_ints_contain(const struct tfl_ints *ints, int value);

bool lc_same_dims(const struct tfl_ints *a, const struct tfl_ints *b);

// The product of all dimensions. False if one is negative or the product is too large.
bool lc_count_elements(const struct tfl_ints *dims, size_t *elements);

// The numbers that the codes of a tensor stand for: scale (code - zero point), with scales and zero
// points of the whole tensor or of each position along an axis.
struct lc_quantization {
    int type;            // TFL_INT8 or TFL_UINT8
    int32_t count;       // of scales: 1, or the size of the axis
    int32_t axis;        // 0, if there is one scale
    const float *scales; // TFLite's, all of them positive and finite
    const int *zero_points;
    int32_t zero_step; // 0: one zero point for all
};

// False if the tensor does not hold such codes, or its parameters do not fit them.
bool lc_read_quantization(const struct tfl_tensor *tensor, struct lc_quantization *quantization);

// An array that TFLite may free; NULL without memory.
struct tfl_ints *lc_new_ints(int size);

// Gives the tensor these dimensions, which it takes over, unless it has them already.
int lc_resize(struct tfl_context *context, int tensor, struct tfl_ints *dims);
