// SPDX-License-Identifier: Apache-2.0
//
// What a model says of a layer of int8 or uint8: constants, scales and zero points.

#pragma once

#include <stdbool.h>

#include "host/tflite_abi.h"
#include "kernels/quantised/quantised.h"
#include "layer/layer.h"

// Whether it is a constant of int8, uint8 or int32 that holds all the elements its shape promises.
bool lc_is_dense_constant(const struct tfl_tensor *tensor, int type);

// What the elements of such a layer stand for. False if XNNPACK computes no such layer.
bool lc_read_quantised(const struct lc_layer *layer, const struct tfl_context *context,
                       struct lc_quantised_layer *quantised);

// Whether products of its weights, added in pairs as lc_geometry has them, may pass 16 bits: two
// are -128.
bool lc_overflows_pairs(const struct lc_layer *layer, const struct tfl_context *context);

// Whether XNNPACK computes, and is followed in, the sum of such a layer's output and a residual.
bool lc_adds_codes(const struct lc_layer *layer, const struct tfl_context *context, int residual,
                   int sum);

// NULL, or why such a layer is not for this delegate.
const char *lc_check_quantised(const struct lc_layer *layer, const struct tfl_context *context);
