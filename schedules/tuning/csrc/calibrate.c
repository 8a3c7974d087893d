// SPDX-License-Identifier: Apache-2.0
//
// How fast a core multiplies and reads, and what it costs to wait for the others: one JSON line.

#define _GNU_SOURCE

#include "calibrate.h"
#include "measure.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef float floats __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));

// The compiler is asked for a plain processor; kernels have these registers.
#if defined(__x86_64__) && VECTOR_BYTES == 64
#define WIDE __attribute__((target("avx512f,fma"), noinline))
#elif defined(__x86_64__)
#define WIDE __attribute__((target("avx2,fma"), noinline))
#else
#define WIDE __attribute__((noinline))
#endif

#define LANES (VECTOR_BYTES / 4)
// Chains of multiply-adds side by side: more than pipes x latency, as many as registers can hold.
#define CHAINS (VECTOR_REGISTERS - 4 < 24 ? VECTOR_REGISTERS - 4 : 24)
// Vectors that are read before the next step of a loop.
#define STEP 8
// Streams side by side from memory, as kernels read a panel and rows of an image, or of weights:
// with one, 18 GB/s of the 27 that a core of a Zen 4 can get.
#define STREAMS 16
#define SAMPLES 11
// Of reading memory, which is not one program's alone: the least of more samples is steadier.
#define MEMORY_SAMPLES 50
#define SAMPLE_SECONDS 0.012
#define MOST_THREADS 64
#define WAITS 100
#define WAIT_SAMPLES 30

static double seconds_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Of this thread alone: what others take of its core does not count.
static double own_seconds(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }

static int core_count(void) {
    cpu_set_t cores;
    int count = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return count < MOST_THREADS ? count : MOST_THREADS;
}

// What is worked on. The result is kept, so that the work is not left out.
struct work {
    const words *data;
    size_t vectors; // of `data`
    words kept;
};

typedef void pass(struct work *work, uint64_t times);

// `times` multiply-adds of each chain, in registers.
WIDE static void multiply(struct work *work, uint64_t times) {
    floats sums[CHAINS], factor, term;
    memset(sums, 0, sizeof sums);
    memcpy(&factor, &work->kept, sizeof factor);
    term = factor + 1e-9f;
    for (uint64_t i = 0; i < times; i++) {
#pragma clang loop unroll(full)
        for (int chain = 0; chain < CHAINS; chain++) {
            sums[chain] = sums[chain] * factor + term;
        }
        __asm__ volatile("" : "+m"(*work)); // one step after the other
    }
    for (int chain = 1; chain < CHAINS; chain++) {
        sums[0] += sums[chain];
    }
    memcpy(&work->kept, &sums[0], sizeof work->kept);
}

// Reads the data `times` times.
WIDE static void read_data(struct work *work, uint64_t times) {
    words seen[STEP];
    memset(seen, 0, sizeof seen);
    for (uint64_t i = 0; i < times; i++) {
        const words *data = work->data;
        __asm__ volatile("" : "+r"(data) : : "memory");
        for (size_t at = 0; at + STEP <= work->vectors; at += STEP) {
#pragma clang loop unroll(full)
            for (int j = 0; j < STEP; j++) {
                seen[j] |= data[at + (size_t)j];
            }
        }
    }
    for (int j = 1; j < STEP; j++) {
        seen[0] |= seen[j];
    }
    work->kept |= seen[0];
}

// Likewise, a vector of each of STREAMS parts in turn, whose lines are in other sets of the caches.
WIDE static void read_streams(struct work *work, uint64_t times) {
    words seen[STREAMS];
    size_t part = (work->vectors / STREAMS - 1) | 1;
    memset(seen, 0, sizeof seen);
    for (uint64_t i = 0; i < times; i++) {
        const words *data = work->data;
        __asm__ volatile("" : "+r"(data) : : "memory");
        for (size_t at = 0; at < part; at++) {
#pragma clang loop unroll(full)
            for (int j = 0; j < STREAMS; j++) {
                seen[j] |= data[at + part * (size_t)j];
            }
        }
    }
    for (int j = 1; j < STREAMS; j++) {
        seen[0] |= seen[j];
    }
    work->kept |= seen[0];
}

// Seconds of one time of a pass, at least of all samples.
static double fastest(pass *pass, struct work *work, int samples) {
    double least = 0;
    uint64_t times = 1;
    for (int sample = -1; sample < samples;) {
        double start = own_seconds();
        pass(work, times);
        double seconds = own_seconds() - start;
        if (seconds < SAMPLE_SECONDS && sample < 0) {
            times *= 2;
            continue;
        }
        double each = seconds / (double)times;
        least = sample < 1 || each < least ? each : least; // the first ones warm up
        sample++;
    }
    return least;
}

// All threads at a time

struct team {
    atomic_int ready;
    int count, samples;
    pass *pass;
    uint64_t times;
};

struct member {
    struct team *team;
    struct work work;
    double seconds;
};

