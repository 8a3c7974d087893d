// SPDX-License-Identifier: Apache-2.0
//
// Calls of one kernel: checked, timed, or marked for the emulated board.

#include "measure.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIB (1024.0 * 1024.0 * 1024.0)
// Calls of a sample may turn out a little faster than those that their number was taken from.
#define MARGIN 1.2
// Less than this cannot be told from no time at all.
#define SHORTEST_S 1e-7
// At most as large as the system's.
#define PAGE 4096

// What a kernel writes to.
struct memory {
    uint8_t *y, *workspace;
    uint64_t turn; // calls done so far
};

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Memory full of NaN: what a kernel does not write, or reads before it has written it, is wrong.
static void *unwritten(uint64_t bytes) {
    void *memory = NULL;
    if (bytes > SIZE_MAX - CACHE_LINE || posix_memalign(&memory, CACHE_LINE, bytes ? bytes : 1)) {
        return NULL;
    }
    return memset(memory, 0xff, bytes);
}

static bool take_memory(const struct kernel *kernel, struct memory *memory, struct report *report) {
    uint64_t available = free_bytes(), output = batch.expected.bytes;
    bool enough =
        kernel->workspace_bytes <= available && output <= available - kernel->workspace_bytes;
    *memory = (struct memory){NULL, NULL, 0};
    if (enough) {
        memory->y = unwritten(output);
        memory->workspace = unwritten(kernel->workspace_bytes);
    }
    if (!memory->y || !memory->workspace) {
        free(memory->y);
        free(memory->workspace);
        snprintf(report->error, sizeof report->error,
                 "needs %.1f GiB of workspace; %.1f GiB are free",
                 (double)kernel->workspace_bytes / GIB, (double)available / GIB);
        return false;
    }
    return true;
}

static void free_memory(struct memory *memory) {
    free(memory->y);
    free(memory->workspace);
}

// In a network a layer's weights come from behind the cache, as other layers' were used since; its
// input was just written. So each call has weights of its own, and all have the same tensors.
static int32_t call(const struct kernel *kernel, const struct tensors *tensors,
                    struct memory *memory, uint64_t count) {
    const struct weights *weights = &tensors->weights[kernel->weights];
    const uint8_t *x = tensors->x + batch.x_offset;
    uint8_t *y = memory->y + batch.y_offset;
    int32_t status = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *w = weights->first + weights->stride * (memory->turn++ % weights->count);
        for (uint32_t s = 0; s < kernel->stage_count; s++) {
            const struct stage *stage = &kernel->stages[s];
            status |= stage->function(x, tensors->r, w, w + weights->bias_offset, y,
                                      memory->workspace, 0, 0, stage->extent);
        }
    }
    return status;
}

static double half_at(const uint8_t *from) {
    const int bits = from[0] | from[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) {
        return fraction ? NAN : bits >> 15 ? -INFINITY : INFINITY;
    }
    double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits >> 15 ? -value : value;
}

static double number_at(const uint8_t *tensor, uint64_t place) {
    float value;
    if (batch.is_half) {
        return half_at(tensor + 2 * place);
    }
    memcpy(&value, tensor + place * sizeof value, sizeof value);
    return (double)value;
}

static void compare(const uint8_t *output, const uint8_t *expected, double tolerance,
                    struct report *report) {
    double worst = 0;
    bool missing = false, outside = false;
    for (uint64_t i = 0; i < batch.expected.bytes / (batch.is_half ? 2 : sizeof(float)); i++) {
        double y = number_at(output, i), wanted = number_at(expected, i);
        if (isnan(wanted)) {
            outside |= !isnan(y);
        } else if (isnan(y)) {
            missing = true;
        } else {
            worst = fmax(worst, fabs(y - wanted));
        }
    }
    if (missing) {
        snprintf(report->error, sizeof report->error, "wrong: outputs that are not numbers");
    } else if (outside) {
        snprintf(report->error, sizeof report->error, "wrong: writes to another group's channels");
    } else if (!(worst <= tolerance)) {
        snprintf(report->error, sizeof report->error, "wrong: off by %.2g where %.2g is allowed",
                 worst, tolerance);
    }
}

static void compare_integers(const uint8_t *y, const uint8_t *wanted, struct report *report) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < batch.expected.bytes; i++) {
        wrong += y[i] != wanted[i];
    }
    if (wrong) {
        snprintf(report->error, sizeof report->error, "wrong: %" PRIu64 " of %" PRIu64 " outputs",
                 wrong, batch.expected.bytes);
    }
}

static void check_in(const struct kernel *kernel, const struct tensors *tensors,
                     struct memory *memory, struct report *report) {
    int32_t status = call(kernel, tensors, memory, 1);
    if (status != 0) {
        snprintf(report->error, sizeof report->error, "failed: it returned %d", (int)status);
    } else if (batch.is_exact) {
        compare_integers(memory->y, tensors->expected, report);
    } else {
        compare(memory->y, tensors->expected, kernel->tolerance, report);
    }
}

void check(const struct kernel *kernel, const struct tensors *tensors, struct report *report) {
    struct memory memory;
    if (take_memory(kernel, &memory, report)) {
        check_in(kernel, tensors, &memory, report);
        free_memory(&memory);
    }
}

// This process has not seen the pages of its weights yet: the first look at each takes long.
static void touch(const struct weights *weights) {
    uint64_t bytes = weights->stride * weights->count;
    for (uint64_t at = 0; at < bytes; at += PAGE) {
        (void)*(const volatile uint8_t *)(weights->first + at);
    }
}

void sample(const struct kernel *kernel, const struct tensors *tensors, uint64_t calls,
            struct report *report) {
    struct memory memory;
    if (!take_memory(kernel, &memory, report)) {
        return;
    }
    touch(&tensors->weights[kernel->weights]);
    // Any copy is the first: those that the last sample began with may still be in a cache.
    memory.turn = (uint64_t)(now() * 1e6);
    call(kernel, tensors, &memory, calls / 10 + 1); // warm up
    calls = calls > batch.number ? calls : batch.number;
    for (;;) {
        double start = now();
        call(kernel, tensors, &memory, calls);
        double seconds = now() - start;
        if (seconds >= batch.min_repeat_s) {
            report->seconds = seconds / (double)calls;
            report->calls = calls;
            break;
        }
        seconds = seconds > SHORTEST_S ? seconds : SHORTEST_S;
        calls = (uint64_t)((double)calls * MARGIN * batch.min_repeat_s / seconds) + 1;
    }
    free_memory(&memory);
}

void mark(const struct kernel *kernel, const struct tensors *tensors, struct report *report) {
    struct memory memory;
    if (!take_memory(kernel, &memory, report)) {
        return;
    }
    check_in(kernel, tensors, &memory, report);
    if (!report->error[0]) {
        call(kernel, tensors, &memory, 1);
#ifdef __aarch64__
        __asm__ volatile("hint #100" ::: "memory");
#endif
        call(kernel, tensors, &memory, 1);
#ifdef __aarch64__
        __asm__ volatile("hint #101" ::: "memory");
#endif
    }
    free_memory(&memory);
}
