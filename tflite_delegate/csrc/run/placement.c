// SPDX-License-Identifier: Apache-2.0

#include "run/placement.h"

#include <stdlib.h>

// Larger ones first; of equal ones, the earlier.
static int compare(const void *left, const void *right) {
    const struct lc_block *a = left, *b = right;
    if (a->bytes != b->bytes) {
        return a->bytes < b->bytes ? 1 : -1;
    }
    return a->first != b->first ? (a->first > b->first) - (a->first < b->first)
                                : (a->id > b->id) - (a->id < b->id);
}

static bool overlap_in_time(const struct lc_block *a, const struct lc_block *b) {
    return a->first <= b->last && b->first <= a->last;
}

// The best offset beside `count` blocks that are in the order of their offsets.
static size_t find_gap(const struct lc_block *placed, int32_t count, const struct lc_block *block) {
    size_t end = 0, best = 0, best_gap = SIZE_MAX;
    for (int32_t i = 0; i < count; i++) {
        if (!overlap_in_time(&placed[i], block)) {
            continue;
        }
        size_t start = placed[i].offset;
        if (start > end && start - end >= block->bytes && start - end < best_gap) {
            best = end;
            best_gap = start - end;
        }
        end = start + placed[i].bytes > end ? start + placed[i].bytes : end;
    }
    return best_gap < SIZE_MAX ? best : end;
}

bool lc_place_blocks(struct lc_block *blocks, int32_t count, size_t *bytes) {
    *bytes = 0;
    size_t sum = 0; // no offset can exceed it
    for (int32_t i = 0; i < count; i++) {
        size_t rest = blocks[i].bytes % LC_BLOCK_ALIGNMENT;
        if (__builtin_add_overflow(blocks[i].bytes, rest ? LC_BLOCK_ALIGNMENT - rest : 0,
                                   &blocks[i].bytes) ||
            __builtin_add_overflow(sum, blocks[i].bytes, &sum)) {
            return false;
        }
    }
    qsort(blocks, (size_t)count, sizeof *blocks, compare);
    for (int32_t i = 0; i < count; i++) {
        struct lc_block block = blocks[i];
        block.offset = find_gap(blocks, i, &block);
        int32_t at = i;
        for (; at > 0 && blocks[at - 1].offset > block.offset; at--) {
            blocks[at] = blocks[at - 1];
        }
        blocks[at] = block;
        size_t end = block.offset + block.bytes;
        *bytes = end > *bytes ? end : *bytes;
    }
    return true;
}
