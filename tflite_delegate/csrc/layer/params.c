// SPDX-License-Identifier: Apache-2.0

#include "layer/params.h"

#include "layer/winograd/winograd_params.h"

// What parameters that are laid out otherwise have under the same names.
#define WINDOW_OF(params)                                                                          \
    {                                                                                              \
        .padding = (params)->padding,                                                              \
        .stride_width = (params)->stride_width,                                                    \
        .stride_height = (params)->stride_height,                                                  \
        .activation = (params)->activation,                                                        \
        .dilation_width_factor = (params)->dilation_width_factor,                                  \
        .dilation_height_factor = (params)->dilation_height_factor,                                \
    }

static const char *read_window(struct lc_layer *layer, const struct tfl_conv_params *params) {
    layer->stride_height = params->stride_height;
    layer->stride_width = params->stride_width;
    layer->dilation_height = params->dilation_height_factor;
    layer->dilation_width = params->dilation_width_factor;
    layer->same_padding = params->padding == TFL_PADDING_SAME;
    layer->activation = params->activation;
    if (layer->stride_height < 1 || layer->stride_width < 1 || layer->dilation_height < 1 ||
        layer->dilation_width < 1) {
        return "malformed stride or dilation";
    }
    if (!layer->same_padding && params->padding != TFL_PADDING_VALID) {
        return "unknown padding";
    }
    return NULL;
}

static const char *read_depthwise(struct lc_layer *layer,
                                  const struct tfl_depthwise_params *params) {
    const struct tfl_conv_params window = WINDOW_OF(params);
    layer->source = LC_TAPS;
    return read_window(layer, &window);
}

static const char *read_volume(struct lc_layer *layer, const struct tfl_conv_3d_params *params) {
    const struct tfl_conv_params window = WINDOW_OF(params);
    layer->source = LC_VOLUME;
    layer->stride_depth = params->stride_depth;
    layer->dilation_depth = params->dilation_depth_factor;
    if (layer->stride_depth < 1 || layer->dilation_depth < 1) {
        return "malformed stride or dilation";
    }
    return read_window(layer, &window);
}

static const char *read_dense(struct lc_layer *layer, const struct tfl_dense_params *params) {
    layer->is_dense = true;
    layer->keep_num_dims = params->keep_num_dims;
    layer->has_asymmetric_rows = params->asymmetric_quantize_inputs;
    layer->stride_height = layer->stride_width = 1;
    layer->dilation_height = layer->dilation_width = 1;
    layer->activation = params->activation;
    return params->weights_format ? "weights are shuffled" : NULL;
}

static const char *read_transposed(struct lc_layer *layer,
                                   const struct tfl_transpose_conv_params *params) {
    layer->upsampling = (struct lc_upsampling){
        .rows = params->stride_height,
        .columns = params->stride_width,
        .same = params->padding == TFL_PADDING_SAME,
    };
    layer->stride_height = layer->stride_width = 1;
    layer->dilation_height = layer->dilation_width = 1;
    if (params->stride_height < 1 || params->stride_width < 1) {
        return "malformed stride";
    }
    return layer->upsampling.same || params->padding == TFL_PADDING_VALID ? NULL
                                                                          : "unknown padding";
}

// NULL if there are none.
static const void *params_of(struct lc_node_view core) {
    if (core.builtin_code != LC_CUSTOM_TRANSPOSE_CONV_BIAS) {
        return core.node->builtin_data;
    }
    bool is_whole = core.node->custom_initial_data_size >= (int)(3 * sizeof(int));
    return is_whole ? core.node->custom_initial_data : NULL;
}

const char *lc_read_params(struct lc_layer *layer, struct lc_node_view core) {
    if (core.builtin_code == LC_CUSTOM_WINOGRAD_CONV) {
        return lc_read_winograd_params(layer, core.node);
    }
    const void *params = params_of(core);
    const int32_t builtin_code = core.builtin_code;
    if (!params) {
        return "malformed node";
    }
    const char *reason;
    if (builtin_code == TFL_BUILTIN_CONV_2D) {
        reason = read_window(layer, params);
    } else if (builtin_code == TFL_BUILTIN_DEPTHWISE_CONV_2D) {
        reason = read_depthwise(layer, params);
    } else if (builtin_code == TFL_BUILTIN_CONV_3D) {
        reason = read_volume(layer, params);
    } else if (builtin_code == TFL_BUILTIN_TRANSPOSE_CONV) {
        reason = read_transposed(layer, params);
        layer->activation = ((const struct tfl_transpose_conv_params *)params)->activation;
    } else if (builtin_code == LC_CUSTOM_TRANSPOSE_CONV_BIAS) {
        reason = read_transposed(layer, params);
    } else {
        reason = read_dense(layer, params);
    }
    if (!reason &&
        (layer->activation < TFL_ACTIVATION_NONE || layer->activation > TFL_ACTIVATION_RELU6)) {
        reason = "activation is not supported";
    }
    return reason;
}
