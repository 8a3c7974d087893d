// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stddef.h>

#include "run/node.h"

// leanconv_report (see leanconv.h) for a delegate of ours, or NULL.
size_t lc_report(struct lc_delegate *delegate, char *buffer, size_t size);

// leanconv_memory, likewise.
size_t lc_memory(struct lc_delegate *delegate, char *buffer, size_t size);
