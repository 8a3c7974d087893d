// SPDX-License-Identifier: Apache-2.0
//
// Convolution in plain C for shapes that no kernel was compiled for.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "host/kernel_table.h"
#include "kernels/weights.h"

// One layer over one image.
struct lc_reference {
    const struct lc_geometry *geometry;
    const struct lc_constants *constants;
    const void *x, *r; // r: NULL unless the geometry has a residual
    void *y;
};

// Applies an activation.
void lc_activate(int32_t activation, float *values, size_t count);

// Computes output rows [begin, end). Needs no workspace: reads the model's own constants.
void lc_reference_conv(const struct lc_reference *layer, int32_t begin, int32_t end);
