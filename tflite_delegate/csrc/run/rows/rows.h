// SPDX-License-Identifier: Apache-2.0
//
// Chains that are computed row by row.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host/kernel_table.h"

// Computes one image by a kernel that has a `walk`; the workspace is as of lc_stage_function.
// Threads share the rows of the output. y may be x if the kernel works in place. False on failure.
bool lc_walk_rows(const struct lc_kernel *kernel, const char *x, const char *weights,
                  const char *bias, char *y, uint8_t *workspace, int32_t threads);
