// SPDX-License-Identifier: Apache-2.0

#include "layer/chain.h"

#include "host/tensor.h"
#include "layer/pool.h"

// The last layer, NULL if there is none.
static struct lc_layer *last_layer(struct lc_chain *chain) {
    return chain->layer_count ? &chain->layers[chain->layer_count - 1] : NULL;
}

// Whether a tensor is the input of a layer from `first` on.
static bool is_input(const struct lc_chain *chain, int32_t first, int tensor) {
    bool found = false;
    for (int32_t i = first; i < chain->layer_count; i++) {
        found = found || chain->layers[i].input == tensor;
    }
    return found;
}

static bool can_grow(const struct lc_chain *chain) {
    int residual = lc_chain_residual(chain);
    return chain->layer_count < LC_MAX_LAYERS && !chain->ends_with_gate &&
           (residual == TFL_OPTIONAL_TENSOR || is_input(chain, 0, residual)) &&
           !(chain->layer_count && (chain->layers[chain->layer_count - 1].upsampling.rows ||
                                    chain->layers[chain->layer_count - 1].pool.kind));
}

static const char *append_pad(struct lc_chain *chain, const struct tfl_context *context,
                              struct lc_node_view view) {
    if (!can_grow(chain)) {
        return "the chain is complete";
    }
    struct lc_pad pad;
    const char *reason = lc_pad_read(&pad, context, view);
    if (!reason && chain->layer_count && pad.input != lc_chain_output(chain)) {
        reason = "it does not read what the chain computes";
    }
    if (!reason) {
        chain->pad = pad;
        chain->ends_with_pad = true;
    }
    return reason;
}

static const char *append_core(struct lc_chain *chain, const struct tfl_context *context,
                               struct lc_node_view view, const int *sources) {
    if (!can_grow(chain)) {
        return "the chain is complete";
    }
    struct lc_layer layer;
    const char *reason = lc_layer_read(&layer, context, view, sources);
    if (!reason && chain->ends_with_pad) {
        reason = lc_merge_pad(&layer, &chain->pad);
    }
    const struct lc_layer *before = last_layer(chain);
    if (!reason && before) {
        // A row of a dense layer is an image of another: a batch would not be the same.
        bool follows = layer.input == before->output && layer.is_dense == before->is_dense &&
                       !layer.upsampling.rows &&
                       lc_tensor(context, layer.input)->allocation_type == TFL_ARENA_RW;
        reason = follows ? NULL : "it does not read what the chain computes";
    }
    if (!reason) {
        chain->layers[chain->layer_count++] = layer;
        chain->ends_with_pad = false;
    }
    return reason;
}

static const char *append_pool(struct lc_chain *chain, const struct tfl_context *context,
                               struct lc_node_view view) {
    const struct lc_pad *pad = chain->ends_with_pad ? &chain->pad : NULL;
    const char *reason = lc_merge_pool(last_layer(chain), pad, context, view);
    chain->ends_with_pad = chain->ends_with_pad && reason;
    return reason;
}

static const char *append_follower(struct lc_chain *chain, const struct tfl_context *context,
                                   struct lc_node_view view) {
    struct lc_layer *last = last_layer(chain);
    if (chain->ends_with_gate) {
        const char *reason = lc_merge_product(last, context, view, chain->gate);
        chain->ends_with_gate = reason;
        return reason;
    }
    if (view.builtin_code == TFL_BUILTIN_LOGISTIC) {
        const char *reason = lc_gate_read(last, context, view, &chain->gate);
        chain->ends_with_gate = !reason;
        return reason;
    }
    return lc_merge_follower(last, context, view);
}

const char *lc_chain_append(struct lc_chain *chain, struct tfl_context *context, int index,
                            const int *sources) {
    struct lc_node_view view;
    if (chain->node_count == LC_MAX_NODES || !lc_node_at(context, index, &view)) {
        return "there is no such node";
    }
    struct lc_layer *last = last_layer(chain);
    const char *reason = "not an operator of a layer";
    if (view.node->delegate) {
        reason = "it is another delegate's";
    } else if (!chain->ends_with_pad && !chain->ends_with_gate &&
               lc_composite_awaits(&chain->composite, last, view)) {
        reason = lc_composite_append(&chain->composite, last, context, view);
    } else if (lc_core_name(view.builtin_code)) {
        reason = append_core(chain, context, view, sources);
    } else if (view.builtin_code == TFL_BUILTIN_PAD && !chain->ends_with_pad) {
        reason = append_pad(chain, context, view);
    } else if (last && !chain->ends_with_gate && lc_pool_of(view.builtin_code)) {
        reason = append_pool(chain, context, view);
    } else if (last && !last->pool.kind && !chain->ends_with_pad) {
        reason = append_follower(chain, context, view);
    }
    if (!reason) {
        chain->nodes[chain->node_count++] = index;
    }
    return reason;
}

bool lc_chain_is_open(const struct lc_chain *chain) {
    return chain->ends_with_pad || chain->ends_with_gate || chain->composite.step;
}

int lc_chain_input(const struct lc_chain *chain) {
    if (chain->layer_count) {
        return chain->layers[0].input;
    }
    return chain->ends_with_pad ? chain->pad.input : TFL_OPTIONAL_TENSOR;
}

int lc_chain_output(const struct lc_chain *chain) {
    if (chain->ends_with_pad) {
        return chain->pad.output;
    }
    if (chain->ends_with_gate) {
        return chain->gate;
    }
    if (chain->composite.step) {
        return chain->composite.output;
    }
    return chain->layer_count ? chain->layers[chain->layer_count - 1].output : TFL_OPTIONAL_TENSOR;
}

int lc_chain_residual(const struct lc_chain *chain) {
    int residual =
        chain->layer_count ? chain->layers[chain->layer_count - 1].residual : TFL_OPTIONAL_TENSOR;
    return is_input(chain, 1, residual) ? TFL_OPTIONAL_TENSOR : residual;
}

bool lc_chain_adds(const struct lc_chain *chain, const struct lc_kernel *kernel) {
    const struct lc_walk *walk = kernel->walk;
    bool same = true;
    for (int32_t i = 0; i < chain->layer_count; i++) {
        int residual = chain->layers[i].residual;
        if (walk) {
            int32_t source = walk->windows[i].source;
            same = same &&
                   residual == (source < 0 ? TFL_OPTIONAL_TENSOR : chain->layers[source].input);
        } else if (i < chain->layer_count - 1) {
            same = same && residual == TFL_OPTIONAL_TENSOR;
        } else {
            same = same && residual == lc_chain_residual(chain);
        }
    }
    return same;
}

const char *lc_chain_geometry(const struct lc_chain *chain, const struct tfl_context *context,
                              struct lc_geometry *layers, int32_t *batch) {
    for (int32_t i = 0; i < chain->layer_count; i++) {
        const struct tfl_tensor *input = lc_tensor(context, chain->layers[i].input);
        int32_t images;
        const char *problem =
            lc_layer_geometry(&chain->layers[i], input->dims, &layers[i], &images);
        if (problem) {
            return problem;
        }
        if (i > 0 && images != *batch) {
            return "the layers have different batches";
        }
        *batch = images;
    }
    return NULL;
}
