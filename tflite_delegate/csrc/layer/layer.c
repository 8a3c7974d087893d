// SPDX-License-Identifier: Apache-2.0

#include "layer/layer.h"

#include <stdlib.h>
#include <string.h>

#include "host/checked.h"
#include "host/tensor.h"
#include "kernels/geometry.h"
#include "kernels/upsampling.h"
#include "layer/constants/sparsity.h"
#include "layer/hybrid/hybrid_layer.h"
#include "layer/params.h"
#include "layer/quantised_layer.h"
#include "layer/winograd/winograd_params.h"

const char *lc_core_name(int32_t builtin_code) {
    switch (builtin_code) {
    case TFL_BUILTIN_CONV_2D:
        return "CONV_2D";
    case TFL_BUILTIN_DEPTHWISE_CONV_2D:
        return "DEPTHWISE_CONV_2D";
    case TFL_BUILTIN_FULLY_CONNECTED:
        return "FULLY_CONNECTED";
    case TFL_BUILTIN_TRANSPOSE_CONV:
        return "TRANSPOSE_CONV";
    case TFL_BUILTIN_CONV_3D:
        return "CONV_3D";
    case LC_CUSTOM_TRANSPOSE_CONV_BIAS:
        return "Convolution2DTransposeBias";
    case LC_CUSTOM_WINOGRAD_CONV:
        return LC_WINOGRAD_NAME;
    default:
        return NULL;
    }
}

struct lc_operands lc_core_operands(int32_t builtin_code) {
    return builtin_code == TFL_BUILTIN_TRANSPOSE_CONV ? (struct lc_operands){2, 1, 3}
                                                      : (struct lc_operands){0, 1, 2};
}

// Constants

// Whether a node makes something else of a constant.
static bool is_source(int tensor, const int *sources) {
    for (; sources && *sources != LC_END_OF_SOURCES; sources++) {
        if (*sources == tensor) {
            return true;
        }
    }
    return false;
}

static int constant_behind(int tensor, const int *sources) {
    return sources && sources[tensor] >= 0 ? sources[tensor] : tensor;
}

// Turns the kernel that was read into that of the sub-pixel convolution.
static const char *read_subpixels(struct lc_layer *layer) {
    struct lc_upsampling *up = &layer->upsampling;
    up->kernel_height = layer->kernel_height;
    up->kernel_width = layer->kernel_width;
    up->channels = layer->out_channels;
    layer->kernel_height = lc_upsampled_taps(up->kernel_height, up->rows);
    layer->kernel_width = lc_upsampled_taps(up->kernel_width, up->columns);
    return __builtin_mul_overflow(layer->out_channels, up->rows, &layer->out_channels) ||
                   __builtin_mul_overflow(layer->out_channels, up->columns, &layer->out_channels)
               ? "the stride is too large"
               : NULL;
}

