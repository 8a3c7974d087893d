// SPDX-License-Identifier: Apache-2.0

#include "run/copies/copies.h"

#include "host/checked.h"
#include "host/pool.h"
#include "kernels/halves.h"

// Elements that a thread converts at least.
enum { CHUNK = 8192 };

bool lc_place_copy(struct lc_copy *copy, const struct tfl_tensor *tensor, bool is_half,
                   size_t elements, size_t *bytes) {
    *copy = (struct lc_copy){.is_half = is_half};
    if (tensor->type != (is_half ? TFL_FLOAT32 : TFL_FLOAT16)) {
        return true;
    }
    bool fits = elements < (size_t)INT32_MAX * CHUNK && lc_round_up(bytes);
    copy->offset = *bytes;
    copy->elements = elements;
    return fits && lc_multiply(&elements, is_half ? sizeof(uint16_t) : sizeof(float)) &&
           lc_add(bytes, elements);
}

char *lc_copied(const struct lc_copy *copy, uint8_t *workspace, char *data) {
    return copy->elements ? (char *)workspace + copy->offset : data;
}

struct conversion {
    const void *from;
    void *to;
    size_t elements;
    bool narrows;
};

static bool convert(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct conversion *all = argument;
    size_t first = (size_t)begin * CHUNK, last = (size_t)end * CHUNK;
    last = last < all->elements ? last : all->elements;
    if (all->narrows) {
        lc_narrow((uint16_t *)all->to + first, (const float *)all->from + first, last - first);
    } else {
        lc_widen((float *)all->to + first, (const uint16_t *)all->from + first, last - first);
    }
    return true;
}

static bool run(struct conversion *conversion, int32_t threads) {
    size_t chunks = (conversion->elements + CHUNK - 1) / CHUNK;
    return lc_pool_run(threads, (int32_t)chunks, false, convert, conversion);
}

bool lc_copy_in(const struct lc_copy *copy, uint8_t *workspace, const char *data, int32_t threads) {
    struct conversion conversion = {
        .from = data,
        .to = workspace + copy->offset,
        .elements = copy->elements,
        .narrows = copy->is_half,
    };
    return !copy->elements || run(&conversion, threads);
}

bool lc_copy_out(const struct lc_copy *copy, const uint8_t *workspace, char *data,
                 int32_t threads) {
    struct conversion conversion = {
        .from = workspace + copy->offset,
        .to = data,
        .elements = copy->elements,
        .narrows = !copy->is_half,
    };
    return !copy->elements || run(&conversion, threads);
}
