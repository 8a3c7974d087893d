// SPDX-License-Identifier: Apache-2.0

#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "log.h"
#include "pool.h"
#include "reference_conv.h"

// Workspace is asked for in rows of this size, so that the number of rows fits TFLite's int.
enum { WORKSPACE_ROW = 64 };

static struct lc_constant constant_of(const struct tfl_context *context, int index) {
    const struct tfl_tensor *tensor = lc_tensor(context, index);
    if (!tensor) {
        return (struct lc_constant){0};
    }
    return (struct lc_constant){.data = tensor->data, .is_half = tensor->type == TFL_FLOAT16};
}

int32_t lc_threads_for(const struct lc_delegate *delegate, const struct tfl_context *context) {
    int32_t threads = delegate->options.num_threads;
    if (threads == 0) {
        threads = context->recommended_num_threads;
    }
    threads = threads < LC_MAX_THREADS ? threads : LC_MAX_THREADS;
    return threads < 1 ? 1 : threads;
}

// Init and free

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

// Reads the replaced node again and packs its weights. False if it is not what was claimed.
static bool read_claimed(struct lc_node *node, struct tfl_context *context) {
    struct tfl_node *replaced;
    struct tfl_registration *registration;
    if (context->GetNodeAndRegistration(context, node->index, &replaced, &registration) != TFL_OK ||
        lc_layer_read(&node->layer, context, replaced, NULL) ||
        lc_layer_geometry(&node->layer, context->tensors[node->layer.input].dims, &node->geometry,
                          &node->batch)) {
        return false;
    }
    node->claimed_kernel = lc_find_kernel(&node->geometry, node->delegate->options.algorithm, NULL);
    struct lc_constant weights = constant_of(context, node->layer.weights);
    struct lc_constant bias = constant_of(context, node->layer.bias);
    if (node->claimed_kernel && !lc_pack(&node->packed, node->claimed_kernel, &weights, &bias)) {
        lc_log("no memory to pack the weights of %s: it runs slowly", node->claimed_kernel->name);
    }
    return true;
}

static void *node_init(struct tfl_context *context, const char *buffer, size_t length) {
    (void)length; // TFLite passes 0
    const struct tfl_delegate_params *params = (const void *)buffer;
    struct lc_node *node = calloc(1, sizeof *node);
    if (!node) {
        return NULL;
    }
    node->delegate = (struct lc_delegate *)params->delegate;
    node->index = params->nodes_to_replace->data[0];
    node->workspace = -1;
    if (!read_claimed(node, context)) {
        lc_packed_free(&node->packed);
        free(node);
        return NULL;
    }
    enlist(node);
    return node;
}

static void node_free(struct tfl_context *context, void *user_data) {
    (void)context;
    struct lc_node *node = user_data;
    if (node) {
        delist(node);
        lc_packed_free(&node->packed);
        free(node);
    }
}

// Prepare

static struct tfl_ints *new_ints(int size) {
    struct tfl_ints *ints = malloc(sizeof *ints + (size_t)size * sizeof(int));
    if (ints) {
        ints->size = size;
    }
    return ints;
}

static int resize_output(struct lc_node *node, struct tfl_context *context,
                         const struct lc_geometry *geometry, int32_t batch) {
    const int dims[4] = {batch, lc_out_height(geometry), lc_out_width(geometry),
                         geometry->out_channels};
    struct tfl_tensor *output = &context->tensors[node->layer.output];
    if (output->dims && output->dims->size == 4 &&
        memcmp(output->dims->data, dims, sizeof dims) == 0) {
        return TFL_OK;
    }
    struct tfl_ints *resized = new_ints(4);
    if (!resized) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    memcpy(resized->data, dims, sizeof dims);
    return context->ResizeTensor(context, output, resized);
}

// Bytes of workspace for a number of threads. False on overflow.
static bool workspace_bytes(const struct lc_kernel *kernel, int32_t threads, size_t *bytes) {
    *bytes = kernel->thread_bytes;
    return lc_multiply(bytes, threads) && lc_add(bytes, kernel->shared_bytes);
}

