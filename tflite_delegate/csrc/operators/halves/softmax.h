// SPDX-License-Identifier: Apache-2.0
//
// SOFTMAX of float16, on targets that compute with such.

#pragma once

#include <stdint.h>

// One row. Powers and their sum are float32.
void lc_half_softmax(const void *x, float beta, void *y, int32_t count);