static void meet(struct team *team, int round) {
    atomic_fetch_add(&team->ready, 1);
    while (atomic_load(&team->ready) < team->count * round) {
        // Each has a core of its own.
    }
}

static void *work_along(void *argument) {
    struct member *member = argument;
    struct team *team = member->team;
    member->seconds = 0;
    for (int sample = 1; sample <= team->samples; sample++) {
        meet(team, sample);
        double start = own_seconds();
        team->pass(&member->work, team->times);
        double seconds = own_seconds() - start;
        member->seconds =
            sample < 2 || seconds < member->seconds ? seconds : member->seconds; // warm by then
    }
    return NULL;
}

static void *wait_along(void *argument) {
    struct member *member = argument;
    member->seconds = 0;
    for (int sample = 0; sample < WAIT_SAMPLES; sample++) {
        double start = seconds_of(CLOCK_MONOTONIC);
        for (int round = 1; round <= WAITS; round++) {
            meet(member->team, sample * WAITS + round);
        }
        double seconds = (seconds_of(CLOCK_MONOTONIC) - start) / WAITS;
        member->seconds = sample < 1 || seconds < member->seconds ? seconds : member->seconds;
    }
    return NULL;
}

// Seconds of the slowest of `count` threads; negative if they cannot be started.
static double together(void *(*body)(void *), struct member *members, struct team *team) {
    pthread_t threads[MOST_THREADS];
    int started = 1;
    double slowest;
    atomic_store(&team->ready, 0);
    for (; started < team->count; started++) {
        if (pthread_create(&threads[started], NULL, body, &members[started]) != 0) {
            break;
        }
    }
    if (started < team->count) {
        exit(1); // those that run wait for ever
    }
    body(&members[0]);
    slowest = members[0].seconds;
    for (int i = 1; i < started; i++) {
        pthread_join(threads[i], NULL);
        slowest = members[i].seconds > slowest ? members[i].seconds : slowest;
    }
    return slowest;
}

// Bytes a second of one thread and of all, each with its own `bytes` or, if they are `shared`, with
// a part of them that no other reads.
static bool read_speed(const char *name, size_t bytes, int count, bool shared) {
    pass *pass = shared ? read_streams : read_data;
    int samples = shared ? MEMORY_SAMPLES : SAMPLES;
    struct team team = {.count = count, .samples = samples, .pass = pass};
    struct member members[MOST_THREADS];
    memset(members, 0, sizeof members);
    size_t vectors = bytes / VECTOR_BYTES / STEP * STEP;
    int owners = shared ? 1 : count;
    bool has_memory = true;
    for (int i = 0; i < owners; i++) {
        void *data = NULL;
        has_memory &= posix_memalign(&data, 4096, vectors * VECTOR_BYTES) == 0;
        if (has_memory) {
            memset(data, i + 1, vectors * VECTOR_BYTES);
        }
        members[i] = (struct member){.team = &team, .work = {data, vectors, {0}}};
    }
    if (has_memory) {
        double size = (double)(vectors * VECTOR_BYTES);
        double seconds = fastest(pass, &members[0].work, samples);
        struct member together_with[MOST_THREADS];
        size_t part = vectors / (size_t)count / STEP * STEP;
        memcpy(together_with, members, sizeof members);
        for (int i = 0; shared && i < count; i++) {
            const words *begin = members[0].work.data + part * (size_t)i;
            together_with[i] = (struct member){.team = &team, .work = {begin, part, {0}}};
        }
        double all_bytes = shared ? (double)(part * VECTOR_BYTES) * count : size * count;
        team.times = (uint64_t)(SAMPLE_SECONDS / seconds) + 1;
        double all = together(work_along, together_with, &team) / (double)team.times;
        printf(", \"%s\": {\"bytes\": %.0f, \"one\": %.6g, \"all\": %.6g}", name, size,
               size / seconds, all_bytes / all);
    }
    for (int i = 0; i < owners; i++) {
        free((void *)members[i].work.data);
    }
    return has_memory;
}

int main(void) {
    print_board();
    use_largest_cores();
    int count = core_count();
    struct work work = {.vectors = 0};
    double multiplied = fastest(multiply, &work, SAMPLES);
    struct team team = {.count = count};
    struct member members[MOST_THREADS];
    memset(members, 0, sizeof members);
    for (int i = 0; i < count; i++) {
        members[i].team = &team;
    }
    printf("{\"calibration\": {\"threads\": %d, \"macs\": %.6g", count,
           (double)CHAINS * LANES / multiplied);
    printf(", \"barrier_s\": %.6g", together(wait_along, members, &team));
    bool has_memory = read_speed("l1", L1_BYTES / 2, count, false) &&
                      read_speed("l2", L2_BYTES / 2, count, false) &&
                      (L3_BYTES <= 2 * L2_BYTES || read_speed("l3", L3_BYTES / 2, count, false)) &&
                      read_speed("memory", MEMORY_BYTES, count, true);
    printf("}}\n");
    return !has_memory;
}
