// SPDX-License-Identifier: Apache-2.0
//
// The operators between convolutions: TFLite's built-in ones that the delegate computes itself, in
// float32 or on codes of 8 bits and for every shape, so that a network is not cut into pieces for
// two thread pools.

#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "host/tflite_abi.h"
#include "operation/operation.h"

// One node of the model that runs in the delegate.
struct lc_operator_node {
    struct lc_delegate *delegate;
    struct lc_operator_node *next, *previous;
    int index; // of the replaced node in the model's graph
    const struct lc_operator *kind;
    struct lc_operation operation;
    size_t bytes; // of this, and what is kept behind it

    char name[96]; // set by every prepare; guarded by the delegate's lock
    atomic_ullong calls;
};

// The operator with a builtin code, or NULL.
const struct lc_operator *lc_operator_for(int32_t builtin_code);

// Whether input number `i` holds constant int32.
bool lc_is_integer_input(const struct lc_operator *kind, int i);

// Why a node must stay with TFLite; NULL if it may be claimed.
const char *lc_operator_refuses(struct tfl_context *context, const struct tfl_node *node,
                                int32_t builtin_code);

// The shapes of the outputs, LC_MAX_OUTPUTS at most; NULL, or what is wrong with the inputs.
const char *lc_operator_infer(const struct lc_operator *kind, const struct lc_operation *operation,
                              struct lc_shape *outputs);

// The node that replaces one claimed node of a known operator. inplace: enum tfl_inplace.
struct tfl_registration lc_operator_registration(int32_t builtin_code, uint64_t inplace);
