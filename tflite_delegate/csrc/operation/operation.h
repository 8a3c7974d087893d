// SPDX-License-Identifier: Apache-2.0
//
// What an operator is made of, and what the implementations of operators share.
//
// An operation keeps nothing but its operands: shapes are read from the tensors at every call.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host/pool.h"
#include "host/tflite_abi.h"

enum { LC_MAX_RANK = 6, LC_MAX_OUTPUTS = 64 };

struct lc_shape {
    int32_t rank;
    int32_t dims[LC_MAX_RANK];
};

// The operands of one node.
struct lc_operation {
    struct tfl_context *context;
    const struct tfl_ints *inputs, *outputs; // tensor indices
    const void *params;                      // builtin_data
    int32_t builtin_code;
    int32_t threads;
};

struct lc_operator {
    int32_t builtin_code;
    const char *name; // shown in TFLite's profile: "leanconv/" and TFLite's name
    int least_inputs, most_inputs;
    bool splits;         // into several outputs; else there is one
    uint32_t integers;   // inputs that hold constant int32, by bit; all others are float32
    size_t params_bytes; // of builtin_data
    uint64_t inplace;    // enum tfl_inplace

    // Why the parameters are not supported, NULL if they are. May be NULL.
    const char *(*refuses)(const struct lc_operation *operation);
    // The shape of every output, for inputs whose shapes can be read. Returns NULL, or what is
    // wrong with the inputs' shapes or integers.
    const char *(*infer)(const struct lc_operation *operation, struct lc_shape *outputs);
    // Computes the outputs, which have these shapes and are not all empty.
    void (*compute)(const struct lc_operation *operation);
};

// Defines lc_operator_ADD, or another; what is not said of it is zero.
#define LC_DEFINE_OPERATOR(name, least_inputs, most_inputs, ...)                                   \
    const struct lc_operator lc_operator_##name = {TFL_BUILTIN_##name, "leanconv/" #name,          \
                                                   least_inputs, most_inputs, __VA_ARGS__}

// All of them
#define LC_OPERATOR(name) extern const struct lc_operator lc_operator_##name;
#include "operation/operator_list.h"
#undef LC_OPERATOR

// Input number `i`, and its shape.
const struct tfl_tensor *lc_input(const struct lc_operation *operation, int i);
struct lc_shape lc_input_shape(const struct lc_operation *operation, int i);
struct lc_shape lc_output_shape(const struct lc_operation *operation, int i);

const float *lc_input_data(const struct lc_operation *operation, int i);

// NULL for one of several outputs that nobody reads.
float *lc_output_data(const struct lc_operation *operation, int i);

// The constants of input number `i`; their number is written to `count`.
const int32_t *lc_integers(const struct lc_operation *operation, int i, int32_t *count);

// Reads a tensor's shape. False if its rank exceeds LC_MAX_RANK or its elements INT32_MAX.
bool lc_read_shape(const struct tfl_tensor *tensor, struct lc_shape *shape);

// Elements of dimensions [begin, end).
int32_t lc_count(const struct lc_shape *shape, int32_t begin, int32_t end);

// An axis counted from the end if it is negative. False if there is no such axis.
bool lc_find_axis(int32_t rank, int32_t *axis);

// Runs `task` over [0, items) on as many threads as pay for `elements` that are read or written.
void lc_operation_run(const struct lc_operation *operation, int32_t items, int64_t elements,
                      lc_pool_task task, void *argument);