static const char *read_weights(struct lc_layer *layer, const struct tfl_context *context,
                                const int *sources) {
    if (!lc_tensor(context, layer->weights)) {
        return "malformed weights";
    }
    layer->weights = constant_behind(layer->weights, sources);
    const struct tfl_tensor *weights = lc_tensor(context, layer->weights);
    bool is_volume = layer->source == LC_VOLUME;
    int rank = layer->is_dense ? 2 : layer->domain ? 3 : is_volume ? 5 : 4;
    if (!weights || !lc_has_rank(weights, rank)) {
        return "malformed weights";
    }
    int type = lc_tensor(context, layer->input)->type;
    bool are_bytes = layer->element == LC_FLOAT32 && weights->type == TFL_INT8;
    layer->byte_weights = are_bytes && is_source(layer->weights, sources);
    layer->is_hybrid = are_bytes && !layer->byte_weights;
    if (layer->element != LC_FLOAT32 || are_bytes
            ? !lc_is_dense_constant(weights, are_bytes ? TFL_INT8 : type)
            : !lc_is_float_constant(weights)) {
        return layer->element != LC_FLOAT32 ? "weights are not constants of the input's type"
                                            : "weights are not float constants";
    }
    layer->half_weights = weights->type == TFL_FLOAT16;
    const int *dims = weights->dims->data;
    if (is_volume) { // [K_d][K_h][K_w][C][M]
        layer->kernel_depth = dims[0];
        layer->kernel_height = dims[1];
        layer->kernel_width = dims[2];
        layer->group_channels = dims[3];
        layer->out_channels = dims[4];
        return are_bytes ? "int8 weights of a convolution of volumes" : NULL;
    }
    if (layer->domain) { // [n n][C][M]
        int32_t inputs = layer->domain + layer->kernel_height - 1;
        layer->group_channels = dims[1];
        layer->out_channels = dims[2];
        return dims[0] == inputs * inputs && !are_bytes ? NULL : "malformed weights";
    }
    if (layer->is_dense) { // [M][C]
        layer->out_channels = dims[0];
        layer->kernel_height = layer->kernel_width = 1;
        layer->group_channels = dims[1];
        return NULL;
    }
    layer->kernel_height = dims[1];
    layer->kernel_width = dims[2];
    if (layer->source == LC_TAPS) { // [1][K_h][K_w][M]
        layer->out_channels = dims[3];
        layer->group_channels = 1;
        return dims[0] == 1 ? NULL : "malformed weights";
    }
    layer->out_channels = dims[0];
    layer->group_channels = dims[3];
    return layer->upsampling.rows ? read_subpixels(layer) : NULL;
}

static const char *read_bias(struct lc_layer *layer, const struct tfl_context *context,
                             const int *sources) {
    if (layer->bias == TFL_OPTIONAL_TENSOR) {
        return NULL;
    }
    if (!lc_tensor(context, layer->bias)) {
        return "malformed bias";
    }
    layer->bias = constant_behind(layer->bias, sources);
    const struct tfl_tensor *bias = lc_tensor(context, layer->bias);
    bool is_quantised = layer->element != LC_FLOAT32;
    if (!bias ||
        !(is_quantised ? lc_is_dense_constant(bias, TFL_INT32) : lc_is_float_constant(bias))) {
        return is_quantised ? "bias is not an int32 constant" : "bias is not a float constant";
    }
    size_t elements;
    bool fits = lc_count_elements(bias->dims, &elements);
    int32_t channels = layer->upsampling.rows ? layer->upsampling.channels : layer->out_channels;
    return fits && elements == (size_t)channels ? NULL : "malformed bias";
}

// The first input of a TRANSPOSE_CONV: batch, rows, columns and channels of its output.
static const char *read_output_shape(struct lc_layer *layer, const struct tfl_tensor *shape) {
    if (!shape || shape->type != TFL_INT32 || !lc_is_constant(shape) || !shape->data ||
        shape->bytes < 4 * sizeof(int32_t)) {
        return "its output's shape is not constant";
    }
    int32_t dims[4];
    memcpy(dims, shape->data, sizeof dims);
    layer->upsampling.out_batch = dims[0];
    layer->upsampling.out_height = dims[1];
    layer->upsampling.out_width = dims[2];
    return dims[0] < 1 || dims[1] < 1 || dims[2] < 1 ? "its output is empty" : NULL;
}

