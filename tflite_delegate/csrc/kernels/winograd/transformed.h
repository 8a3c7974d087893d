// SPDX-License-Identifier: Apache-2.0
//
// Weights of the definition, taken to Winograd's domain as they are packed.

#pragma once

#include "kernels/weights.h"

// Matrices of [panels][C][panel], one for each point of the part's transform, for `out_channels` of
// the layer's output channels from `first` on. `packed` is all zeros before.
void lc_pack_transformed(void *packed, const struct lc_part *part,
                         const struct lc_geometry *geometry, const struct lc_constants *constants,
                         size_t first, size_t out_channels);
