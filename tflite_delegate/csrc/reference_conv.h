// SPDX-License-Identifier: Apache-2.0
//
// Convolution in plain C for shapes that no kernel was compiled for.

#ifndef LEANCONV_REFERENCE_CONV_H
#define LEANCONV_REFERENCE_CONV_H

#include <stdint.h>

#include "kernel_table.h"
#include "weights.h"

// Computes output rows [begin, end) of one image. Needs no workspace: weights (OHWI) and bias are
// the model's own constants.
void lc_reference_conv(const struct lc_geometry *geometry, const float *x,
                       const struct lc_constant *weights, const struct lc_constant *bias, float *y,
                       int32_t begin, int32_t end);

#endif // LEANCONV_REFERENCE_CONV_H
