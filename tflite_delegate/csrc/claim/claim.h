// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "host/tflite_abi.h"

// A delegate's Prepare: takes over every layer of the graph that a kernel was compiled for.
int lc_claim_layers(struct tfl_context *context, struct tfl_delegate *delegate);
