// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE // madvise

#include "run/pages.h"

#include <sys/auxv.h>
#include <sys/mman.h>

#include "host/tensor.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21 // Linux 5.4
#endif

// The whole pages inside of a block of memory. The advice loses nothing, whatever the memory is,
// and a system that does not know it leaves all as it is.
static void page_out(const void *data, size_t bytes) {
    uintptr_t size = getauxval(AT_PAGESZ), address = (uintptr_t)data;
    if (size == 0 || !data) {
        return;
    }
    uintptr_t begin = (address + size - 1) / size * size, end = (address + bytes) / size * size;
    if (begin < end) {
        madvise((char *)data + (begin - address), end - begin, MADV_PAGEOUT);
    }
}

// The constants of a node whose kernel reads copies of them.
static void give_back(const struct lc_graph *graph, const struct lc_node *node) {
    for (int32_t i = 0; i < node->chain.layer_count; i++) {
        int index = node->chain.layers[i].weights;
        const struct tfl_tensor *weights = lc_tensor(graph->context, index);
        if (weights && weights->allocation_type == TFL_MMAP_RO && graph->uses[index].readers <= 1) {
            page_out(weights->data, weights->bytes);
        }
    }
}

void lc_give_back_pages(const struct lc_graph *graph, struct lc_delegate *delegate) {
    lc_lock(&delegate->lock);
    for (const struct lc_node *node = delegate->nodes; node; node = node->next) {
        if (node->context == graph->context && node->is_packed && node->packed.weights) {
            give_back(graph, node);
        }
    }
    lc_unlock(&delegate->lock);
}
