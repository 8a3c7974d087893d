// SPDX-License-Identifier: Apache-2.0
//
// Rules by which floats become int8, and sums of products floats again: schedules/kernel/hybrid.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/kernel_table.h"

// Of an image, or a row of a matrix: what multiplies its elements, its zero point, and one step.
struct lc_steps {
    float factor, scale;
    int32_t zero;
};

// Whether each row of a matrix has steps of its own, else each image has.
bool lc_is_by_row(enum lc_dynamic rule);

struct lc_steps lc_steps_of(enum lc_dynamic rule, const float *x, size_t count);

// The int8 of `x`, element `index` of `count`.
int32_t lc_code_of(enum lc_dynamic rule, const struct lc_steps *steps, float x, size_t index,
                   size_t count);

// The real number of a sum in output channel `m` of `channels`.
float lc_dequantise(enum lc_dynamic rule, int32_t sum, float scale, float weight_scale, float bias,
                    size_t m, size_t channels);
