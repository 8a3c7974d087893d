// SPDX-License-Identifier: Apache-2.0

#include "run/pages.h"

#include "host/tensor.h"
#include "kernels/pages/weight_pages.h"

// The constants of a node whose kernel reads copies of them.
static void give_back(const struct lc_graph *graph, const struct lc_node *node) {
    for (int32_t i = 0; i < node->chain.layer_count; i++) {
        int index = node->chain.layers[i].weights;
        const struct tfl_tensor *weights = lc_tensor(graph->context, index);
        if (weights && weights->allocation_type == TFL_MMAP_RO && graph->uses[index].readers <= 1) {
            lc_page_out(weights->data, weights->bytes);
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
