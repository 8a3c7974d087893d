// SPDX-License-Identifier: Apache-2.0
//
// A layer with weights of Winograd's domain in plain C, for shapes that no kernel was compiled for.

#pragma once

#include "kernels/reference_conv.h"

// Adds what the definition says to output row `row`, which holds the bias: every channel of all of
// its pixels, before the activation.
void lc_winograd_row(const struct lc_reference *layer, int32_t row, float *out);

// The matrices of F(m, r) for the layer; NULL if this library has none.
const struct lc_domain *lc_domain_of(const struct lc_geometry *geometry);
