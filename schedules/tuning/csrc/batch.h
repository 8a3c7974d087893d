// SPDX-License-Identifier: Apache-2.0
//
// What there is to measure: a generated table.c defines `batch`.

#pragma once

#include <stdint.h>

// See schedules/lower/c_abi.py.
typedef int32_t stage_function(const void *x, const void *r, const void *w, const void *b, void *y,
                               uint8_t *workspace, int32_t thread, int32_t begin, int32_t end);

struct stage {
    stage_function *function;
    int32_t extent;
};

// A file beside the program. One without a name is not there.
struct data_file {
    const char *name;
    uint64_t bytes;
};

// Packed weights of all layers of a kernel and, from `bias_offset` on, their biases.
struct weights_file {
    struct data_file file;
    uint64_t bias_offset;
};

struct kernel {
    const struct stage *stages;
    uint32_t stage_count;
    uint32_t weights; // index into the batch's
    uint64_t workspace_bytes;
    double tolerance; // largest difference from the expected output
};

struct batch {
    struct data_file x;
    struct data_file r;
    struct data_file expected;   // like the output; where it is NaN, the kernel must not write
    uint32_t is_exact;           // of integers, where all bits set stands for NaN
    uint32_t is_half;            // of float16
    uint64_t x_offset, y_offset; // bytes before the first channel that a kernel computes with
    const struct weights_file *weights;
    uint32_t weights_count;
    const struct kernel *kernels;
    uint32_t kernel_count;
    uint64_t l2_bytes;
    uint64_t weights_bytes; // of copies that take turns; 0 if two L2 caches of them will do

    uint64_t number; // calls of a sample at least
    uint32_t repeat; // samples
    double min_repeat_s, timeout_s;
    double budget_s; // after so long, one sample of each kernel is enough
};

extern const struct batch batch;
