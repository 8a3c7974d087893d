// SPDX-License-Identifier: Apache-2.0

#include "layer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checked.h"

struct tfl_tensor *lc_tensor(const struct tfl_context *context, int index) {
    if (index < 0 || (size_t)index >= context->tensors_size) {
        return NULL;
    }
    return &context->tensors[index];
}

bool lc_is_constant(const struct tfl_tensor *tensor) {
    return tensor->allocation_type == TFL_MMAP_RO || tensor->allocation_type == TFL_PERSISTENT_RO;
}

static bool has_positive_dims(const struct tfl_tensor *tensor, int rank) {
    if (!tensor->dims || tensor->dims->size != rank) {
        return false;
    }
    for (int i = 0; i < rank; i++) {
        if (tensor->dims->data[i] < 1) {
            return false;
        }
    }
    return true;
}

// Whether a constant float32 or float16 tensor holds all the elements that its shape promises.
static bool is_whole_constant(const struct tfl_tensor *tensor) {
    if (!lc_is_constant(tensor) || !tensor->data || !tensor->dims || tensor->sparsity) {
        return false;
    }
    size_t bytes;
    if (tensor->type == TFL_FLOAT32) {
        bytes = sizeof(float);
    } else if (tensor->type == TFL_FLOAT16) {
        bytes = sizeof(uint16_t);
    } else {
        return false;
    }
    for (int i = 0; i < tensor->dims->size; i++) {
        if (!lc_multiply(&bytes, tensor->dims->data[i])) {
            return false;
        }
    }
    return tensor->bytes >= bytes;
}

static int constant_behind(int tensor, const int *half_sources) {
    return half_sources && half_sources[tensor] >= 0 ? half_sources[tensor] : tensor;
}

static const char *read_weights(struct lc_layer *layer, const struct tfl_context *context,
                                const int *half_sources) {
    if (!lc_tensor(context, layer->weights)) {
        return "malformed weights";
    }
    layer->weights = constant_behind(layer->weights, half_sources);
    const struct tfl_tensor *weights = lc_tensor(context, layer->weights);
    if (!weights || !has_positive_dims(weights, 4)) {
        return "malformed weights";
    }
    if (!is_whole_constant(weights)) {
        return "weights are not float constants";
    }
    layer->out_channels = weights->dims->data[0];
    layer->kernel_height = weights->dims->data[1];
    layer->kernel_width = weights->dims->data[2];
    layer->group_channels = weights->dims->data[3];
    return NULL;
}

static const char *read_bias(struct lc_layer *layer, const struct tfl_context *context,
                             const int *half_sources) {
    if (layer->bias == TFL_OPTIONAL_TENSOR) {
        return NULL;
    }
    if (!lc_tensor(context, layer->bias)) {
        return "malformed bias";
    }
    layer->bias = constant_behind(layer->bias, half_sources);
    const struct tfl_tensor *bias = lc_tensor(context, layer->bias);
    if (!bias || !is_whole_constant(bias)) {
        return "bias is not a float constant";
    }
    size_t elements = 1;
    for (int i = 0; i < bias->dims->size; i++) {
        if (!lc_multiply(&elements, bias->dims->data[i])) {
            return "malformed bias";
        }
    }
    return elements == (size_t)layer->out_channels ? NULL : "malformed bias";
}

