// SPDX-License-Identifier: Apache-2.0
//
// A lock for critical sections of a few instructions that survives fork().
//
// It remembers the process that holds it: a child whose parent was inside such a section when it
// forked would wait for ever on a pthread mutex, but here sees that the holder is not in its
// process and takes over. Zero-initialised means free.

#pragma once

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

struct lc_lock {
    atomic_int holder; // process id, 0 when free
};

static inline void lc_lock(struct lc_lock *lock) {
    int self = (int)getpid();
    int holder = 0;
    while (!atomic_compare_exchange_weak_explicit(&lock->holder, &holder, self,
                                                  memory_order_acquire, memory_order_relaxed)) {
        if (holder == self) {
            sched_yield();
            holder = 0;
        }
    }
}

static inline void lc_unlock(struct lc_lock *lock) {
    atomic_store_explicit(&lock->holder, 0, memory_order_release);
}
