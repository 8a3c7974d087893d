// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE // sched_getaffinity

#include "host/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/lock.h"
#include "host/options.h"

enum {
    // What different threads write lies so far apart: processors fetch two lines together.
    CACHE_LINES = 128,
    // How long a thread polls before it sleeps: longer than the gap between two layers, too short
    // to matter to a battery.
    SPIN_NANOSECONDS = 100 * 1000,
    POLLS_PER_CLOCK_READ = 32,
    // Pieces that a thread takes its share in. What is left of a share when its thread was held up
    // is taken over by the others.
    PIECES_PER_SHARE = 8,
};

enum ticket { TICKET_NONE, TICKET_JOB, TICKET_QUIT };

// A thread polls the first lines of it, in which nothing else is written.
struct worker {
    alignas(CACHE_LINES) atomic_uint ticket; // enum ticket: written by the caller, then taken
    atomic_bool asleep;                      // whether `wake` has to be signalled
    alignas(CACHE_LINES) struct pool *pool;
    pthread_t handle;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int32_t thread;
};

// The part of a job that starts out as one thread's.
struct share {
    alignas(CACHE_LINES) atomic_uint next;
    uint32_t end;
};

struct pool {
    pid_t process; // a child after fork() has none of these threads
    atomic_bool busy;
    int32_t worker_count;
    int32_t processors;

    // The job, written while no worker runs.
    alignas(CACHE_LINES) lc_pool_task task;
    void *argument;
    int32_t threads;
    uint32_t piece;
    bool spin; // whether every thread has a processor of its own
    atomic_bool failed;
    struct share shares[LC_MAX_THREADS];

    alignas(CACHE_LINES) atomic_uint running; // workers that have not finished the job
    atomic_bool waits;                        // whether `finished` has to be signalled
    alignas(CACHE_LINES) pthread_mutex_t mutex;
    pthread_cond_t finished;

    struct worker workers[LC_MAX_THREADS - 1];
};

static struct {
    struct lc_lock lock;
    int32_t delegates;
    _Atomic(struct pool *) pool;
} library;

static void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Polls until `word` is zero (or until it is not). False if that takes too long.
static bool spin_until(const atomic_uint *word, bool zero) {
    int64_t deadline = nanoseconds() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < POLLS_PER_CLOCK_READ; i++) {
            if ((atomic_load_explicit(word, memory_order_acquire) == 0) == zero) {
                return true;
            }
            cpu_relax();
        }
    } while (nanoseconds() < deadline);
    return false;
}

// Processors that this process may run on.
static int32_t count_processors(void) {
    unsigned long mask[128] = {0};
    if (sched_getaffinity(0, sizeof mask, (cpu_set_t *)(void *)mask) != 0) {
        return 1;
    }
    int32_t count = 0;
    for (size_t i = 0; i < sizeof mask / sizeof *mask; i++) {
        count += __builtin_popcountl(mask[i]);
    }
    return count;
}

// Computes the thread's own share piece by piece, then what is left of the others'.
static void run_job(struct pool *pool, int32_t thread) {
    for (int32_t i = 0; i < pool->threads; i++) {
        struct share *share = &pool->shares[(thread + i) % pool->threads];
        // Looked at before it is taken from: its line stays with the thread that uses it.
        while (atomic_load_explicit(&share->next, memory_order_relaxed) < share->end) {
            uint32_t begin =
                atomic_fetch_add_explicit(&share->next, pool->piece, memory_order_relaxed);
            if (begin >= share->end) {
                break;
            }
            uint32_t end = share->end - begin < pool->piece ? share->end : begin + pool->piece;
            if (!pool->task(pool->argument, thread, (int32_t)begin, (int32_t)end)) {
                atomic_store_explicit(&pool->failed, true, memory_order_relaxed);
            }
        }
    }
}

// Takes the ticket away, so that exactly one of caller and worker has it.
static enum ticket take_ticket(struct worker *worker) {
    return atomic_exchange(&worker->ticket, TICKET_NONE);
}

static enum ticket wait_for_ticket(struct worker *worker, bool spin) {
    enum ticket ticket = TICKET_NONE;
    if (spin && spin_until(&worker->ticket, false)) {
        ticket = take_ticket(worker);
    }
    if (ticket == TICKET_NONE) {
        pthread_mutex_lock(&worker->mutex);
        atomic_store(&worker->asleep, true);
        while ((ticket = take_ticket(worker)) == TICKET_NONE) {
            pthread_cond_wait(&worker->wake, &worker->mutex);
        }
        atomic_store(&worker->asleep, false);
        pthread_mutex_unlock(&worker->mutex);
    }
    return ticket;
}

