// SPDX-License-Identifier: Apache-2.0
//
// Tensors of floats whose type is not the one that a node computes in: float16 where it computes in
// float32, or the other way round. The node reads and writes copies in its workspace.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/tflite_abi.h"

struct lc_copy {
    size_t offset;   // in the workspace
    size_t elements; // 0: there is none, the tensor is of the right type
    bool is_half;    // the copy; then the tensor is float32, else the other way round
};

// Makes room behind `bytes` for a copy of `elements` if the tensor, of floats, is of another type
// than float16, or float32 unless `is_half`. False on overflow.
bool lc_place_copy(struct lc_copy *copy, const struct tfl_tensor *tensor, bool is_half,
                   size_t elements, size_t *bytes);

// Where a node has the elements: in `workspace`, or at `data` if there is no copy.
char *lc_copied(const struct lc_copy *copy, uint8_t *workspace, char *data);

// Fills the copy from the tensor's data, or the data from the copy. False if a thread failed.
bool lc_copy_in(const struct lc_copy *copy, uint8_t *workspace, const char *data, int32_t threads);
bool lc_copy_out(const struct lc_copy *copy, const uint8_t *workspace, char *data, int32_t threads);
