// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "batch.h"

#define CACHE_LINE 64

// What became of one check or one sample.
struct report {
    double seconds;  // a call
    uint64_t calls;  // of the sample
    char error[120]; // empty if it went well
};

// A kernel's weights again and again, each copy `stride` bytes behind the one before.
struct weights {
    const uint8_t *first;
    uint64_t stride, count, bias_offset;
};

// The tensors of a batch, shared by all of its kernels.
struct tensors {
    const uint8_t *x, *r, *expected;
    struct weights *weights;
};

// inputs.c: map the data files; false after a JSON line that says what is wrong.
bool map_tensors(const char *folder, struct tensors *tensors);
// Bytes that programs can still take; as many as there can be if the system does not tell.
uint64_t free_bytes(void);

// call.c: work on one kernel, in this process.
void check(const struct kernel *kernel, const struct tensors *tensors, struct report *report);
// One sample; `calls` from the last one, or 0.
void sample(const struct kernel *kernel, const struct tensors *tensors, uint64_t calls,
            struct report *report);
// A check, a call, and one more between the markers of the emulated board.
void mark(const struct kernel *kernel, const struct tensors *tensors, struct report *report);
// Seconds of a clock that only goes forward.
double now(void);

// board.c: a JSON line about this machine.
void print_board(void);
// Leave the little cores of a phone alone, so that all samples are of one kind of core.
void use_largest_cores(void);