// All accesses of `ticket` and `asleep` are in one order: a worker that is not seen to be asleep
// will see the ticket before it sleeps.
static void give_ticket(struct worker *worker, enum ticket ticket) {
    atomic_store(&worker->ticket, ticket);
    if (atomic_load(&worker->asleep)) {
        pthread_mutex_lock(&worker->mutex);
        pthread_cond_signal(&worker->wake);
        pthread_mutex_unlock(&worker->mutex);
    }
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    bool spin = false;
    while (wait_for_ticket(worker, spin) == TICKET_JOB) {
        spin = pool->spin; // a field of the job: not to be read after it
        run_job(pool, worker->thread);
        // Likewise in one order.
        if (atomic_fetch_sub(&pool->running, 1) == 1 && atomic_load(&pool->waits)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
    return NULL;
}

static bool start_worker(struct pool *pool) {
    struct worker *worker = &pool->workers[pool->worker_count];
    worker->pool = pool;
    worker->thread = pool->worker_count + 1;
    atomic_init(&worker->ticket, TICKET_NONE);
    if (pthread_mutex_init(&worker->mutex, NULL) != 0) {
        return false;
    }
    if (pthread_cond_init(&worker->wake, NULL) != 0) {
        pthread_mutex_destroy(&worker->mutex);
        return false;
    }
    // Signals are for the host's threads.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool started = pthread_create(&worker->handle, NULL, worker_main, worker) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!started) {
        pthread_cond_destroy(&worker->wake);
        pthread_mutex_destroy(&worker->mutex);
        return false;
    }
    pool->worker_count++;
    return true;
}

static struct pool *pool_create(void) {
    void *memory;
    if (posix_memalign(&memory, alignof(struct pool), sizeof(struct pool)) != 0) {
        return NULL;
    }
    struct pool *pool = memset(memory, 0, sizeof(struct pool));
    pool->process = getpid();
    pool->processors = count_processors();
    if (pthread_mutex_init(&pool->mutex, NULL) != 0) {
        free(pool);
        return NULL;
    }
    if (pthread_cond_init(&pool->finished, NULL) != 0) {
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
        return NULL;
    }
    return pool;
}

static void pool_destroy(struct pool *pool) {
    for (int32_t i = 0; i < pool->worker_count; i++) {
        struct worker *worker = &pool->workers[i];
        give_ticket(worker, TICKET_QUIT);
        pthread_join(worker->handle, NULL);
        pthread_cond_destroy(&worker->wake);
        pthread_mutex_destroy(&worker->mutex);
    }
    pthread_cond_destroy(&pool->finished);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

// The pool of this process, NULL if memory cannot be had. A child after fork() gets its own; what
// it inherited is not touched again, since the state of its mutexes is unknown.
static struct pool *pool_of_process(void) {
    struct pool *pool = atomic_load_explicit(&library.pool, memory_order_acquire);
    if (pool && pool->process == getpid()) {
        return pool;
    }
    struct pool *fresh = pool_create();
    if (fresh && !atomic_compare_exchange_strong_explicit(
                     &library.pool, &pool, fresh, memory_order_acq_rel, memory_order_acquire)) {
        pool_destroy(fresh); // another thread was quicker
        fresh = pool;
    }
    return fresh;
}

void lc_pool_retain(void) {
    lc_lock(&library.lock);
    library.delegates++;
    lc_unlock(&library.lock);
}

void lc_pool_release(void) {
    struct pool *last = NULL;
    lc_lock(&library.lock);
    if (--library.delegates == 0) {
        last = atomic_exchange_explicit(&library.pool, NULL, memory_order_acq_rel);
    }
    lc_unlock(&library.lock);
    if (last && last->process == getpid()) {
        pool_destroy(last);
    }
}

static void split(struct pool *pool, int32_t threads, int32_t extent, bool whole) {
    pool->threads = threads;
    pool->piece = (uint32_t)extent / (uint32_t)(threads * PIECES_PER_SHARE);
    pool->piece = whole ? (uint32_t)extent : pool->piece < 1 ? 1 : pool->piece;
    for (int32_t i = 0; i < threads; i++) {
        uint32_t begin = (uint32_t)((int64_t)extent * i / threads);
        atomic_store_explicit(&pool->shares[i].next, begin, memory_order_relaxed);
        pool->shares[i].end = (uint32_t)((int64_t)extent * (i + 1) / threads);
    }
}

// Returns when no worker runs the job any more. Called when all of its pieces are taken.
static void wait_for_workers(struct pool *pool) {
    // A worker that has not woken up by now has nothing left to do: do not wait for it.
    for (int32_t i = 0; i < pool->threads - 1; i++) {
        if (take_ticket(&pool->workers[i]) == TICKET_JOB) {
            atomic_fetch_sub_explicit(&pool->running, 1, memory_order_acq_rel);
        }
    }
    if (!pool->spin || !spin_until(&pool->running, true)) {
        pthread_mutex_lock(&pool->mutex);
        atomic_store(&pool->waits, true);
        while (atomic_load(&pool->running) != 0) {
            pthread_cond_wait(&pool->finished, &pool->mutex);
        }
        atomic_store(&pool->waits, false);
        pthread_mutex_unlock(&pool->mutex);
    }
}

bool lc_pool_run(int32_t threads, int32_t extent, bool whole, lc_pool_task task, void *argument) {
    threads = threads < LC_MAX_THREADS ? threads : LC_MAX_THREADS;
    threads = threads < extent ? threads : extent;
    struct pool *pool = threads > 1 ? pool_of_process() : NULL;
    if (!pool || atomic_exchange_explicit(&pool->busy, true, memory_order_acquire)) {
        return extent < 1 || task(argument, 0, 0, extent);
    }
    while (pool->worker_count < threads - 1 && start_worker(pool)) {
    }
    threads = pool->worker_count + 1 < threads ? pool->worker_count + 1 : threads;
    split(pool, threads, extent, whole);
    pool->task = task;
    pool->argument = argument;
    pool->spin = pool->threads <= pool->processors;
    atomic_store_explicit(&pool->failed, false, memory_order_relaxed);
    atomic_store_explicit(&pool->running, (unsigned)pool->threads - 1, memory_order_relaxed);
    for (int32_t i = 0; i < pool->threads - 1; i++) {
        give_ticket(&pool->workers[i], TICKET_JOB);
    }
    run_job(pool, 0);
    wait_for_workers(pool);
    bool good = !atomic_load_explicit(&pool->failed, memory_order_relaxed);
    atomic_store_explicit(&pool->busy, false, memory_order_release);
    return good;
}
