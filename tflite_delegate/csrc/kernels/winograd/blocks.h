// SPDX-License-Identifier: Apache-2.0
//
// Weights of Winograd's domain, LC_POINTS in the model: packed for kernels that multiply all of
// them, or blocks that are not zero. So are others, LC_ROWS in the model.

#pragma once

#include "kernels/weights.h"

// Matrices of [panels][C][panel], one for each point.
void lc_pack_points(float *packed, const struct lc_part *part, const struct lc_geometry *geometry,
                    const struct lc_constants *constants);

// Bytes of LC_BLOCKS; SIZE_MAX if its numbers make no sense for the layer.
size_t lc_blocks_bytes(const struct lc_part *part, const struct lc_geometry *geometry);

// Packs LC_BLOCKS into zeros. False if there are more blocks than the kernel takes.
bool lc_pack_blocks(char *packed, const struct lc_part *part, const struct lc_geometry *geometry,
                    const struct lc_constants *constants);

// Whether lc_pack_blocks would.
bool lc_fits_blocks(const struct lc_part *part, const struct lc_geometry *geometry,
                    const struct lc_constants *constants);
