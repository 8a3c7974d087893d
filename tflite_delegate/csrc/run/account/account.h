// SPDX-License-Identifier: Apache-2.0
//
// What a graph holds in memory, beside what the library promises.

#pragma once

#include "layer/graph.h"
#include "run/node.h"

// Whether the library promises something of a graph of which nothing was replaced yet: not if it
// was compiled for another, for other shapes, or if other kernels than the default ones are to run.
bool lc_is_promised(const struct lc_graph *graph, const struct lc_delegate *delegate);

// Bytes of TFLite's arena with so many threads, as promised, and all bytes.
uint64_t lc_promised_arena(const struct lc_promise *promise, int32_t threads);
uint64_t lc_promised_bytes(const struct lc_promise *promise, int32_t threads);

// Measures TFLite's arena, which has its place only when a node runs for the first time after it
// was prepared. Where there is a limit and more is held than was promised, says so.
void lc_measure(struct lc_node *node, const struct tfl_context *context);

// Bytes of a delegate, and of all interpreters that use it.
struct lc_account {
    const struct lc_promise *promise; // NULL: nothing is promised
    uint64_t promised_arena_bytes;    // with the threads that there are
    uint64_t arena_bytes;             // 0: nothing ran yet
    uint64_t workspace_bytes;         // of the node that has most, in the arena
    uint64_t packed_bytes, embedded_bytes;
    uint64_t own_bytes; // the delegate's and its nodes' own data
};

// To be called with the delegate's lock.
struct lc_account lc_account_of(const struct lc_delegate *delegate);
