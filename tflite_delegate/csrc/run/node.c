// SPDX-License-Identifier: Apache-2.0

#include "run/node.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "host/log.h"
#include "kernels/embedded/embedded.h"
#include "kernels/kernels.h"
#include "run/copies/halved.h"

int32_t lc_threads_for(const struct lc_delegate *delegate, const struct tfl_context *context) {
    int32_t threads = delegate->options.num_threads;
    if (threads == 0) {
        threads = context->recommended_num_threads;
    }
    const int32_t limit = atomic_load_explicit(&delegate->most_threads, memory_order_relaxed);
    const int32_t most = limit ? limit : LC_MAX_THREADS;
    threads = threads < most ? threads : most;
    return threads < 1 ? 1 : threads;
}

bool lc_node_works_in_place(const struct lc_node *node) {
    const struct lc_kernel *kernel = node->claimed_kernel;
    return kernel && kernel->overwrites != LC_NOTHING;
}

static void enlist(struct lc_node *node) {
    struct lc_delegate *delegate = node->delegate;
    lc_lock(&delegate->lock);
    node->next = delegate->nodes;
    if (node->next) {
        node->next->previous = node;
    }
    delegate->nodes = node;
    delegate->live_bytes += node->packed.bytes;
    lc_unlock(&delegate->lock);
}

static void delist(struct lc_node *node) {
    struct lc_delegate *delegate = node->delegate;
    lc_lock(&delegate->lock);
    *(node->previous ? &node->previous->next : &delegate->nodes) = node->next;
    if (node->next) {
        node->next->previous = node->previous;
    }
    delegate->live_bytes -= node->packed.bytes;
    lc_unlock(&delegate->lock);
}

static void forget_copies(struct lc_node *node) {
    for (int32_t i = 0; i < node->chain.layer_count; i++) {
        lc_layer_forget_copies(&node->chain.layers[i]);
    }
}

static void pack(struct lc_node *node, const struct tfl_context *context,
                 struct lc_region *region) {
    struct lc_constants constants[LC_MAX_LAYERS];
    const struct lc_place *place = node->place;
    bool is_dense = true;
    for (int32_t i = 0; i < node->chain.layer_count; i++) {
        is_dense = lc_layer_densify(&node->chain.layers[i], context) && is_dense;
        constants[i] = lc_layer_constants(&node->chain.layers[i], context);
    }
    if (node->filters) {
        constants->filters = node->filters->of_layer;
        constants->filter_count = node->filters->all;
    }
    bool is_embedded =
        is_dense && place &&
        lc_take_embedded(&node->packed, place, constants, node->delegate->options.verify == 1);
    node->is_packed = is_embedded ||
                      (is_dense && lc_pack(&node->packed, node->claimed_kernel, constants, region));
    forget_copies(node);
    if (!node->is_packed) {
        lc_log("no memory to pack the weights of %s: it runs slowly", node->claimed_kernel->name);
    }
}

struct lc_claim lc_claim_of(struct lc_delegate *delegate, const struct tfl_context *context) {
    struct lc_claim found = {0};
    lc_lock(&delegate->lock);
    for (const struct lc_claim *claim = delegate->claims; claim; claim = claim->next) {
        found = claim->context == context ? *claim : found;
    }
    lc_unlock(&delegate->lock);
    return found;
}

// Finds the kernel that the chain was claimed for, and where it was compiled for the chain, that.
static void find_claimed(struct lc_node *node, const struct tfl_context *context) {
    const struct lc_chain *chain = &node->chain;
    const char *algorithm = node->delegate->options.algorithm;
    const struct lc_claim claim = lc_claim_of(node->delegate, context);
    struct lc_geometry layers[LC_MAX_LAYERS];
    memcpy(layers, node->own_layers, sizeof layers);
    const bool is_narrower =
        lc_filters_narrow(chain, context, claim.graph_nodes, claim.plan, layers, algorithm);
    node->place = lc_place_at(claim.graph_nodes, chain->layers[0].core, claim.plan, layers,
                              chain->layer_count, algorithm);
    node->claimed_kernel =
        node->place ? node->place->kernel : lc_find_kernel(layers, chain->layer_count, algorithm);
    if (node->claimed_kernel && is_narrower) {
        node->filters =
            lc_filters_new(chain->layers, context, node->own_layers, node->claimed_kernel);
    }
    if (node->claimed_kernel &&
        (!lc_chain_adds(chain, node->claimed_kernel) || (is_narrower && !node->filters))) {
        node->claimed_kernel = NULL;
    }
}

