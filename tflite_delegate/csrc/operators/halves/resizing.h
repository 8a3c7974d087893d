// SPDX-License-Identifier: Apache-2.0
//
// Pixels that are interpolated; those of float16 on targets that compute with such, by way of
// float32.

#pragma once

#include "operation/vector.h"

enum { LC_MOST_PIXELS = 16 }; // between the same columns that are computed at once

// Pixels of the output between the same columns of the input.
struct lc_pixels {
    const void *corners[2][2]; // rows, columns
    float row_share, shares[LC_MOST_PIXELS];
    int32_t count;
    bool doubles; // see lc_mix
};

// What a neighbour with no share adds is NaN if it is infinite. TFLite's kernel for images of twice
// the size passes over such neighbours, its others do not, and neither does this.
LC_INLINE lc_vector lc_mix(lc_vector a, lc_vector b, float share, bool doubles) {
    return doubles && share == 0.0f ? a : a * (1.0f - share) + b * share;
}

// Writes pixels of float16.
void lc_half_interpolate(const struct lc_pixels *pixels, void *y, size_t channels);
