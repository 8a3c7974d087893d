// SPDX-License-Identifier: Apache-2.0
//
// Running a node: a compiled kernel, for as many images at once as it computes, or the generic one
// image by image.

#include <string.h>

#include "host/checked.h"
#include "host/pool.h"
#include "host/tensor.h"
#include "kernels/geometry.h"
#include "kernels/reference_conv.h"
#include "operators/pooling.h"
#include "run/account/account.h"
#include "run/node.h"
#include "run/rows/rows.h"
#include "run/strips/strips.h"

// The data of one image, or from there on those of several.
struct image {
    const char *x, *r; // r: NULL if there is no residual
    char *y;
};

// One call of a compiled kernel.
struct call {
    const struct lc_kernel *kernel;
    int32_t threads;
    struct image image;
    const char *weights, *bias;
    uint8_t *workspace;
    lc_stage_function *stage;
};

static bool run_stage(void *argument, int32_t thread, int32_t begin, int32_t end) {
    const struct call *call = argument;
    const struct image *image = &call->image;
    return call->stage(image->x, image->r, call->weights, call->bias, image->y, call->workspace,
                       thread, begin, end) == 0;
}

static bool run_stages(struct call *call) {
    for (int32_t i = 0; i < call->kernel->stage_count; i++) {
        const struct lc_stage *stage = &call->kernel->stages[i];
        call->stage = stage->function;
        // The pool has nothing to do for one thread, and takes longer for it than small layers do.
        const bool done = call->threads == 1 ? run_stage(call, 0, 0, stage->extent)
                                             : lc_pool_run(call->threads, stage->extent,
                                                           stage->whole, run_stage, call);
        if (!done) {
            return false;
        }
    }
    return true;
}

static bool run_strip(void *argument, const char *x, char *y) {
    struct call *call = argument;
    call->image.x = x;
    call->image.y = y;
    return run_stages(call);
}

static bool run_kernel(const struct lc_node *node, const struct tfl_context *context,
                       struct image image, uint8_t *workspace, int32_t threads) {
    const struct lc_kernel *kernel = node->kernel;
    const struct lc_geometry *g = kernel->layers;
    const struct lc_packed *packed = &node->packed;
    const struct lc_layer *layer = node->chain.layers;
    // Weights that are not packed are read where the model has them.
    struct call call = {
        .kernel = kernel,
        .threads = threads,
        .image = image,
        .weights = packed->weights ? packed->weights : lc_layer_weights(layer, context),
        .bias = packed->bias ? packed->bias : lc_layer_bias(layer, context),
        .workspace = workspace,
    };
    if (kernel->rows) {
        const struct lc_strips strips = {.kernel = kernel,
                                         .x = image.x,
                                         .y = image.y,
                                         .workspace = workspace + node->staged,
                                         .zero = kernel->zero ? call.bias[kernel->zero] : 0,
                                         .threads = threads,
                                         .run = run_strip,
                                         .argument = &call};
        return lc_run_strips(&strips);
    }
    if (kernel->walk) {
        return lc_walk_rows(kernel, image.x, call.weights, call.bias, image.y, workspace, threads);
    }
    if (kernel->calls == 1) {
        return run_stages(&call);
    }
    for (int32_t i = 0; i < kernel->calls; i++) {
        if (!run_stages(&call)) {
            return false;
        }
        // To the next group.
        call.weights += packed->group_pitch;
        call.bias += packed->group_pitch;
        size_t element = lc_element_bytes(g);
        call.image.x += (size_t)(g->in_channels / kernel->calls) * element;
        call.image.y += (size_t)(g->out_channels / kernel->calls) * element;
    }
    return true;
}

static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    lc_reference_conv(argument, begin, end);
    return true;
}

// What layer `i` adds to its output; NULL if that is nothing. `image` is the chain's.
static const void *added(const struct lc_node *node, int32_t i, const struct tfl_context *context,
                         const struct image *image) {
    const int residual = node->chain.layers[i].residual;
    if (residual == TFL_OPTIONAL_TENSOR) {
        return NULL;
    }
    if (residual == node->x) {
        return image->x;
    }
    return residual == node->r ? image->r : context->tensors[residual].data;
}

static bool run_generic(struct lc_node *node, const struct tfl_context *context, struct image image,
                        uint8_t *workspace, int32_t threads) {
    struct lc_chain *chain = &node->chain;
    if (image.x == image.y || image.r == image.y) { // it adds the residual to what it has stored
        if (!workspace || !lc_node_works_in_place(node)) {
            return false;
        }
        const char *kept = memcpy(workspace + node->staged, image.y, node->y_bytes);
        image.r = image.r == image.y ? kept : image.r;
        image.x = image.x == image.y ? kept : image.x;
    }
    const char *x = image.x;
    for (int32_t i = 0; i < chain->layer_count; i++) {
        struct lc_layer *layer = &chain->layers[i];
        if (!lc_layer_densify(layer, context)) {
            return false;
        }
        struct lc_constants constants = lc_layer_constants(layer, context);
        bool is_last = i == chain->layer_count - 1;
        char *y = layer->pool.kind ? context->tensors[layer->pool.input].data
                  : is_last        ? image.y
                                   : context->tensors[layer->output].data;
        struct lc_reference reference = {
            .geometry = &node->layers[i],
            .constants = &constants,
            .x = x,
            .r = added(node, i, context, &image),
            .y = y,
        };
        const int32_t rows = lc_out_rows(&node->layers[i]);
        if (!y || !lc_pool_run(threads, rows, false, run_rows, &reference)) {
            return false;
        }
        if (layer->pool.kind) { // the chain's last
            const struct lc_pooled pooled = {
                .geometry = &node->layers[i], .x = y, .y = image.y, .threads = threads};
            lc_pool_rows(&pooled, 0, lc_pooled_height(&node->layers[i]));
        }
        x = y;
    }
    return true;
}

