// SPDX-License-Identifier: Apache-2.0
//
// Sparse constants: TFLite describes them as a tree with a level for every dimension in the order
// of traversal, and behind these one for every dimension that is divided into blocks. Levels are
// dense or compressed rows (CSR); the stored elements are the leaves. See
// tflite_delegate/read/sparsity.py.

#pragma once

#include <stdbool.h>

#include "host/tflite_abi.h"

// Whether the description of a sparse tensor makes sense, and all its elements of `element_bytes`
// are stored.
bool lc_is_sparse_constant(const struct tfl_tensor *tensor, size_t element_bytes);

// The dense elements of such a tensor, to be freed; NULL without memory.
void *lc_densify(const struct tfl_tensor *tensor, size_t element_bytes);

// Whether it is a float32 or float16 constant that holds all the elements its shape promises.
bool lc_is_float_constant(const struct tfl_tensor *tensor);
