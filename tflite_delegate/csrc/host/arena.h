// SPDX-License-Identifier: Apache-2.0
//
// Memory of TFLite's arena that a node has while it runs.

#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "host/tflite_abi.h"

// Has the tensor `index` take `bytes`, aligned to 64; adds it, under `name`, if the index is -1.
// False if that cannot be had.
bool lc_arena_request(struct tfl_context *context, int *index, const char *name, size_t bytes);

// Has the node's temporaries name these tensors. False without memory.
bool lc_set_temporaries(struct tfl_node *node, const int *tensors, int count);
