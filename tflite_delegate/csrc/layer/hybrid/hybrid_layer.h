// SPDX-License-Identifier: Apache-2.0
//
// What a model says of a hybrid layer: float32 input, output and bias, and int8 weights.

#pragma once

#include <stdbool.h>

#include "host/tflite_abi.h"
#include "kernels/quantised/quantised.h"
#include "layer/layer.h"

// The scales of a layer's weights. False if they have none that TFLite computes by.
bool lc_read_scales(const struct lc_layer *layer, const struct tfl_context *context,
                    struct lc_quantised_layer *quantised);

// NULL, or why such a layer is not for this delegate. Notes whether its weights have one scale.
const char *lc_check_hybrid(struct lc_layer *layer, const struct tfl_context *context);

// The rule by which TFLite computes it, as it is asked to.
enum lc_dynamic lc_dynamic_rule(const struct lc_layer *layer, const struct lc_geometry *geometry);

// Whether a PAD in front would have it computed by another rule.
bool lc_has_steps_of_rows(const struct lc_layer *layer);