const char *lc_layer_read(struct lc_layer *layer, const struct tfl_context *context,
                          struct lc_node_view core, const int *sources) {
    const struct tfl_node *node = core.node;
    const struct lc_operands operands = lc_core_operands(core.builtin_code);
    if (!node->inputs || !node->outputs || node->inputs->size < operands.bias ||
        node->inputs->size > operands.bias + 1 || node->outputs->size != 1) {
        return "malformed node";
    }
    const int *inputs = node->inputs->data;
    bool has_bias = node->inputs->size > operands.bias;
    *layer = (struct lc_layer){
        .core = core.index,
        .input = inputs[operands.input],
        .weights = inputs[operands.weights],
        .bias = has_bias ? inputs[operands.bias] : TFL_OPTIONAL_TENSOR,
        .residual = TFL_OPTIONAL_TENSOR,
        .output = node->outputs->data[0],
        .source = LC_ROWS,
    };
    const struct tfl_tensor *input = lc_tensor(context, layer->input);
    const struct tfl_tensor *output = lc_tensor(context, layer->output);
    if (!input || !output || lc_is_kept(output)) {
        return "malformed node";
    }
    bool is_float = lc_holds_floats(input) && lc_holds_floats(output);
    bool is_coded = input->type == TFL_INT8 || input->type == TFL_UINT8;
    if (!is_float && !(is_coded && output->type == input->type)) {
        return "not floats, int8 or uint8";
    }
    layer->element = input->type == TFL_INT8    ? LC_INT8
                     : input->type == TFL_UINT8 ? LC_UINT8
                                                : LC_FLOAT32;
    const char *reason = lc_read_params(layer, core);
    if (!reason && layer->element != LC_FLOAT32 && layer->source == LC_VOLUME) {
        reason = "a convolution of volumes of integers";
    }
    if (!reason && core.builtin_code == TFL_BUILTIN_TRANSPOSE_CONV) {
        reason = read_output_shape(layer, lc_tensor(context, inputs[0]));
    }
    reason = reason ? reason : read_weights(layer, context, sources);
    reason = reason ? reason : read_bias(layer, context, sources);
    if (!reason && (layer->is_hybrid || layer->byte_weights)) {
        reason = lc_check_hybrid(layer, context);
    }
    bool are_bytes = layer->element == LC_INT8 || layer->element == LC_UINT8 || layer->is_hybrid;
    layer->pairs = !reason && are_bytes && !lc_overflows_pairs(layer, context);
    return reason || layer->element == LC_FLOAT32 ? reason : lc_check_quantised(layer, context);
}

static struct lc_constant constant_of(const struct tfl_context *context, int index,
                                      const void *copy) {
    const struct tfl_tensor *tensor = lc_tensor(context, index);
    if (!tensor) {
        return (struct lc_constant){0};
    }
    return (struct lc_constant){
        .data = tensor->sparsity ? copy : tensor->data,
        .is_half = tensor->type == TFL_FLOAT16,
        .is_copy = tensor->sparsity,
    };
}

struct lc_constants lc_layer_constants(const struct lc_layer *layer,
                                       const struct tfl_context *context) {
    struct lc_quantised_layer quantised = {0};
    if (layer->element != LC_FLOAT32) {
        lc_read_quantised(layer, context, &quantised); // as when it was claimed
    } else if (layer->is_hybrid || layer->byte_weights) {
        lc_read_scales(layer, context, &quantised);
    }
    struct lc_constant weights = constant_of(context, layer->weights, layer->densified[0]);
    if (layer->is_hybrid || layer->byte_weights) {
        weights.scales = quantised.scales;
        weights.scale_step = quantised.scale_step;
    }
    return (struct lc_constants){
        .weights = weights,
        .bias = constant_of(context, layer->bias, layer->densified[1]),
        .layout = layer->source,
        .upsampling = layer->upsampling,
        .quantised = quantised,
    };
}

const void *lc_layer_weights(const struct lc_layer *layer, const struct tfl_context *context) {
    return constant_of(context, layer->weights, layer->densified[0]).data;
}

const void *lc_layer_bias(const struct lc_layer *layer, const struct tfl_context *context) {
    return constant_of(context, layer->bias, layer->densified[1]).data;
}

bool lc_layer_densify(struct lc_layer *layer, const struct tfl_context *context) {
    const int tensors[] = {layer->weights, layer->bias};
    for (int i = 0; i < 2; i++) {
        const struct tfl_tensor *tensor = lc_tensor(context, tensors[i]);
        if (tensor && tensor->sparsity && !layer->densified[i]) {
            bool is_half = tensor->type == TFL_FLOAT16;
            layer->densified[i] = lc_densify(tensor, is_half ? sizeof(uint16_t) : sizeof(float));
            if (!layer->densified[i]) {
                return false;
            }
        }
    }
    return true;
}

void lc_layer_forget_copies(struct lc_layer *layer) {
    for (int i = 0; i < 2; i++) {
        free(layer->densified[i]);
        layer->densified[i] = NULL;
    }
}
