// SPDX-License-Identifier: Apache-2.0

#include "layer/merge.h"

#include <math.h>
#include <string.h>

#include "host/tensor.h"
#include "kernels/geometry.h"
#include "layer/hybrid/hybrid_layer.h"
#include "layer/quantised_layer.h"

static bool is_float(const struct tfl_tensor *tensor) { return tensor && lc_holds_floats(tensor); }

// Whether it is what a node computes.
static bool is_computed(const struct tfl_tensor *tensor) {
    return is_float(tensor) && !lc_is_kept(tensor);
}

// A PAD in front

bool lc_share_codes(const struct tfl_tensor *input, const struct tfl_tensor *output) {
    struct lc_quantization before, after;
    return input && output && lc_read_quantization(input, &before) &&
           lc_read_quantization(output, &after) && before.type == after.type && before.count == 1 &&
           after.count == 1 && *before.scales == *after.scales &&
           *before.zero_points == *after.zero_points && !lc_is_kept(output);
}

// Element `i` of a constant of integers. False unless it is from 0 to INT32_MAX.
static bool read_padding(const struct tfl_tensor *paddings, int i, int32_t *padding) {
    int64_t value;
    if (paddings->type == TFL_INT64) {
        memcpy(&value, (const char *)paddings->data + (size_t)i * sizeof value, sizeof value);
    } else {
        int32_t narrow;
        memcpy(&narrow, (const char *)paddings->data + (size_t)i * sizeof narrow, sizeof narrow);
        value = narrow;
    }
    *padding = (int32_t)value;
    return value >= 0 && value <= INT32_MAX;
}

const char *lc_pad_read(struct lc_pad *pad, const struct tfl_context *context,
                        struct lc_node_view view) {
    const struct tfl_node *node = view.node;
    if (!node->inputs || !node->outputs || node->inputs->size != 2 || node->outputs->size != 1) {
        return "malformed node";
    }
    *pad = (struct lc_pad){.input = node->inputs->data[0], .output = node->outputs->data[0]};
    const struct tfl_tensor *input = lc_tensor(context, pad->input);
    const struct tfl_tensor *output = lc_tensor(context, pad->output);
    const struct tfl_tensor *paddings = lc_tensor(context, node->inputs->data[1]);
    bool is_of_floats = is_float(input) && is_computed(output);
    pad->is_of_volumes = lc_has_rank(input, 5);
    if (!(is_of_floats || lc_share_codes(input, output)) ||
        !(pad->is_of_volumes || lc_has_rank(input, 4))) {
        return "not an image of float32, or of codes with one scale";
    }
    const int count = pad->is_of_volumes ? 10 : 8; // before and after, along each axis
    if (!paddings || !lc_is_constant(paddings) || !paddings->data || !lc_has_rank(paddings, 2) ||
        2 * paddings->dims->data[0] != count || paddings->dims->data[1] != 2) {
        return "paddings are not constant";
    }
    bool is_wide = paddings->type == TFL_INT64;
    size_t bytes = (size_t)count * (is_wide ? sizeof(int64_t) : sizeof(int32_t));
    if ((!is_wide && paddings->type != TFL_INT32) || paddings->bytes < bytes) {
        return "paddings are not integers";
    }
    int32_t values[10];
    for (int i = 0; i < count; i++) {
        if (!read_padding(paddings, i, &values[i])) {
            return "malformed paddings";
        }
    }
    if (values[0] || values[1] || values[count - 2] || values[count - 1]) {
        return "it pads more than the image";
    }
    if (pad->is_of_volumes) {
        pad->front = values[2];
        pad->back = values[3];
    }
    const int32_t *of_image = values + count - 6;
    pad->top = of_image[0];
    pad->bottom = of_image[1];
    pad->left = of_image[2];
    pad->right = of_image[3];
    return NULL;
}

const char *lc_merge_pad(struct lc_layer *layer, const struct lc_pad *pad) {
    if (layer->is_dense || layer->upsampling.rows ||
        (layer->source == LC_VOLUME) != pad->is_of_volumes || layer->input != pad->output) {
        return "not a convolution of the padded image";
    }
    if (layer->is_hybrid && lc_has_steps_of_rows(layer)) {
        return "each pixel of the padded image is quantised by itself";
    }
    layer->input = pad->input;
    layer->pad_front = pad->front;
    layer->pad_back = pad->back;
    layer->pad_top = pad->top;
    layer->pad_bottom = pad->bottom;
    layer->pad_left = pad->left;
    layer->pad_right = pad->right;
    return NULL;
}

// Nodes behind

// The activation that a node computes, or TFL_ACTIVATION_NONE.
static int32_t activation_of(int32_t builtin_code) {
    return builtin_code == TFL_BUILTIN_HARD_SWISH ? LC_ACTIVATION_HARD_SWISH
                                                  : lc_activation_of_node(builtin_code);
}