// Whether the tensor holds `images` images of `bytes`.
static bool holds(const struct tfl_tensor *tensor, size_t bytes, int32_t images) {
    return lc_multiply(&bytes, images) && (bytes == 0 || tensor->data) && tensor->bytes >= bytes;
}

static bool run_spread(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    lc_spread_rows(argument, begin, end);
    return true;
}

// Whether a compiled kernel runs, which needs its workspace.
static bool is_compiled(const struct lc_node *node, const uint8_t *workspace) {
    return node->kernel && (workspace || !node->workspace_bytes);
}

// One image, or as many as the kernel computes, from the tensors' data.
static bool compute(struct lc_node *node, const struct tfl_context *context, struct image image,
                    uint8_t *workspace, int32_t threads) {
    return is_compiled(node, workspace) ? run_kernel(node, context, image, workspace, threads)
                                        : run_generic(node, context, image, workspace, threads);
}

static bool has_copies(const struct lc_node *node) {
    return node->input.elements || node->residual.elements || node->output.elements;
}

// The same; into the workspace, and spread over the output, if it is a transposed convolution's.
static bool run_images(struct lc_node *node, const struct tfl_context *context, struct image image,
                       uint8_t *workspace, int32_t threads) {
    struct lc_spread spread;
    char *y = image.y;
    if (!has_copies(node) && !node->filters && !node->chain.layers[0].upsampling.rows) {
        return compute(node, context, image, workspace, threads);
    }
    if (has_copies(node) && (!workspace || !lc_copy_in(&node->input, workspace, image.x, threads) ||
                             !lc_copy_in(&node->residual, workspace, image.r, threads))) {
        return false;
    }
    image.x = lc_copied(&node->input, workspace, (char *)(uintptr_t)image.x);
    image.r = lc_copied(&node->residual, workspace, (char *)(uintptr_t)image.r);
    image.y = lc_copied(&node->output, workspace, image.y);
    bool is_spread = lc_layer_spread(node->chain.layers, node->layers, &spread);
    if (is_spread) {
        if (!workspace) {
            return false;
        }
        spread.to = image.y;
        image.y = (char *)workspace + node->staged;
        spread.from = image.y;
    }
    const struct lc_filters *filters = is_compiled(node, workspace) ? node->filters : NULL;
    float *whole = (float *)(void *)image.y;
    size_t pixels = 0;
    if (filters) {
        pixels = (size_t)node->kernel->images * (size_t)lc_out_rows(node->layers) *
                 (size_t)lc_out_width(node->layers);
        image.y = (char *)(whole + pixels * (filters->all - filters->count));
    }
    bool done = compute(node, context, image, workspace, threads);
    if (done && filters) {
        lc_filters_spread(filters, whole, pixels);
    }
    return done &&
           (!is_spread || lc_pool_run(threads, spread.height.size, false, run_spread, &spread)) &&
           lc_copy_out(&node->output, workspace, y, threads);
}

int lc_node_invoke(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_node *node = tfl_node->user_data;
    // Read at every call: TFLite moves data whenever it plans its arena again.
    const struct tfl_tensor *input = &context->tensors[node->x];
    const struct tfl_tensor *residual = lc_tensor(context, node->r);
    const struct tfl_tensor *output = &context->tensors[node->y];
    const size_t x_bytes = node->x_bytes, r_bytes = node->r_bytes, y_bytes = node->y_bytes;
    if (!node->is_measured) {
        lc_measure(node, context);
    }
    if (!holds(input, x_bytes, node->batch) || !holds(output, y_bytes, node->batch) ||
        (residual && !holds(residual, r_bytes, node->repeats_residual ? 1 : node->batch))) {
        context->ReportError(context, "leanconv: node %d: a tensor has no data",
                             node->chain.layers[0].core);
        return TFL_ERROR;
    }
    uint8_t *workspace = node->workspace_bytes ? context->tensors[node->workspace].data : NULL;
    // The interpreter's thread count may have changed; the workspace is for those of prepare.
    int32_t threads = lc_threads_for(node->delegate, context);
    threads = threads < node->threads ? threads : node->threads;
    struct image all = {.x = input->data, .r = residual ? residual->data : NULL, .y = output->data};
    int32_t images = is_compiled(node, workspace) ? node->kernel->images : 1;
    for (int32_t i = 0; i < node->batch && y_bytes > 0; i += images) {
        // The last call may compute some images anew, so as to have as many as it takes.
        size_t first = (size_t)(i < node->batch - images ? i : node->batch - images);
        struct image image = {.x = all.x + first * x_bytes, .y = all.y + first * y_bytes};
        image.r = all.r && !node->repeats_residual ? all.r + first * r_bytes : all.r;
        if (!run_images(node, context, image, workspace, threads)) {
            context->ReportError(context, "leanconv: %s failed", node->name);
            return TFL_ERROR;
        }
    }
    // Only this thread counts; others may read.
    atomic_ullong *calls = is_compiled(node, workspace) ? &node->calls : &node->generic_calls;
    unsigned long long before = atomic_load_explicit(calls, memory_order_relaxed);
    atomic_store_explicit(calls, before + 1, memory_order_relaxed);
    return TFL_OK;
}
