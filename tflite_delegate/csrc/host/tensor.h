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

// Whether it has so many dimensions, all of them positive.
bool lc_has_rank(const struct tfl_tensor *tensor, int rank);

bool lc_ints_contain(const struct tfl_ints *ints, int value);

bool lc_same_dims(const struct tfl_ints *a, const struct tfl_ints *b);

// The product of all dimensions. False if one is negative or the product is too large.
bool lc_count_elements(const struct tfl_ints *dims, size_t *elements);

// An array that TFLite may free; NULL without memory.
struct tfl_ints *lc_new_ints(int size);

// Gives the tensor these dimensions, which it takes over, unless it has them already.
int lc_resize(struct tfl_context *context, int tensor, struct tfl_ints *dims);
