// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE // MAP_ANONYMOUS

#include "kernels/pages/weight_region.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "host/checked.h"
#include "kernels/pages/weight_pages.h"

struct lc_region {
    char *block;
    size_t bytes, used;
    atomic_int users;
};

// NULL without memory. A hint that is not free is not taken.
static char *map(char *hint, size_t bytes) {
    void *block = mmap(hint, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

// From the begin of a page of 2 MiB if it can be: systems fill their address space from above, so
// there is usually room below where they place a block. malloc would map 2 MiB more.
static char *map_pages(size_t bytes) {
    char *block = map(NULL, bytes);
    const size_t excess = (uintptr_t)block % LC_HUGE_PAGE;
    if (excess) {
        munmap(block, bytes);
        block = map(block - excess, bytes);
    }
    return block;
}

struct lc_region *lc_region_new(size_t bytes) {
    struct lc_region *region = bytes >= LC_HUGE_PAGE ? malloc(sizeof *region) : NULL;
    if (!region) {
        return NULL;
    }
    *region = (struct lc_region){.block = map_pages(bytes), .bytes = bytes};
    if (!region->block) {
        free(region);
        return NULL;
    }
    atomic_init(&region->users, 1);
    lc_use_huge_pages(region->block, bytes);
    return region;
}

void *lc_region_take(struct lc_region *region, size_t bytes) {
    if (!lc_round_up(&bytes) || bytes > region->bytes - region->used) {
        return NULL;
    }
    char *taken = region->block + region->used;
    region->used += bytes;
    atomic_fetch_add(&region->users, 1);
    return taken;
}

void lc_region_release(struct lc_region *region) {
    if (atomic_fetch_sub(&region->users, 1) == 1) {
        munmap(region->block, region->bytes);
        free(region);
    }
}
