// SPDX-License-Identifier: Apache-2.0
//
// One chain of layers that runs in the delegate, and the delegate that it belongs to.

#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/kernel_table.h"
#include "host/lock.h"
#include "host/options.h"
#include "host/tflite_abi.h"
#include "kernels/weights.h"
#include "layer/chain.h"
#include "layer/constants/filters.h"
#include "run/copies/copies.h"

struct lc_halved;
struct lc_network;
struct lc_node;
struct lc_operator_node;

// A graph whose nodes are being claimed.
struct lc_claim {
    const struct tfl_context *context;
    int32_t graph_nodes;      // before any was replaced
    int32_t plan;             // of the library's, that it is claimed for
    const int *sources;       // as of struct lc_graph
    struct lc_region *region; // for its packed weights; NULL: each node's are memory of their own
    struct lc_claim *next;
};

struct lc_delegate {
    struct tfl_delegate base; // what TFLite sees; must be first
    struct lc_options options;
    char failure[256];       // why no interpreter can use this delegate; empty if all is well
    atomic_int most_threads; // with which memory_limit is kept; 0: any number

    struct lc_delegate *older; // that was created before and lives

    struct lc_lock lock;                // guards what follows
    struct lc_node *nodes;              // of all interpreters that live
    struct lc_operator_node *operators; // likewise
    struct lc_claim *claims;            // in progress
    struct lc_network *waiting;         // built, and not yet in a node of TFLite
    struct lc_halved *halved;           // tensors that are float16 meanwhile, of each graph
    size_t live_bytes;                  // packed weights and biases of these
    int32_t unknown;                    // float layers without a kernel, of the graph prepared last
    const struct lc_promise *promise;   // of what that holds; NULL: none
    size_t arena_bytes;                 // TFLite's, of what ran first after it was prepared last
};

// The claim in progress of a graph; empty if there is none.
struct lc_claim lc_claim_of(struct lc_delegate *delegate, const struct tfl_context *context);

enum { LC_NAME_BYTES = 256 };

struct lc_node {
    struct lc_delegate *delegate;
    const struct tfl_context *context; // of its graph
    struct lc_node *next, *previous;
    const struct lc_place *place;           // what it was claimed for, NULL if only by its shape
    const struct lc_kernel *claimed_kernel; // the kernel that the weights were packed for
    bool is_packed;                         // false: only the generic kernel can run
    struct lc_packed packed;
    struct lc_filters *filters; // that the claimed kernel computes; NULL: all

    // Set by every prepare; guarded by the delegate's lock because the report reads them.
    const struct lc_geometry *layers; // of the chain: the kernel's, or
    struct lc_geometry *own_layers;   // if these differ
    int32_t batch;
    size_t x_bytes, r_bytes, y_bytes; // of one image of the input, the residual and the output,
                                      // which may be of different types
    const struct lc_kernel *kernel;   // NULL: the generic C kernel
    int32_t threads;
    size_t workspace_bytes;
    size_t staged; // offset in the workspace of an image that is spread over the output, or of
                   // what the generic kernel copies because the output may lie in its place
    struct lc_copy input, residual, output; // of as many images as one call computes
    const char *name;                       // the kernel's, or that of the generic one
    char *generic_name;                     // of LC_NAME_BYTES; NULL while none was needed

    bool repeats_residual; // of one image, for a batch
    int workspace;         // tensor index, -1 while there is none
    bool is_measured;      // since it was prepared: see run/account
    atomic_ullong calls, generic_calls;

    int x, r, y;           // tensor indices, of the chain's input, residual and output
    int32_t node_count;    // of the chain
    const int *nodes;      // likewise, behind the last layer that there is
    struct lc_chain chain; // allocated up to that one
};

// Threads for an interpreter: the delegate's option, else what the interpreter was told.
int32_t lc_threads_for(const struct lc_delegate *delegate, const struct tfl_context *context);

// The node that replaces one claimed chain.
struct tfl_registration lc_node_registration(const struct lc_kernel *kernel);

// Whether TFLite may have the output where the input or the residual is.
bool lc_node_works_in_place(const struct lc_node *node);

// Its `prepare` and `invoke`.
int lc_node_prepare(struct tfl_context *context, struct tfl_node *tfl_node);
int lc_node_invoke(struct tfl_context *context, struct tfl_node *tfl_node);
