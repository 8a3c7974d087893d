// SPDX-License-Identifier: Apache-2.0

#include "claim/limit.h"

#include "host/log.h"
#include "run/account/account.h"

static uint64_t needed(const struct lc_promise *promise, int32_t threads) {
    return lc_promised_arena(promise, threads) + promise->packed_bytes;
}

// The most threads within the limit; 0: not even one.
static int32_t threads_within(const struct lc_promise *promise, uint64_t limit) {
    int32_t threads = 0;
    for (size_t i = 0; i < promise->arena_count; i++) {
        if (promise->arenas[i].bytes + promise->packed_bytes <= limit) {
            threads = promise->arenas[i].threads;
        }
    }
    return threads;
}

// An interpreter may get other threads later on, and another one use the delegate too.
static void restrict_threads(struct lc_delegate *delegate, int32_t threads) {
    int most = atomic_load(&delegate->most_threads);
    while ((most == 0 || threads < most) &&
           !atomic_compare_exchange_weak(&delegate->most_threads, &most, threads)) {
    }
}

bool lc_keep_limit(const struct lc_graph *graph, struct lc_delegate *delegate) {
    const struct lc_promise *promise = lc_promise_for(graph, delegate);
    const unsigned long long limit = delegate->options.memory_limit;
    lc_lock(&delegate->lock);
    delegate->is_promised = promise != NULL;
    lc_unlock(&delegate->lock);
    if (!limit) {
        return true;
    }
    if (!promise) {
        lc_log("memory_limit %llu: the library promises nothing of this graph (compiled for %s): "
               "all layers stay with TFLite",
               limit, lc_library.model);
        return false;
    }
    const int32_t wanted = lc_threads_for(delegate, graph->context);
    const int32_t threads = threads_within(promise, limit);
    const unsigned long long need = needed(promise, wanted);
    if (!threads) {
        lc_log("memory_limit %llu: %llu bytes are needed with %d threads, %llu at least: all "
               "layers stay with TFLite",
               limit, need, (int)wanted, (unsigned long long)needed(promise, 1));
        return false;
    }
    if (threads < wanted) {
        lc_log("memory_limit %llu: %d of %d threads, as all need %llu bytes", limit, (int)threads,
               (int)wanted, need);
    }
    restrict_threads(delegate, threads);
    return true;
}
