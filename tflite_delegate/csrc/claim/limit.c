// SPDX-License-Identifier: Apache-2.0

#include "claim/limit.h"

#include "host/log.h"
#include "run/account/account.h"

// With as many threads or fewer: of these, one may take the most.
static uint64_t needed(const struct lc_promise *promise, int32_t threads) {
    const uint64_t one = lc_promised_bytes(promise, 1), all = lc_promised_bytes(promise, threads);
    return one > all ? one : all;
}

// The most threads within the limit; 0: not even one.
static int32_t threads_within(const struct lc_promise *promise, uint64_t limit) {
    int32_t threads = 0;
    for (size_t i = 0; i < promise->arena_count; i++) {
        const int32_t more = promise->arenas[i].threads;
        if (needed(promise, more) <= limit) {
            threads = more;
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

static void promise_plan(struct lc_graph *graph, struct lc_delegate *delegate, size_t plan,
                         bool is_promised) {
    graph->kept_plan = (int32_t)plan;
    lc_lock(&delegate->lock);
    delegate->promise = is_promised ? &lc_library.promises[plan] : NULL;
    lc_unlock(&delegate->lock);
}

// The first plan that keeps the limit with one thread at least; promise_count if there is none.
static size_t plan_within(uint64_t limit) {
    size_t plan = 0;
    while (plan < lc_library.promise_count && !threads_within(&lc_library.promises[plan], limit)) {
        plan++;
    }
    return plan;
}

bool lc_keep_limit(struct lc_graph *graph, struct lc_delegate *delegate) {
    const bool is_promised = lc_is_promised(graph, delegate);
    const unsigned long long limit = delegate->options.memory_limit;
    promise_plan(graph, delegate, 0, is_promised);
    if (!limit) {
        return true;
    }
    if (!is_promised) {
        lc_log("memory_limit %llu: the library promises nothing of this graph (compiled for %s): "
               "all layers stay with TFLite",
               limit, lc_library.model);
        return false;
    }
    const int32_t wanted = lc_threads_for(delegate, graph->context);
    const size_t plans = lc_library.promise_count, plan = plan_within(limit);
    const struct lc_promise *promise = &lc_library.promises[plan < plans ? plan : plans - 1];
    const unsigned long long need = needed(promise, wanted);
    if (plan == plans) {
        lc_log("memory_limit %llu: %llu bytes are needed with %d thread%s, %llu at least: all "
               "layers stay with TFLite",
               limit, need, (int)wanted, wanted == 1 ? "" : "s",
               (unsigned long long)needed(promise, 1));
        return false;
    }
    if (plan > 0) {
        lc_log("memory_limit %llu: plan %zu of %zu, as the one before needs %llu bytes", limit,
               plan + 1, plans, (unsigned long long)needed(promise - 1, 1));
    }
    const int32_t threads = threads_within(promise, limit);
    if (threads < wanted) {
        lc_log("memory_limit %llu: %d of %d threads, as all need %llu bytes", limit, (int)threads,
               (int)wanted, need);
    }
    promise_plan(graph, delegate, plan, true);
    restrict_threads(delegate, threads);
    return true;
}
