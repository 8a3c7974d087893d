// SPDX-License-Identifier: Apache-2.0
//
// Before a node runs: shapes, the kernel for them, and memory in TFLite's arena.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/arena.h"
#include "host/checked.h"
#include "host/tensor.h"
#include "kernels/geometry.h"
#include "kernels/kernels.h"
#include "run/node.h"

// What prepare finds out before it changes the node.
struct shapes {
    struct lc_geometry layers[LC_MAX_LAYERS];
    int32_t batch;
    size_t x_bytes, r_bytes, y_bytes; // of one image
    size_t x_elements, y_elements;    // likewise
};

// What a node needs in memory while it runs.
struct room {
    size_t bytes, staged;
    struct lc_copy input, residual, output;
};

static int report(const struct lc_layer *layer, struct tfl_context *context, const char *problem) {
    context->ReportError(context, "leanconv: node %d: %s", layer->core, problem);
    return TFL_ERROR;
}

// Whether a residual has the output's shape, or that of one image, which is added to all.
static bool residual_fits(const struct tfl_ints *residual, const struct tfl_ints *output) {
    bool is_image = residual && residual->size == 4 && output->size == 4 && residual->data[0] == 1;
    return lc_same_dims(residual, output) ||
           (is_image && memcmp(residual->data + 1, output->data + 1, 3 * sizeof(int)) == 0);
}

// The shapes of one layer. Resizes its output, which is the next one's input.
static int infer_layer(const struct lc_layer *layer, struct tfl_context *context,
                       struct lc_geometry *geometry, int32_t *batch) {
    const struct tfl_ints *input_dims = context->tensors[layer->input].dims;
    const char *problem = lc_layer_geometry(layer, input_dims, geometry, batch);
    if (problem) {
        return report(layer, context, problem);
    }
    struct tfl_ints *dims = lc_layer_output_dims(layer, input_dims, geometry, *batch);
    if (dims && layer->residual != TFL_OPTIONAL_TENSOR &&
        !residual_fits(context->tensors[layer->residual].dims, dims)) {
        free(dims);
        return report(layer, context, "the operands of its addition have different shapes");
    }
    if (layer->pool.kind) { // only the generic kernel stores what is pooled
        struct tfl_ints *unpooled = lc_layer_unpooled_dims(layer, input_dims, geometry, *batch);
        int status = lc_resize(context, layer->pool.input, unpooled);
        if (status != TFL_OK) {
            free(dims);
            return status;
        }
    }
    return lc_resize(context, layer->output, dims);
}

static int infer(const struct lc_chain *chain, struct tfl_context *context, struct shapes *shapes) {
    int status = TFL_OK;
    for (int32_t i = 0; status == TFL_OK && i < chain->layer_count; i++) {
        status = infer_layer(&chain->layers[i], context, &shapes->layers[i], &shapes->batch);
    }
    return status;
}

// Asks TFLite's arena for `bytes` of workspace. False if it cannot be had.
static bool request_workspace(struct lc_node *node, struct tfl_context *context,
                              struct tfl_node *tfl_node, size_t bytes) {
    if (bytes == 0) {
        return lc_set_temporaries(tfl_node, NULL, 0);
    }
    return lc_arena_request(context, &node->workspace, "leanconv/workspace", bytes) &&
           lc_set_temporaries(tfl_node, &node->workspace, 1);
}

// Adds room for an image that is spread over the output. False on overflow.
static bool add_staged(const struct lc_node *node, const struct shapes *shapes, struct room *room) {
    size_t input, output;
    struct lc_spread spread;
    if (!lc_layer_spread(node->chain.layers, shapes->layers, &spread)) {
        return true;
    }
    bool fits = lc_round_up(&room->bytes);
    room->staged = room->bytes;
    return fits && lc_image_elements(shapes->layers, &input, &output) &&
           lc_multiply(&output, (int64_t)spread.element_bytes) && lc_add(&room->bytes, output);
}

// Adds room for a copy of what the output may lie in the place of, which has as many bytes. False
// on overflow.
static bool add_saved(const struct lc_node *node, const struct shapes *shapes, struct room *room) {
    if (!lc_node_works_in_place(node)) {
        return true;
    }
    bool fits = lc_round_up(&room->bytes);
    room->staged = room->bytes;
    return fits && lc_add(&room->bytes, shapes->y_bytes);
}

// Adds room for a strip of a layer that is pooled. False on overflow.
static bool add_strip(const struct lc_kernel *kernel, struct room *room) {
    if (!kernel->rows) {
        return true;
    }
    bool fits = lc_round_up(&room->bytes);
    room->staged = room->bytes;
    return fits && lc_add(&room->bytes, kernel->strip_bytes + kernel->border_bytes);
}

