// SPDX-License-Identifier: Apache-2.0
//
// A layer that is pooled, strip by strip: nothing of it is held but the rows that windows still
// need.

#pragma once

#include <stdbool.h>

#include "host/kernel_table.h"

// Computes one strip: the output rows that follow from the input's at x.
typedef bool lc_strip_function(void *argument, const char *x, char *y);

struct lc_strips {
    const struct lc_kernel *kernel; // with rows
    const char *x;                  // one image
    char *y;
    uint8_t *workspace; // strip_bytes + border_bytes
    int zero;           // the byte that rows beyond the image are full of
    int32_t threads;
    lc_strip_function *run;
    void *argument;
};

// False if `run` fails.
bool lc_run_strips(const struct lc_strips *strips);
