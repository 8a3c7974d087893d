// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LC_MAX_THREADS = 64 };

struct lc_options {
    int32_t num_threads;   // 0: as many as the interpreter
    int32_t verbose;       // 1: a line for each claimed layer; 2: also for those left to TFLite
    int32_t one_node;      // 1: a graph that is all ours becomes one node
    int32_t verify;        // 1: all of a model's weights are compared with embedded ones
    uint64_t memory_limit; // bytes of TFLite's arena and the heap (run/account); 0: any
    const char *algorithm; // NULL: any; else one of lc_library.algorithms
};

// Reads the options that the user gave the delegate. If one is unknown or has a bad value, writes
// into `problem` which, what it was, and what is known, and returns false.
bool lc_options_read(struct lc_options *options, char **keys, char **values, size_t count,
                     char *problem, size_t problem_size);
