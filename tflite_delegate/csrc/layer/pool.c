// SPDX-License-Identifier: Apache-2.0

#include "layer/pool.h"

#include "host/tensor.h"
#include "kernels/geometry.h"

enum lc_pool lc_pool_of(int32_t builtin_code) {
    return builtin_code == TFL_BUILTIN_MAX_POOL_2D       ? LC_LARGEST
           : builtin_code == TFL_BUILTIN_AVERAGE_POOL_2D ? LC_AVERAGE
                                                         : LC_NO_POOL;
}

// Whether the zeros of a PAD change nothing: what is largest is not below zero then.
static bool leaves_out_zeros(const struct lc_layer *layer, enum lc_pool kind) {
    float least, most;
    if (kind != LC_LARGEST || layer->activation > TFL_ACTIVATION_RELU6) {
        return false;
    }
    lc_activation_range(layer->activation, &least, &most);
    return least == 0.0f;
}

// Whether floats are pooled, or codes with one scale, as they are.
static bool is_pooled(const struct lc_layer *layer, const struct tfl_context *context, int output,
                      int activation) {
    const struct tfl_tensor *before = lc_tensor(context, layer->output);
    const struct tfl_tensor *behind = lc_tensor(context, output);
    if (!before || !behind || layer->is_hybrid) {
        return false;
    }
    if (layer->element == LC_FLOAT32) {
        return before->type == TFL_FLOAT32 && behind->type == TFL_FLOAT32 && !lc_is_kept(behind);
    }
    return layer->element != LC_FLOAT16 && activation == TFL_ACTIVATION_NONE &&
           lc_share_codes(before, behind);
}

const char *lc_merge_pool(struct lc_layer *layer, const struct lc_pad *pad,
                          const struct tfl_context *context, struct lc_node_view view) {
    const struct tfl_node *node = view.node;
    const struct tfl_pool_params *params = node->builtin_data;
    const enum lc_pool kind = lc_pool_of(view.builtin_code);
    if (!params || !node->inputs || !node->outputs || node->inputs->size != 1 ||
        node->outputs->size != 1 || params->filter_height < 1 || params->filter_width < 1 ||
        params->stride_height < 1 || params->stride_width < 1 ||
        (params->padding != TFL_PADDING_SAME && params->padding != TFL_PADDING_VALID) ||
        params->activation < TFL_ACTIVATION_NONE || params->activation > TFL_ACTIVATION_RELU6) {
        return "malformed node";
    }
    if (layer->pool.kind || layer->is_dense || layer->upsampling.rows || layer->domain ||
        layer->source == LC_VOLUME || layer->residual != TFL_OPTIONAL_TENSOR ||
        !is_pooled(layer, context, node->outputs->data[0], params->activation)) {
        return "not a pool of a convolution's floats, or of its codes";
    }
    if ((pad && (pad->input != layer->output || !leaves_out_zeros(layer, kind))) ||
        node->inputs->data[0] != (pad ? pad->output : layer->output)) {
        return "it pools something else";
    }
    layer->pool = (struct lc_layer_pool){
        .kind = kind,
        .height = params->filter_height,
        .width = params->filter_width,
        .stride_height = params->stride_height,
        .stride_width = params->stride_width,
        .same_padding = params->padding == TFL_PADDING_SAME,
        .activation = params->activation,
        .input = layer->output,
    };
    if (pad) {
        layer->pool.top = pad->top;
        layer->pool.bottom = pad->bottom;
        layer->pool.left = pad->left;
        layer->pool.right = pad->right;
    }
    layer->output = node->outputs->data[0];
    return NULL;
}
