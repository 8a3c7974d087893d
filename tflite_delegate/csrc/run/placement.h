// SPDX-License-Identifier: Apache-2.0
//
// Offsets in one piece of memory for slots that are in use for a while each.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LC_SLOT_ALIGNMENT = 64 };

struct lc_slot {
    int32_t id; // the caller's
    size_t bytes;
    int32_t first, last; // steps during which it is in use
    size_t offset;
};

// Chooses the offsets, so that no two slots that are in use at once overlap: the largest first,
// each into the gap that fits it best, as TFLite's own arena does. Reorders the slots. Writes the
// bytes of the whole; false on overflow.
bool lc_place_slots(struct lc_slot *slots, int32_t count, size_t *bytes);