const char *lc_layer_read(struct lc_layer *layer, const struct tfl_context *context,
                          const struct tfl_node *node, const int *half_sources) {
    const struct tfl_conv_params *params = node->builtin_data;
    if (!params || !node->inputs || !node->outputs || node->inputs->size < 2 ||
        node->inputs->size > 3 || node->outputs->size != 1) {
        return "malformed node";
    }
    *layer = (struct lc_layer){
        .input = node->inputs->data[0],
        .weights = node->inputs->data[1],
        .bias = node->inputs->size > 2 ? node->inputs->data[2] : TFL_OPTIONAL_TENSOR,
        .output = node->outputs->data[0],
        .stride_height = params->stride_height,
        .stride_width = params->stride_width,
        .dilation_height = params->dilation_height_factor,
        .dilation_width = params->dilation_width_factor,
        .same_padding = params->padding == TFL_PADDING_SAME,
        .activation = params->activation,
    };
    const struct tfl_tensor *input = lc_tensor(context, layer->input);
    const struct tfl_tensor *output = lc_tensor(context, layer->output);
    if (!input || !output) {
        return "malformed node";
    }
    if (input->type != TFL_FLOAT32 || output->type != TFL_FLOAT32) {
        return "not float32";
    }
    if (layer->stride_height < 1 || layer->stride_width < 1 || layer->dilation_height < 1 ||
        layer->dilation_width < 1) {
        return "malformed stride or dilation";
    }
    if (!layer->same_padding && params->padding != TFL_PADDING_VALID) {
        return "unknown padding";
    }
    if (layer->activation < TFL_ACTIVATION_NONE || layer->activation > TFL_ACTIVATION_RELU6) {
        return "activation is not supported";
    }
    const char *reason = read_weights(layer, context, half_sources);
    return reason ? reason : read_bias(layer, context, half_sources);
}

// Output positions and padding along one axis, as TFLite infers them. False if there are none.
static bool infer_axis(bool same, int32_t size, int32_t kernel, int32_t stride, int32_t dilation,
                       int32_t *before, int32_t *after) {
    int64_t span = lc_multiply_add(kernel - 1, dilation, 1);
    *before = *after = 0;
    if (!same) {
        return span <= size;
    }
    int64_t last = (size - 1) / stride; // index of the last output position
    int64_t total = last * stride + span - size;
    if (total > INT32_MAX) {
        return false;
    }
    if (total > 0) {
        *before = (int32_t)(total / 2);
        *after = (int32_t)(total - total / 2);
    }
    return true;
}

const char *lc_layer_geometry(const struct lc_layer *layer, const struct tfl_ints *input_dims,
                              struct lc_geometry *geometry, int32_t *batch) {
    if (!input_dims || input_dims->size != 4) {
        return "the input is not of rank 4";
    }
    const int *dims = input_dims->data;
    if (dims[0] < 0 || dims[1] < 1 || dims[2] < 1) {
        return "the input is empty";
    }
    if (dims[3] < 1 || dims[3] % layer->group_channels) {
        return "the input does not have as many channels as the weights, nor a multiple of them";
    }
    int32_t groups = dims[3] / layer->group_channels;
    if (layer->out_channels % groups) {
        return "the output channels do not divide into the groups of the input";
    }
    *batch = dims[0];
    *geometry = (struct lc_geometry){
        .in_height = dims[1],
        .in_width = dims[2],
        .in_channels = dims[3],
        .out_channels = layer->out_channels,
        .kernel_height = layer->kernel_height,
        .kernel_width = layer->kernel_width,
        .stride_height = layer->stride_height,
        .stride_width = layer->stride_width,
        .dilation_height = layer->dilation_height,
        .dilation_width = layer->dilation_width,
        .groups = groups,
        .activation = layer->activation,
    };
    size_t input, output;
    if (!infer_axis(layer->same_padding, geometry->in_height, geometry->kernel_height,
                    geometry->stride_height, geometry->dilation_height, &geometry->pad_top,
                    &geometry->pad_bottom) ||
        !infer_axis(layer->same_padding, geometry->in_width, geometry->kernel_width,
                    geometry->stride_width, geometry->dilation_width, &geometry->pad_left,
                    &geometry->pad_right)) {
        return "the kernel is larger than the image";
    }
    if (!lc_image_elements(geometry, &input, &output)) {
        return "the image is too large";
    }
    return NULL;
}