// Has the node's temporaries name the workspace tensor, or nothing. TFLite frees the array.
static bool set_temporaries(struct tfl_node *tfl_node, int workspace) {
    int count = workspace < 0 ? 0 : 1;
    if (tfl_node->temporaries && tfl_node->temporaries->size == count) {
        if (count) {
            tfl_node->temporaries->data[0] = workspace;
        }
        return true;
    }
    struct tfl_ints *temporaries = new_ints(count);
    if (!temporaries) {
        return false;
    }
    if (count) {
        temporaries->data[0] = workspace;
    }
    free(tfl_node->temporaries);
    tfl_node->temporaries = temporaries;
    return true;
}

// Asks TFLite's arena for `bytes` of workspace. False if it cannot be had.
static bool request_workspace(struct lc_node *node, struct tfl_context *context,
                              struct tfl_node *tfl_node, size_t bytes) {
    size_t rows = bytes / WORKSPACE_ROW + (bytes % WORKSPACE_ROW != 0);
    if (rows == 0) {
        return set_temporaries(tfl_node, -1);
    }
    if (rows > INT32_MAX) {
        return false;
    }
    if (node->workspace < 0) {
        int index;
        if (context->AddTensors(context, 1, &index) != TFL_OK) {
            return false;
        }
        node->workspace = index;
        struct tfl_tensor *added = &context->tensors[index];
        added->type = TFL_UINT8;
        added->allocation_type = TFL_ARENA_RW;
        added->name = "leanconv/workspace";
    }
    struct tfl_tensor *workspace = &context->tensors[node->workspace];
    struct tfl_ints *dims = new_ints(2);
    if (!dims) {
        return false;
    }
    dims->data[0] = (int)rows;
    dims->data[1] = WORKSPACE_ROW;
    return context->ResizeTensor(context, workspace, dims) == TFL_OK &&
           set_temporaries(tfl_node, node->workspace);
}

// Chooses the kernel for the geometry and gets its workspace. NULL stands for the generic kernel,
// which needs none.
static const struct lc_kernel *choose_kernel(struct lc_node *node, struct tfl_context *context,
                                             struct tfl_node *tfl_node,
                                             const struct lc_geometry *geometry, int32_t threads,
                                             size_t *bytes) {
    const struct lc_kernel *kernel =
        node->packed.weights
            ? lc_find_kernel(geometry, node->delegate->options.algorithm, node->claimed_kernel)
            : NULL;
    if (kernel && workspace_bytes(kernel, threads, bytes) &&
        request_workspace(node, context, tfl_node, *bytes)) {
        return kernel;
    }
    *bytes = 0;
    set_temporaries(tfl_node, -1); // cannot be helped if it fails: the workspace stays, unused
    return NULL;
}

static void name_node(struct lc_node *node) {
    if (node->kernel) {
        snprintf(node->name, sizeof node->name, "%s", node->kernel->name);
    } else {
        int length = snprintf(node->name, sizeof node->name, "leanconv/generic ");
        lc_geometry_describe(&node->geometry, node->name + length,
                             sizeof node->name - (size_t)length);
    }
}

static int node_prepare(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_node *node = tfl_node->user_data;
    if (!node) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    struct lc_geometry geometry;
    int32_t batch;
    const char *problem = lc_layer_geometry(&node->layer, context->tensors[node->layer.input].dims,
                                            &geometry, &batch);
    if (problem) {
        context->ReportError(context, "leanconv: node %d (CONV_2D): %s", node->index, problem);
        return TFL_ERROR;
    }
    int status = resize_output(node, context, &geometry, batch);
    if (status != TFL_OK) {
        return status;
    }
    int32_t threads = lc_threads_for(node->delegate, context);
    size_t bytes = 0;
    const struct lc_kernel *kernel =
        choose_kernel(node, context, tfl_node, &geometry, threads, &bytes);
    lc_lock(&node->delegate->lock);
    node->geometry = geometry;
    node->batch = batch;
    node->kernel = kernel;
    node->threads = threads;
    node->workspace_bytes = bytes;
    name_node(node);
    lc_unlock(&node->delegate->lock);
    return TFL_OK;
}

// Invoke

struct call {
    const struct lc_node *node;
    lc_stage_function *stage; // of the compiled kernel, and what belongs to the group:
    const float *packed_weights, *packed_bias;
    const float *x;
    float *y;
    uint8_t *workspace;
    struct lc_constant weights, bias; // for the generic kernel, which does all groups
};