// Adds room for copies of `images` of each tensor that is not of the type that is computed in:
// float16, or float32. False on overflow.
static bool add_copies(const struct lc_node *node, const struct tfl_context *context,
                       const struct shapes *shapes, bool is_half, int32_t images,
                       struct room *room) {
    const struct tfl_tensor *residual = lc_tensor(context, node->r);
    size_t x = shapes->x_elements, y = shapes->y_elements;
    return lc_multiply(&x, images) && lc_multiply(&y, images) &&
           lc_place_copy(&room->input, &context->tensors[node->x], is_half, x, &room->bytes) &&
           (!residual || lc_place_copy(&room->residual, residual, is_half, y, &room->bytes)) &&
           lc_place_copy(&room->output, &context->tensors[node->y], is_half, y, &room->bytes);
}

// Asks TFLite for what the generic kernel needs: the tensors between the layers, the image that is
// spread over the output, copies. False if it cannot.
static bool request_intermediates(struct lc_node *node, struct tfl_context *context,
                                  struct tfl_node *tfl_node, const struct shapes *shapes,
                                  struct room *room) {
    const struct lc_chain *chain = &node->chain;
    int tensors[LC_MAX_LAYERS + 1];
    int count = 0;
    if (!add_staged(node, shapes, room) || !add_saved(node, shapes, room) ||
        !add_copies(node, context, shapes, false, 1, room)) {
        return false;
    }
    if (room->bytes) {
        if (!lc_arena_request(context, &node->workspace, "leanconv/workspace", room->bytes)) {
            return false;
        }
        tensors[count++] = node->workspace;
    }
    for (int32_t i = 1; i < chain->layer_count; i++) {
        tensors[count++] = chain->layers[i].input;
    }
    const struct lc_layer_pool *pool = &chain->layers[chain->layer_count - 1].pool;
    if (pool->kind) {
        tensors[count++] = pool->input;
    }
    return lc_set_temporaries(tfl_node, tensors, count);
}

// The compiled kernel for the shapes, with its workspace; NULL if there is none.
static const struct lc_kernel *choose_kernel(struct lc_node *node, struct tfl_context *context,
                                             struct tfl_node *tfl_node, const struct shapes *shapes,
                                             int32_t threads, struct room *room) {
    struct lc_spread spread;
    bool is_spread = lc_layer_spread(node->chain.layers, shapes->layers, &spread);
    // What goes with one image alone: what it is spread over, or a residual of all.
    int32_t images = is_spread || node->repeats_residual || !shapes->batch ? 1 : shapes->batch;
    struct lc_geometry layers[LC_MAX_LAYERS];
    memcpy(layers, shapes->layers, sizeof layers);
    if (node->filters) {
        layers->out_channels = (int32_t)node->filters->count;
    }
    const char *algorithm = node->delegate->options.algorithm;
    const struct lc_kernel *kernel = node->is_packed
                                         ? lc_find_runnable(layers, node->chain.layer_count,
                                                            algorithm, node->claimed_kernel, images)
                                         : NULL;
    if (kernel && kernel->shared && threads > 1 && !algorithm) {
        kernel = kernel->shared;
    }
    if (kernel && lc_chain_adds(&node->chain, kernel) &&
        lc_workspace_bytes(kernel, threads, &room->bytes) && add_staged(node, shapes, room) &&
        add_strip(kernel, room) &&
        add_copies(node, context, shapes, kernel->layers->element == LC_FLOAT16, kernel->images,
                   room) &&
        request_workspace(node, context, tfl_node, room->bytes)) {
        return kernel;
    }
    *room = (struct room){0};
    return NULL;
}

// Takes the rows of a dense layer in images of as many as the kernel was compiled for.
static void fold_rows(const struct lc_node *node, struct shapes *shapes) {
    int32_t *rows = &shapes->layers[0].in_width;
    int32_t compiled = node->claimed_kernel ? node->claimed_kernel->layers[0].in_width : 1;
    if (node->chain.layers[0].is_dense && *rows % compiled == 0) {
        shapes->batch *= *rows / compiled;
        *rows = compiled;
    }
}

