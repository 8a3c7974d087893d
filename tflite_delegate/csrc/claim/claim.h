// SPDX-License-Identifier: Apache-2.0

#ifndef LEANCONV_CLAIM_H
#define LEANCONV_CLAIM_H

#include "host/tflite_abi.h"

// A delegate's Prepare: takes over every layer of the graph that a kernel was compiled for.
int lc_claim_layers(struct tfl_context *context, struct tfl_delegate *delegate);

#endif // LEANCONV_CLAIM_H
