// SPDX-License-Identifier: Apache-2.0
//
// Float16, as uint16_t, from and to float32.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

float lc_half_to_float(uint16_t half);

// Rounds to the nearest, ties to even; what is too large becomes infinite.
uint16_t lc_float_to_half(float value);

// Element `index` of an array of either becomes `value`.
void lc_store_float(void *array, size_t index, float value, bool is_half);

void lc_widen(float *to, const uint16_t *from, size_t count);
void lc_narrow(uint16_t *to, const float *from, size_t count);
