// SPDX-License-Identifier: Apache-2.0
//
// Memory that the weights of many layers lie in, one behind the other.
//
// Where a core reads megabytes of weights once, as networks do, looking up where pages of 4 KiB lie
// takes as long as reading them. Most layers have fewer weights than a page of 2 MiB holds; all of
// a graph side by side fill many.

#pragma once

#include <stddef.h>

struct lc_region;

// Room for `bytes` of weights, with one user. NULL if no page of 2 MiB lies in it, or without
// memory.
struct lc_region *lc_region_new(size_t bytes);

// Whole cache lines of the region, for one user more; NULL if less is left.
void *lc_region_take(struct lc_region *region, size_t bytes);

// One user less: the last one gives back the memory.
void lc_region_release(struct lc_region *region);
