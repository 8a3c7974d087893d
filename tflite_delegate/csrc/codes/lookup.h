// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stddef.h>
#include <stdint.h>

// y[i] = table[x[i]] on a processor of these LC_CPU_*; y may be x.
void lc_look_up(const uint8_t table[256], uint32_t features, const uint8_t *x, uint8_t *y,
                size_t count);