static int32_t out_positions(int32_t size, int32_t before, int32_t after, int32_t kernel,
                             int32_t stride, int32_t dilation) {
    int64_t span = lc_multiply_add(kernel - 1, dilation, 1);
    return (int32_t)(((int64_t)size + before + after - span) / stride + 1);
}

int32_t lc_out_height(const struct lc_geometry *g) {
    return out_positions(g->in_height, g->pad_top, g->pad_bottom, g->kernel_height,
                         g->stride_height, g->dilation_height);
}

int32_t lc_out_width(const struct lc_geometry *g) {
    return out_positions(g->in_width, g->pad_left, g->pad_right, g->kernel_width, g->stride_width,
                         g->dilation_width);
}

bool lc_image_elements(const struct lc_geometry *g, size_t *input, size_t *output) {
    *input = *output = 1;
    if (!lc_multiply(input, g->in_height) || !lc_multiply(input, g->in_width) ||
        !lc_multiply(input, g->in_channels) || !lc_multiply(output, lc_out_height(g)) ||
        !lc_multiply(output, lc_out_width(g)) || !lc_multiply(output, g->out_channels)) {
        return false;
    }
    return *input <= SIZE_MAX / sizeof(float) && *output <= SIZE_MAX / sizeof(float);
}

void lc_activation_range(int32_t activation, float *least, float *most) {
    *least = -INFINITY;
    *most = INFINITY;
    if (activation == TFL_ACTIVATION_RELU || activation == TFL_ACTIVATION_RELU6) {
        *least = 0.0f;
    }
    if (activation == TFL_ACTIVATION_RELU6) {
        *most = 6.0f;
    }
    if (activation == TFL_ACTIVATION_RELU_N1_TO_1) {
        *least = -1.0f;
        *most = 1.0f;
    }
}

// " s2", " s2x1", or nothing where both steps are 1.
static void describe_step(char *text, size_t size, char letter, int32_t height, int32_t width) {
    if (height == 1 && width == 1) {
        text[0] = '\0';
    } else if (height == width) {
        snprintf(text, size, " %c%d", letter, (int)height);
    } else {
        snprintf(text, size, " %c%dx%d", letter, (int)height, (int)width);
    }
}

void lc_geometry_describe(const struct lc_geometry *g, char *text, size_t size) {
    static const char *const activations[] = {"", " relu", " relu_n1_to_1", " relu6"};
    char stride[32], dilation[32], groups[16] = "";
    describe_step(stride, sizeof stride, 's', g->stride_height, g->stride_width);
    describe_step(dilation, sizeof dilation, 'd', g->dilation_height, g->dilation_width);
    if (g->groups > 1) {
        snprintf(groups, sizeof groups, " g%d", (int)g->groups);
    }
    snprintf(text, size, "conv%dx%d%s%s%s %dx%dx%d->%d%s", (int)g->kernel_height,
             (int)g->kernel_width, stride, dilation, groups, (int)g->in_height, (int)g->in_width,
             (int)g->in_channels, (int)g->out_channels, activations[g->activation]);
}

static bool reads_same_weights(const struct lc_kernel *a, const struct lc_kernel *b) {
    const struct lc_part *p = a->parts, *q = b->parts;
    return a->calls == b->calls && p->layout == q->layout && p->panel == q->panel &&
           p->transform == q->transform && p->packed_bytes == q->packed_bytes &&
           p->bias_elements == q->bias_elements;
}

const struct lc_kernel *lc_find_kernel(const struct lc_geometry *geometry, const char *algorithm,
                                       const struct lc_kernel *same_weights_as) {
    for (size_t i = 0; i < lc_library.kernel_count; i++) {
        const struct lc_kernel *kernel = &lc_library.kernels[i];
        if (kernel->layer_count == 1 && memcmp(kernel->layers, geometry, sizeof *geometry) == 0 &&
            (!algorithm || strcmp(algorithm, kernel->algorithm) == 0) &&
            (!same_weights_as || reads_same_weights(kernel, same_weights_as))) {
            return kernel;
        }
    }
    return NULL;
}
