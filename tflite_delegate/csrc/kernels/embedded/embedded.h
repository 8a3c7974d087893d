// SPDX-License-Identifier: Apache-2.0
//
// Packed weights that are read-only data of the library: nothing is packed, and nothing is held.

#pragma once

#include "kernels/weights.h"

// Tells the system that what is embedded will be read again and again.
void lc_expect_embedded(void);

// Has `packed` point into the library, if what lies there for `place` was packed from `layers`: of
// as many bytes, with all of their biases, scales and zero points, and with their weights, of which
// only samples are read unless `whole`.
bool lc_take_embedded(struct lc_packed *packed, const struct lc_place *place,
                      const struct lc_constants *layers, bool whole);
