// SPDX-License-Identifier: Apache-2.0
//
// Prints the nanoseconds in which a cache line goes from one core to another and back.
//
// Virtual machines move between cores that share a last cache and cores that do not: a line takes
// several times as long between the latter, and so does all that threads have to tell each other.

#define _GNU_SOURCE // sched_setaffinity

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { TRIPS = 2000, SAMPLES = 5, MASK_WORDS = 16, WORD_BITS = 64 };

static _Alignas(128) atomic_int turn;

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Keeps this thread on the processor that is `place` among those that the process may use.
static void stay_on(int place) {
    uint64_t all[MASK_WORDS] = {0}, one[MASK_WORDS] = {0};
    sched_getaffinity(0, sizeof all, (cpu_set_t *)(void *)all);
    for (int i = 0; i < MASK_WORDS * WORD_BITS; i++) {
        if ((all[i / WORD_BITS] >> (i % WORD_BITS) & 1) && place-- == 0) {
            one[i / WORD_BITS] = (uint64_t)1 << (i % WORD_BITS);
            sched_setaffinity(0, sizeof one, (cpu_set_t *)(void *)one);
        }
    }
}

static void *answer(void *unused) {
    stay_on(1);
    for (int i = 0; i < TRIPS * SAMPLES; i++) {
        while (atomic_load(&turn) != 2 * i + 1) {
        }
        atomic_store(&turn, 2 * i + 2);
    }
    return unused;
}

int main(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, answer, NULL) != 0) {
        return 1;
    }
    // The other thread, which may have begun on this processor, gets the time to leave it.
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    stay_on(0);
    int64_t least = INT64_MAX;
    for (int sample = 0; sample < SAMPLES; sample++) {
        int64_t begin = nanoseconds();
        for (int i = sample * TRIPS; i < (sample + 1) * TRIPS; i++) {
            atomic_store(&turn, 2 * i + 1);
            while (atomic_load(&turn) != 2 * i + 2) {
            }
        }
        int64_t passed = nanoseconds() - begin;
        least = passed < least ? passed : least;
    }
    pthread_join(other, NULL);
    printf("%g\n", (double)least / TRIPS);
    return 0;
}