static bool run_stage(void *argument, int32_t thread, int32_t begin, int32_t end) {
    const struct call *call = argument;
    return call->stage(call->x, NULL, call->packed_weights, call->packed_bias, call->y,
                       call->workspace, thread, begin, end) == 0;
}

static bool run_generic(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct call *call = argument;
    lc_reference_conv(&call->node->geometry, call->x, &call->weights, &call->bias, call->y, begin,
                      end);
    return true;
}

static bool run_group(struct call *call, const struct lc_kernel *kernel, int32_t threads) {
    for (int32_t i = 0; i < kernel->stage_count; i++) {
        call->stage = kernel->stages[i].function;
        if (!lc_pool_run(threads, kernel->stages[i].extent, run_stage, call)) {
            return false;
        }
    }
    return true;
}

static bool run_image(struct call *call, const struct lc_kernel *kernel, int32_t threads) {
    const struct lc_geometry *g = &call->node->geometry;
    if (!kernel) {
        return lc_pool_run(threads, lc_out_height(g), run_generic, call);
    }
    const struct lc_packed *packed = &call->node->packed;
    struct call group = *call;
    group.packed_weights = packed->weights;
    group.packed_bias = packed->bias;
    for (int32_t i = 0; i < g->groups; i++) {
        if (!run_group(&group, kernel, threads)) {
            return false;
        }
        group.packed_weights += packed->group_pitch;
        group.packed_bias += packed->group_pitch;
        group.x += g->in_channels / g->groups;
        group.y += g->out_channels / g->groups;
    }
    return true;
}

// Whether the tensor holds `images` images of `elements` floats.
static bool holds(const struct tfl_tensor *tensor, size_t elements, int32_t images) {
    return lc_multiply(&elements, images) && lc_multiply(&elements, sizeof(float)) &&
           (elements == 0 || tensor->data) && tensor->bytes >= elements;
}

static int node_invoke(struct tfl_context *context, struct tfl_node *tfl_node) {
    struct lc_node *node = tfl_node->user_data;
    // Read at every call: TFLite moves data whenever it plans its arena again.
    const struct tfl_tensor *input = &context->tensors[node->layer.input];
    const struct tfl_tensor *output = &context->tensors[node->layer.output];
    size_t x_elements, y_elements;
    if (!lc_image_elements(&node->geometry, &x_elements, &y_elements) ||
        !holds(input, x_elements, node->batch) || !holds(output, y_elements, node->batch)) {
        context->ReportError(context, "leanconv: node %d (CONV_2D): a tensor has no data",
                             node->index);
        return TFL_ERROR;
    }
    struct call call = {
        .node = node,
        .x = input->data,
        .y = output->data,
        .weights = constant_of(context, node->layer.weights),
        .bias = constant_of(context, node->layer.bias),
    };
    const struct lc_kernel *kernel = node->kernel;
    if (node->workspace_bytes) {
        call.workspace = context->tensors[node->workspace].data;
        kernel = call.workspace ? kernel : NULL;
    }
    // The interpreter's thread count may have changed; the workspace is for those of prepare.
    int32_t threads = lc_threads_for(node->delegate, context);
    threads = threads < node->threads ? threads : node->threads;
    for (int32_t image = 0; image < node->batch; image++) {
        if (!run_image(&call, kernel, threads)) {
            context->ReportError(context, "leanconv: %s failed", node->name);
            return TFL_ERROR;
        }
        call.x += x_elements;
        call.y += y_elements;
    }
    atomic_fetch_add_explicit(kernel ? &node->calls : &node->generic_calls, 1,
                              memory_order_relaxed);
    return TFL_OK;
}

static const char *node_name(const struct tfl_context *context, const struct tfl_node *tfl_node) {
    (void)context;
    const struct lc_node *node = tfl_node->user_data;
    return node && node->name[0] ? node->name : NULL;
}

struct tfl_registration lc_node_registration(const struct lc_kernel *kernel) {
    return (struct tfl_registration){
        .init = node_init,
        .free = node_free,
        .prepare = node_prepare,
        .invoke = node_invoke,
        .profiling_string = node_name,
        .custom_name = kernel->name,
        .version = 1,
    };
}
