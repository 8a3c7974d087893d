// SPDX-License-Identifier: Apache-2.0

#ifndef LEANCONV_WEIGHTS_H
#define LEANCONV_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel_table.h"

// A float32 or float16 constant of the model, read in place.
struct lc_constant {
    const void *data; // NULL: there is none, all zeros
    bool is_half;
};

float lc_half_to_float(uint16_t half);

// The `count` elements from `first` as floats: the constant itself, or copied into `scratch`.
const float *lc_constant_read(const struct lc_constant *constant, size_t first, size_t count,
                              float *scratch);

// What a kernel reads instead of the model's constants. One block of memory, which holds the
// weights and the bias of one group after another.
struct lc_packed {
    float *weights; // of the first group; NULL: not packed
    float *bias;
    size_t group_pitch; // elements from what belongs to one group to what belongs to the next
    size_t bytes;
};

// Packs weights and bias for `kernel`. False, and nothing to free, if memory cannot be had or the
// kernel does not read the layout that this delegate writes.
bool lc_pack(struct lc_packed *packed, const struct lc_kernel *kernel,
             const struct lc_constant *weights, const struct lc_constant *bias);

void lc_packed_free(struct lc_packed *packed);

#endif // LEANCONV_WEIGHTS_H