// The activation that is `second` behind `first`, or TFL_ACTIVATION_NONE if it has no name. A clamp
// behind a clamp is one, to the second's interval of the first's ends.
static int32_t composed(int32_t first, int32_t second) {
    static const int32_t clamps[] = {TFL_ACTIVATION_RELU, TFL_ACTIVATION_RELU_N1_TO_1,
                                     TFL_ACTIVATION_RELU6};
    if (first == TFL_ACTIVATION_NONE) {
        return second;
    }
    if (first > TFL_ACTIVATION_RELU6 || second > TFL_ACTIVATION_RELU6) { // no clamps
        return TFL_ACTIVATION_NONE;
    }
    float a, b, least, most;
    lc_activation_range(first, &a, &b);
    lc_activation_range(second, &least, &most);
    a = fminf(fmaxf(a, least), most);
    b = fminf(fmaxf(b, least), most);
    for (size_t i = 0; i < sizeof clamps / sizeof *clamps; i++) {
        lc_activation_range(clamps[i], &least, &most);
        if (a == least && b == most) {
            return clamps[i];
        }
    }
    return TFL_ACTIVATION_NONE;
}

static const char *merge_activation(struct lc_layer *layer, int32_t activation) {
    int32_t *place =
        layer->residual == TFL_OPTIONAL_TENSOR ? &layer->activation : &layer->output_activation;
    activation = composed(*place, activation);
    if (activation == TFL_ACTIVATION_NONE) {
        return "there is another activation already";
    }
    *place = activation;
    return NULL;
}

static const char *merge_add(struct lc_layer *layer, const struct tfl_context *context,
                             const struct tfl_node *node) {
    const int output = node->outputs->data[0];
    const struct tfl_arithmetic_params *params = node->builtin_data;
    if (node->inputs->size != 2 || !params || params->activation < TFL_ACTIVATION_NONE ||
        params->activation > TFL_ACTIVATION_RELU6) {
        return "malformed node";
    }
    if (layer->residual != TFL_OPTIONAL_TENSOR) {
        return "there is a residual already";
    }
    if (layer->upsampling.rows) {
        return "a transposed convolution has no residual";
    }
    int other = node->inputs->data[node->inputs->data[0] == layer->output];
    const struct tfl_tensor *sum = lc_tensor(context, layer->output);
    const struct tfl_tensor *residual = lc_tensor(context, other);
    if (other == layer->output || !residual || lc_is_constant(residual) || residual->is_variable ||
        !lc_same_dims(residual->dims, sum->dims)) {
        return "not the sum of two images";
    }
    if (layer->element == LC_FLOAT32 ? !is_float(residual)
                                     : !lc_adds_codes(layer, context, other, output)) {
        return "not a sum of the layer's type";
    }
    layer->addend = layer->element == LC_FLOAT32 ? 0 : layer->output;
    layer->residual = other;
    layer->output_activation = params->activation;
    return NULL;
}

const char *lc_merge_follower(struct lc_layer *layer, const struct tfl_context *context,
                              struct lc_node_view view) {
    const struct tfl_node *node = view.node;
    int32_t activation = activation_of(view.builtin_code);
    if (activation == TFL_ACTIVATION_NONE && view.builtin_code != TFL_BUILTIN_ADD) {
        return "not an operator of a layer";
    }
    if (!node->inputs || !node->outputs || node->inputs->size < 1 || node->outputs->size != 1) {
        return "malformed node";
    }
    const struct tfl_tensor *output = lc_tensor(context, node->outputs->data[0]);
    bool is_sum_of_codes = layer->element != LC_FLOAT32 && activation == TFL_ACTIVATION_NONE;
    if (!(is_sum_of_codes ? output && !lc_is_kept(output) : is_computed(output))) {
        return "malformed node";
    }
    const char *reason = activation == TFL_ACTIVATION_NONE ? merge_add(layer, context, node)
                                                           : merge_activation(layer, activation);
    if (!reason) {
        layer->output = node->outputs->data[0];
    }
    return reason;
}

// x / (1 + e^-x), of two nodes

const char *lc_gate_read(const struct lc_layer *layer, const struct tfl_context *context,
                         struct lc_node_view view, int *gate) {
    const struct tfl_node *node = view.node;
    if (view.builtin_code != TFL_BUILTIN_LOGISTIC || !node->inputs || !node->outputs ||
        node->inputs->size != 1 || node->outputs->size != 1 ||
        node->inputs->data[0] != layer->output ||
        !is_computed(lc_tensor(context, node->outputs->data[0]))) {
        return "not the gate of a swish";
    }
    *gate = node->outputs->data[0];
    return NULL;
}

const char *lc_merge_product(struct lc_layer *layer, const struct tfl_context *context,
                             struct lc_node_view view, int gate) {
    const struct tfl_node *node = view.node;
    const struct tfl_arithmetic_params *params = node->builtin_data;
    if (view.builtin_code != TFL_BUILTIN_MUL || !params || !node->inputs || !node->outputs ||
        node->inputs->size != 2 || node->outputs->size != 1 ||
        params->activation != TFL_ACTIVATION_NONE ||
        !is_computed(lc_tensor(context, node->outputs->data[0]))) {
        return "not the product of a swish";
    }
    const int *factors = node->inputs->data;
    if (!(factors[0] == layer->output && factors[1] == gate) &&
        !(factors[0] == gate && factors[1] == layer->output)) {
        return "not the product of a swish";
    }
    const char *reason = merge_activation(layer, LC_ACTIVATION_SWISH);
    if (!reason) {
        layer->output = node->outputs->data[0];
    }
    return reason;
}