// Reads the replaced nodes again and packs their weights. False if they are not what was claimed.
static bool read_claimed(struct lc_node *node, struct tfl_context *context,
                         const struct tfl_ints *replaced) {
    struct lc_chain *chain = &node->chain;
    const struct lc_claim claim = lc_claim_of(node->delegate, context);
    for (int i = 0; i < replaced->size; i++) {
        if (lc_chain_append(chain, context, replaced->data[i], claim.sources)) {
            return false;
        }
    }
    if (!chain->layer_count || lc_chain_is_open(chain) ||
        lc_chain_geometry(chain, context, node->own_layers, &node->batch)) {
        return false;
    }
    node->x = lc_chain_input(chain);
    node->r = lc_chain_residual(chain);
    node->y = lc_chain_output(chain);
    find_claimed(node, context);
    if (node->claimed_kernel) {
        pack(node, context, claim.region);
    }
    return true;
}

static void dispose(struct lc_node *node) {
    lc_packed_free(&node->packed);
    free(node->filters);
    free(node->own_layers);
    free(node->generic_name);
    free(node);
}

// The first bytes of a block, which is freed, in one of their own; the block itself without memory.
static void *cut(void *block, size_t bytes) {
    void *smaller = malloc(bytes);
    if (!smaller) {
        return block;
    }
    memcpy(smaller, block, bytes);
    free(block);
    return smaller;
}

// The node without room for the layers and nodes that it has not.
static struct lc_node *trimmed(struct lc_node *node) {
    const struct lc_chain *chain = &node->chain;
    const size_t count = (size_t)chain->layer_count;
    const size_t bytes = offsetof(struct lc_node, chain.layers) + count * sizeof *chain->layers;
    const size_t nodes_bytes = (size_t)chain->node_count * sizeof *chain->nodes;
    node->own_layers = cut(node->own_layers, count * sizeof *node->layers);
    node->layers = node->own_layers;
    node->node_count = chain->node_count;
    node->nodes = chain->nodes;
    struct lc_node *smaller = malloc(bytes + nodes_bytes);
    if (!smaller) {
        return node;
    }
    memcpy(smaller, node, bytes);
    smaller->nodes = memcpy((char *)smaller + bytes, chain->nodes, nodes_bytes);
    free(node);
    return smaller;
}

static void *node_init(struct tfl_context *context, const char *buffer, size_t length) {
    (void)length; // TFLite passes 0
    const struct tfl_delegate_params *params = (const void *)buffer;
    struct lc_node *node = calloc(1, sizeof *node);
    if (!node) {
        return NULL;
    }
    node->own_layers = calloc(LC_MAX_LAYERS, sizeof *node->layers);
    node->delegate = (struct lc_delegate *)params->delegate;
    node->context = context;
    node->name = "";
    node->workspace = -1;
    if (!node->own_layers || !read_claimed(node, context, params->nodes_to_replace)) {
        dispose(node);
        return NULL;
    }
    node = trimmed(node);
    enlist(node);
    return node;
}

static void node_free(struct tfl_context *context, void *user_data) {
    struct lc_node *node = user_data;
    if (node) {
        lc_restore_halved(node->delegate, context);
        delist(node);
        forget_copies(node);
        dispose(node);
    }
}

// What TFLite's profile shows behind the type: the layers.
static const char *node_layers(const struct tfl_context *context, const struct tfl_node *tfl_node) {
    (void)context;
    const struct lc_node *node = tfl_node->user_data;
    if (!node || !node->name[0]) {
        return NULL;
    }
    return node->name + (node->kernel ? strlen(node->kernel->type) + 1 : strlen("leanconv/"));
}

struct tfl_registration lc_node_registration(const struct lc_kernel *kernel) {
    return (struct tfl_registration){
        .init = node_init,
        .free = node_free,
        .prepare = lc_node_prepare,
        .invoke = lc_node_invoke,
        .profiling_string = node_layers,
        .custom_name = kernel->type,
        .version = 1,
    };
}
