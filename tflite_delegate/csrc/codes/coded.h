// SPDX-License-Identifier: Apache-2.0
//
// What operators do with codes of 8 bits, where they do not just move them. Those that are not
// named after one operator serve its whole kind.

#pragma once

#include "operation/operation.h"

extern const struct lc_coded lc_coded_ADD; // and SUB
extern const struct lc_coded lc_coded_HARD_SWISH;
extern const struct lc_coded lc_coded_LEAKY_RELU;
extern const struct lc_coded lc_coded_LOGISTIC;
extern const struct lc_coded lc_coded_MEAN;
extern const struct lc_coded lc_coded_MUL;
extern const struct lc_coded lc_coded_PRELU;
extern const struct lc_coded lc_coded_RELU; // and RELU6, RELU_N1_TO_1
extern const struct lc_coded lc_coded_RESIZE_BILINEAR;
extern const struct lc_coded lc_coded_SOFTMAX;
