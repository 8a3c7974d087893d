// SPDX-License-Identifier: Apache-2.0

#include "run/placement.h"

#include <stdlib.h>

// Larger ones first; of equal ones, the earlier.
static int compare(const void *left, const void *right) {
    const struct lc_slot *a = left, *b = right;
    if (a->bytes != b->bytes) {
        return a->bytes < b->bytes ? 1 : -1;
    }
    return a->first != b->first ? (a->first > b->first) - (a->first < b->first)
                                : (a->id > b->id) - (a->id < b->id);
}

static bool overlap_in_time(const struct lc_slot *a, const struct lc_slot *b) {
    return a->first <= b->last && b->first <= a->last;
}

// The best offset beside `count` slots that are in the order of their offsets.
static size_t find_gap(const struct lc_slot *placed, int32_t count, const struct lc_slot *slot) {
    size_t end = 0, best = 0, best_gap = SIZE_MAX;
    for (int32_t i = 0; i < count; i++) {
        if (!overlap_in_time(&placed[i], slot)) {
            continue;
        }
        size_t start = placed[i].offset;
        if (start > end && start - end >= slot->bytes && start - end < best_gap) {
            best = end;
            best_gap = start - end;
        }
        end = start + placed[i].bytes > end ? start + placed[i].bytes : end;
    }
    return best_gap < SIZE_MAX ? best : end;
}

bool lc_place_slots(struct lc_slot *slots, int32_t count, size_t *bytes) {
    *bytes = 0;
    size_t sum = 0; // no offset can exceed it
    for (int32_t i = 0; i < count; i++) {
        size_t rest = slots[i].bytes % LC_SLOT_ALIGNMENT;
        if (__builtin_add_overflow(slots[i].bytes, rest ? LC_SLOT_ALIGNMENT - rest : 0,
                                   &slots[i].bytes) ||
            __builtin_add_overflow(sum, slots[i].bytes, &sum)) {
            return false;
        }
    }
    qsort(slots, (size_t)count, sizeof *slots, compare);
    for (int32_t i = 0; i < count; i++) {
        struct lc_slot slot = slots[i];
        slot.offset = find_gap(slots, i, &slot);
        int32_t at = i;
        for (; at > 0 && slots[at - 1].offset > slot.offset; at--) {
            slots[at] = slots[at - 1];
        }
        slots[at] = slot;
        size_t end = slot.offset + slot.bytes;
        *bytes = end > *bytes ? end : *bytes;
    }
    return true;
}
