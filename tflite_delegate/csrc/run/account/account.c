// SPDX-License-Identifier: Apache-2.0

#include "run/account/account.h"

#include <stddef.h>

#include "host/log.h"
#include "host/tensor.h"
#include "operation/operators.h"
#include "run/copies/halved.h"

static bool is_edge(const struct lc_graph *graph, size_t tensor) {
    const struct lc_use *use = &graph->uses[tensor];
    bool is_input = use->readers > 0 && use->producer < 0;
    return (is_input || use->is_graph_output) && !lc_is_constant(&graph->context->tensors[tensor]);
}

bool lc_is_promised(const struct lc_graph *graph, const struct lc_delegate *delegate) {
    const struct lc_promise *promise = lc_library.promises; // all are of one graph
    if (!lc_library.promise_count || promise->graph_nodes != graph->plan->size ||
        (delegate->options.algorithm && lc_library.algorithm_count > 1)) {
        return false;
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < graph->context->tensors_size; i++) {
        bytes += is_edge(graph, i) ? graph->context->tensors[i].bytes : 0;
    }
    return bytes == promise->edge_bytes;
}

uint64_t lc_promised_arena(const struct lc_promise *promise, int32_t threads) {
    size_t row = 0;
    while (row + 1 < promise->arena_count && promise->arenas[row].threads < threads) {
        row++;
    }
    return promise->arenas[row].bytes;
}

uint64_t lc_promised_bytes(const struct lc_promise *promise, int32_t threads) {
    return lc_promised_arena(promise, threads) + promise->packed_bytes + promise->own_bytes;
}

// From the first byte of the first tensor to the last byte of the last one.
static size_t arena_bytes(const struct tfl_context *context) {
    uintptr_t begin = UINTPTR_MAX, end = 0;
    for (size_t i = 0; i < context->tensors_size; i++) {
        const struct tfl_tensor *tensor = &context->tensors[i];
        uintptr_t data = (uintptr_t)tensor->data;
        if (tensor->allocation_type == TFL_ARENA_RW && data) {
            begin = data < begin ? data : begin;
            end = data + tensor->bytes > end ? data + tensor->bytes : end;
        }
    }
    return end > begin ? end - begin : 0;
}

// Of a node, without its packed weights.
static uint64_t node_bytes(const struct lc_node *node) {
    const size_t layers = (size_t)node->chain.layer_count;
    return offsetof(struct lc_node, chain.layers) + layers * sizeof *node->chain.layers +
           (size_t)node->node_count * sizeof *node->nodes +
           (node->own_layers ? layers * sizeof *node->own_layers : 0) +
           (node->generic_name ? LC_NAME_BYTES : 0) + lc_filters_bytes(node->filters);
}

// Of the delegate and of what it has for a graph; NULL: for every graph.
static uint64_t own_bytes(const struct lc_delegate *delegate, const struct tfl_context *context) {
    uint64_t bytes = sizeof *delegate;
    for (const struct lc_node *node = delegate->nodes; node; node = node->next) {
        bytes += !context || node->context == context ? node_bytes(node) : 0;
    }
    for (const struct lc_operator_node *node = delegate->operators; node; node = node->next) {
        bytes += !context || node->operation.context == context ? node->bytes : 0;
    }
    for (const struct lc_halved *halved = delegate->halved; halved; halved = halved->next) {
        bytes += !context || halved->context == context ? lc_halved_bytes(halved) : 0;
    }
    return bytes;
}

static uint64_t heap_bytes(const struct lc_delegate *delegate, const struct tfl_context *context) {
    uint64_t bytes = own_bytes(delegate, context);
    for (const struct lc_node *node = delegate->nodes; node; node = node->next) {
        bytes += node->context == context ? node->packed.bytes : 0;
    }
    return bytes;
}

void lc_measure(struct lc_node *node, const struct tfl_context *context) {
    struct lc_delegate *delegate = node->delegate;
    const size_t arena = arena_bytes(context);
    lc_lock(&delegate->lock);
    node->is_measured = true;
    bool is_new = arena != delegate->arena_bytes;
    delegate->arena_bytes = arena;
    const struct lc_promise *promise = delegate->promise;
    const uint64_t held = arena + heap_bytes(delegate, context);
    lc_unlock(&delegate->lock);
    if (!delegate->options.memory_limit || !promise || !is_new) {
        return;
    }
    const uint64_t promised = lc_promised_bytes(promise, node->threads);
    if (held > promised) {
        lc_log("memory_limit %llu: %llu bytes are held, %llu were promised",
               (unsigned long long)delegate->options.memory_limit, (unsigned long long)held,
               (unsigned long long)promised);
    }
}

struct lc_account lc_account_of(const struct lc_delegate *delegate) {
    struct lc_account account = {.arena_bytes = delegate->arena_bytes,
                                 .packed_bytes = delegate->live_bytes,
                                 .own_bytes = own_bytes(delegate, NULL)};
    int32_t threads = 1;
    for (const struct lc_node *node = delegate->nodes; node; node = node->next) {
        threads = node->threads > threads ? node->threads : threads;
        account.workspace_bytes = node->workspace_bytes > account.workspace_bytes
                                      ? node->workspace_bytes
                                      : account.workspace_bytes;
        account.embedded_bytes += node->packed.embedded_bytes;
    }
    if (delegate->promise && delegate->nodes) {
        account.promised_arena_bytes = lc_promised_arena(delegate->promise, threads);
        account.promise = delegate->promise;
    }
    return account;
}