// Elements and bytes of one image of the input, the residual and the output. False on overflow.
static bool count_bytes(const struct lc_node *node, const struct tfl_context *context,
                        struct shapes *shapes) {
    const struct lc_chain *chain = &node->chain;
    const struct lc_geometry *first = shapes->layers, *last = &first[chain->layer_count - 1];
    size_t between, *x = &shapes->x_elements, *y = &shapes->y_elements;
    struct lc_spread spread;
    bool fits = lc_image_elements(first, x, &between);
    if (last->pool) {
        *y = (size_t)last->out_channels;
        fits =
            fits && lc_multiply(y, lc_pooled_height(last)) && lc_multiply(y, lc_pooled_width(last));
    } else if (!lc_layer_spread(chain->layers, first, &spread)) {
        fits = fits && lc_image_elements(last, &between, y);
    } else {
        *y = (size_t)spread.up->channels;
        fits = fits && lc_multiply(y, spread.height.size) && lc_multiply(y, spread.width.size);
    }
    const struct tfl_tensor *residual = lc_tensor(context, node->r);
    shapes->x_bytes = *x;
    shapes->r_bytes = residual ? *y : 0;
    shapes->y_bytes = *y;
    return fits && lc_multiply(&shapes->x_bytes, lc_element_size(context->tensors[node->x].type)) &&
           (!residual || lc_multiply(&shapes->r_bytes, lc_element_size(residual->type))) &&
           lc_multiply(&shapes->y_bytes, lc_element_size(context->tensors[node->y].type));
}

// Of the generic kernel only what is told of it without memory.
static void name_node(struct lc_node *node) {
    static const char prefix[] = "leanconv/generic ";
    enum { LENGTH = sizeof prefix - 1 };
    if (node->kernel) {
        node->name = node->kernel->name;
        return;
    }
    char *name = node->generic_name ? node->generic_name : malloc(LC_NAME_BYTES);
    node->generic_name = name;
    node->name = name ? name : prefix;
    if (name) {
        memcpy(name, prefix, LENGTH);
        lc_layers_describe(node->layers, node->chain.layer_count, name + LENGTH,
                           LC_NAME_BYTES - LENGTH);
    }
}

// Whether the layers are those of the kernel, in all that is ever told or done.
static bool are_of_kernel(const struct lc_kernel *kernel, const struct lc_geometry *layers) {
    bool same = kernel;
    for (int32_t i = 0; same && i < kernel->layer_count; i++) {
        struct lc_geometry layer = layers[i];
        layer.pairs = kernel->layers[i].pairs; // how it adds
        same = memcmp(&layer, &kernel->layers[i], sizeof layer) == 0;
    }
    return same;
}

// False without memory.
static bool keep_layers(struct lc_node *node, const struct lc_geometry *layers) {
    const size_t bytes = (size_t)node->chain.layer_count * sizeof *layers;
    if (are_of_kernel(node->kernel, layers)) {
        free(node->own_layers);
        node->own_layers = NULL;
        node->layers = node->kernel->layers;
        return true;
    }
    struct lc_geometry *own = node->own_layers ? node->own_layers : malloc(bytes);
    if (!own) {
        return false;
    }
    node->layers = node->own_layers = memcpy(own, layers, bytes);
    return true;
}

int lc_node_prepare(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_node *node = tfl_node->user_data;
    if (!node) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    struct shapes shapes = {0};
    int status = infer(&node->chain, context, &shapes);
    if (status != TFL_OK) {
        return status;
    }
    const struct tfl_tensor *output = lc_tensor(context, node->y);
    const struct tfl_tensor *residual = lc_tensor(context, node->r);
    node->repeats_residual = residual && !lc_same_dims(residual->dims, output->dims);
    fold_rows(node, &shapes);
    int32_t threads = lc_threads_for(node->delegate, context);
    struct room room = {0};
    if (!count_bytes(node, context, &shapes)) {
        return report(&node->chain.layers[0], context, "an image has too many bytes");
    }
    const struct lc_kernel *kernel =
        choose_kernel(node, context, tfl_node, &shapes, threads, &room);
    if (!kernel && !request_intermediates(node, context, tfl_node, &shapes, &room)) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    lc_lock(&node->delegate->lock);
    node->batch = shapes.batch;
    node->x_bytes = shapes.x_bytes;
    node->r_bytes = shapes.r_bytes;
    node->y_bytes = shapes.y_bytes;
    node->kernel = kernel;
    node->threads = threads;
    node->workspace_bytes = room.bytes;
    node->staged = room.staged;
    node->input = room.input;
    node->residual = room.residual;
    node->output = room.output;
    node->is_measured = false;
    const bool has_layers = keep_layers(node, shapes.layers);
    if (has_layers) {
        name_node(node);
    }
    lc_unlock(&node->delegate->lock);
    if (!has_layers) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    return TFL_OK;
}
