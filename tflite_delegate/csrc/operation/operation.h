// SPDX-License-Identifier: Apache-2.0
//
// What an operator is made of, and what the implementations of operators share.
//
// An operation keeps nothing but its operands: shapes are read from the tensors at every call.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host/pool.h"
#include "host/tensor.h"
#include "kernels/target.h"

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
    bool is_coded;             // some operands are codes of 8 bits; else all are floats
    bool is_half;              // all are float16, but for constants in float32
    int32_t element_bytes;     // of outputs
    const uint16_t **narrowed; // of each input such a constant, rounded; NULL: there are none
    const void *state;         // what lc_coded.start made
    void *plan;                // what lc_operator.plan made
    int32_t threads;
};

// What an operator does with codes of 8 bits that stand for numbers, by the library's rounding.
struct lc_coded {
    // Any types, one of them of codes: `refuses` checks them. Else all operands, but integers, are
    // codes of one type, with one scale each.
    bool converts;
    bool keeps_scale; // codes of inputs and outputs must stand for the same numbers
    // Why it does not: sees operands of the right types. May be NULL.
    const char *(*refuses)(const struct lc_operation *operation);
    size_t state_bytes;
    // Computes once what depends on quantisations, parameters and constants only. May be NULL.
    void (*start)(const struct lc_operation *operation, void *state);
    void (*compute)(const struct lc_operation *operation);
};

struct lc_operator {
    int32_t builtin_code;
    const char *name; // shown in TFLite's profile: "leanconv/" and TFLite's name
    int least_inputs, most_inputs;
    bool splits;         // into several outputs; else there is one
    uint32_t integers;   // inputs that hold constant int32, by bit
    size_t params_bytes; // of builtin_data
    uint64_t inplace;    // enum tfl_inplace

    // Why the parameters are not supported, NULL if they are. May be NULL.
    const char *(*refuses)(const struct lc_operation *operation);
    // The shape of every output, for inputs whose shapes can be read. Returns NULL, or what is
    // wrong with the inputs' shapes or integers.
    const char *(*infer)(const struct lc_operation *operation, struct lc_shape *outputs);
    size_t plan_bytes, part_plan_bytes; // of the plan, and for each output if it splits, else input
    // Finds once the operands have their shapes what `compute` would find at every call; some may
    // be empty. May be NULL.
    void (*plan)(const struct lc_operation *operation);
    // Computes the outputs, which have these shapes and are not all empty, in float32. NULL: it
    // does not.
    void (*compute)(const struct lc_operation *operation);
    const struct lc_coded *coded; // NULL: floats only
    // Computes them in float16. NULL: it does not.
    void (*compute_halves)(const struct lc_operation *operation);
};

// Defines lc_operator_ADD, or another; what is not said of it is zero.
#define LC_DEFINE_OPERATOR(name, least_inputs, most_inputs, ...)                                   \
    const struct lc_operator lc_operator_##name = {TFL_BUILTIN_##name, "leanconv/" #name,          \
                                                   least_inputs, most_inputs, __VA_ARGS__}

// The last of what is said of an operator that computes in float16 where the target does.
#if LC_HALVES
#define LC_IN_HALVES(function) .compute_halves = (function)
#else
#define LC_IN_HALVES(function) .compute_halves = NULL
#endif

// For operators whose codes stand for the same numbers before and after.
#define LC_KEEPS_SCALE(function)                                                                   \
    &(const struct lc_coded){.keeps_scale = true, .compute = (function)}

// All of them
#define LC_OPERATOR(name) extern const struct lc_operator lc_operator_##name;
#define LC_CODED_OPERATOR(name) LC_OPERATOR(name)
#include "operation/operator_list.h"
#undef LC_CODED_OPERATOR
#undef LC_OPERATOR

// The operands of a node whose parameters and tensors stay where they are.
struct lc_operation lc_operation_of(struct tfl_context *context, const struct tfl_node *node,
                                    int32_t builtin_code);

// Input number `i`, and its shape.
static inline const struct tfl_tensor *lc_input(const struct lc_operation *operation, int i) {
    return lc_tensor(operation->context, operation->inputs->data[i]);
}
struct lc_shape lc_input_shape(const struct lc_operation *operation, int i);
struct lc_shape lc_output_shape(const struct lc_operation *operation, int i);

// Those in the type of the operation.
static inline const void *lc_input_data(const struct lc_operation *operation, int i) {
    const bool is_narrowed = operation->narrowed && operation->narrowed[i];
    return is_narrowed ? (const void *)operation->narrowed[i] : lc_input(operation, i)->data;
}

// Whether input number `i` is a constant of float32 that an operation on float16 may round.
bool lc_is_wide_constant(const struct lc_operation *operation, int i);

// The constant of float16 that input number `i` is made of, or -1; `sources` as of a graph.
int lc_half_source(const struct lc_operation *operation, int i, const int *sources);

// NULL for one of several outputs that nobody reads.
static inline void *lc_output_data(const struct lc_operation *operation, int i) {
    const struct tfl_tensor *output = lc_tensor(operation->context, operation->outputs->data[i]);
    return output ? output->data : NULL;
}

// The constants of input number `i`; their number is written to `count`.
const int32_t *lc_integers(const struct lc_operation *operation, int i, int32_t *count);

// Reads a tensor's shape. False if its rank exceeds LC_MAX_RANK or its elements INT32_MAX.
bool lc_read_shape(const struct tfl_tensor *tensor, struct lc_shape *shape);

// Elements of dimensions [begin, end).
int32_t lc_count(const struct lc_shape *shape, int32_t begin, int32_t end);

// An axis counted from the end if it is negative. False if there is no such axis.
bool lc_find_axis(int32_t rank, int32_t *axis);

// Threads that pay for `elements` that are read or written.
int32_t lc_operation_threads(const struct lc_operation *operation, int64_t elements);

// Runs `task` over [0, items) on as many threads as pay for `elements` that are read or written.
void lc_operation_run(const struct lc_operation *operation, int32_t items, int64_t elements,
                      lc_pool_task task, void *argument);
