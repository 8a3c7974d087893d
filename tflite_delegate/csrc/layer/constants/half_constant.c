// SPDX-License-Identifier: Apache-2.0

#include "layer/constants/half_constant.h"

#include <stdlib.h>

#include "host/tensor.h"
#include "kernels/halves.h"
#include "layer/constants/sparsity.h"

struct constant {
    int source, output; // tensors
};

static bool read(struct constant *constant, struct tfl_context *context, int index) {
    struct lc_node_view view;
    if (!lc_node_at(context, index, &view) || view.builtin_code != TFL_BUILTIN_DEQUANTIZE ||
        view.node->delegate || view.node->inputs->size != 1 || view.node->outputs->size != 1) {
        return false;
    }
    *constant = (struct constant){view.node->inputs->data[0], view.node->outputs->data[0]};
    const struct tfl_tensor *source = lc_tensor(context, constant->source);
    const struct tfl_tensor *output = lc_tensor(context, constant->output);
    return source && output && source->type == TFL_FLOAT16 && output->type == TFL_FLOAT32 &&
           lc_is_float_constant(source) && lc_same_dims(source->dims, output->dims);
}

bool lc_is_half_constant(const struct lc_graph *graph, int index) {
    struct constant constant;
    return read(&constant, graph->context, index);
}

static void *init(struct tfl_context *context, const char *buffer, size_t length) {
    (void)length; // TFLite passes 0
    const struct tfl_delegate_params *params = (const void *)buffer;
    struct constant *constant = calloc(1, sizeof *constant);
    if (constant && !read(constant, context, params->nodes_to_replace->data[0])) {
        free(constant);
        return NULL;
    }
    return constant;
}

static void delete(struct tfl_context *context, void *user_data) {
    (void)context;
    free(user_data);
}

// TFLite's own kernel may have asked for memory of another kind before.
static int prepare(struct tfl_context *context, struct tfl_node *node) {
    const struct constant *constant = node->user_data;
    context->tensors[constant->output].allocation_type = TFL_ARENA_RW;
    return TFL_OK;
}

static int invoke(struct tfl_context *context, struct tfl_node *node) {
    const struct constant *constant = node->user_data;
    const uint16_t *x = context->tensors[constant->source].data;
    const struct tfl_tensor *output = &context->tensors[constant->output];
    float *y = output->data;
    if (y) {
        lc_widen(y, x, output->bytes / sizeof *y);
    }
    return y || !output->bytes ? TFL_OK : TFL_ERROR;
}

struct tfl_registration lc_half_constant_registration(void) {
    return (struct tfl_registration){
        .init = init,
        .free = delete,
        .prepare = prepare,
        .invoke = invoke,
        .custom_name = "leanconv/float16 constant",
        .version = 1,
    };
}
