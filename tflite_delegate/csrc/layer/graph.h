// SPDX-License-Identifier: Apache-2.0
//
// What is known of a graph while nodes of it are claimed.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host/tflite_abi.h"

// Custom operators among the codes of built-in ones: MediaPipe's Convolution2DTransposeBias, and
// leanconv.winograd_conv2d.
enum { LC_CUSTOM_TRANSPOSE_CONV_BIAS = 1 << 16, LC_CUSTOM_WINOGRAD_CONV };

// A node of the graph, and its operator.
struct lc_node_view {
    int index;
    int32_t builtin_code; // or LC_CUSTOM_*
    const struct tfl_node *node;
    const struct tfl_registration *registration;
};

// False if TFLite cannot tell.
bool lc_node_at(struct tfl_context *context, int index, struct lc_node_view *view);

struct lc_use {
    int readers;  // inputs of nodes that name the tensor
    int reader;   // place in the plan of one of these nodes
    int producer; // place in the plan, -1 if no node computes it
    bool is_graph_output;
    bool is_misstated;                     // its shape, see misstated.h
    bool is_computed_by_us, is_read_by_us; // by a claimed node
};

enum { LC_END_OF_SOURCES = -2 };

struct lc_graph {
    struct tfl_context *context;
    struct tfl_ints *plan; // copy of the execution plan
    bool *claimed;         // of each place in the plan
    struct lc_use *uses;   // of each tensor
    int *sources;          // tensor -> the float16, int8 or sparse constant that is made into it,
                           // or -1; LC_END_OF_SOURCES behind the last
    int32_t kept_plan;     // of the library's for the model
};

// Reads the execution plan. Returns TFL_OK, TFL_ERROR if TFLite cannot tell, or
// TFL_DELEGATE_ERROR if memory cannot be had. To be freed in any case.
int lc_graph_read(struct lc_graph *graph, struct tfl_context *context);

void lc_graph_free(struct lc_graph *graph);

// Whether nobody needs what is in the tensor. A delegate's node gets no memory for such an output.
bool lc_is_unread(const struct lc_graph *graph, int tensor);

// The output of a node that makes a float32 or dense tensor of a constant: a DENSIFY, a DEQUANTIZE,
// or one behind the other. Else -1.
int lc_made_of_constant(const struct lc_graph *graph, struct lc_node_view view);

// One reader less of what a node makes of a constant. If it was the last, that node reads its input
// no longer either.
void lc_forget_reader(const struct lc_graph *graph, int tensor);
