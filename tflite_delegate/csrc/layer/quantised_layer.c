// SPDX-License-Identifier: Apache-2.0

#include "layer/quantised_layer.h"

#include "host/checked.h"
#include "host/tensor.h"
#include "kernels/quantised/sums.h"

bool lc_is_dense_constant(const struct tfl_tensor *tensor, int type) {
    size_t bytes;
    return tensor->type == type && lc_is_constant(tensor) && tensor->data && !tensor->sparsity &&
           lc_count_elements(tensor->dims, &bytes) &&
           lc_multiply(&bytes, type == TFL_INT32 ? sizeof(int32_t) : sizeof(int8_t)) &&
           tensor->bytes >= bytes;
}

// What a residual and the sum with it stand for. False unless they are of the layer's type.
static bool read_sum(const struct lc_layer *layer, const struct tfl_context *context,
                     struct lc_quantised_layer *quantised) {
    struct lc_quantization residual, sum;
    const int type = context->tensors[layer->input].type;
    if (!lc_read_quantization(&context->tensors[layer->residual], &residual) ||
        !lc_read_quantization(&context->tensors[layer->output], &sum) || residual.count != 1 ||
        sum.count != 1 || residual.type != type || sum.type != type) {
        return false;
    }
    quantised->residual_scale = *residual.scales;
    quantised->residual_zero = *residual.zero_points;
    quantised->sum_scale = *sum.scales;
    quantised->sum_zero = *sum.zero_points;
    return true;
}

bool lc_read_quantised(const struct lc_layer *layer, const struct tfl_context *context,
                       struct lc_quantised_layer *quantised) {
    struct lc_quantization input, weights, output;
    const bool has_sum = layer->residual != TFL_OPTIONAL_TENSOR;
    const int own = has_sum ? layer->addend : layer->output;
    if (!lc_read_quantization(&context->tensors[layer->input], &input) ||
        !lc_read_quantization(&context->tensors[layer->weights], &weights) ||
        !lc_read_quantization(&context->tensors[own], &output) || input.count != 1 ||
        output.count != 1 ||
        (weights.count != 1 && weights.axis != (layer->source == LC_TAPS ? 3 : 0))) {
        return false;
    }
    bool is_unsigned = layer->element == LC_UINT8;
    if (is_unsigned && weights.count > 1) {
        return false;
    }
    for (int32_t i = 0; i < weights.count; i++) {
        if (weights.zero_points[i * weights.zero_step] != 0 && !is_unsigned) {
            return false;
        }
    }
    *quantised = (struct lc_quantised_layer){
        .input_scale = *input.scales,
        .output_scale = *output.scales,
        .input_zero = *input.zero_points,
        .output_zero = *output.zero_points,
        .weight_zero = *weights.zero_points,
        .scales = weights.scales,
        .scale_step = weights.count > 1,
        .element = layer->element,
        .is_dense = layer->is_dense,
    };
    return !has_sum || read_sum(layer, context, quantised);
}

bool lc_adds_codes(const struct lc_layer *layer, const struct tfl_context *context, int residual,
                   int sum) {
    struct lc_layer summed = *layer;
    struct lc_quantised_layer read;
    struct lc_code_sum by;
    summed.addend = layer->output;
    summed.residual = residual;
    summed.output = sum;
    return lc_library.rounding == LC_ROUNDING_XNNPACK &&
           lc_read_quantised(&summed, context, &read) &&
           lc_code_sum_of(&by, read.output_scale, read.residual_scale, read.sum_scale);
}

bool lc_overflows_pairs(const struct lc_layer *layer, const struct tfl_context *context) {
    const struct tfl_tensor *weights = &context->tensors[layer->weights];
    const int8_t *data = weights->data;
    const bool is_unsigned = layer->element == LC_UINT8;
    const int8_t least = is_unsigned ? 0 : INT8_MIN; // -128 once it is packed
    size_t count = 0, apart = LC_LONG_WORD / 2;
    lc_count_elements(weights->dims, &count);
    if (layer->source == LC_TAPS) {
        apart = (size_t)layer->out_channels;
    } else if (layer->upsampling.rows && (is_unsigned || layer->group_channels % LC_LONG_WORD)) {
        return true; // taps come in another order, or are zero points where there is none
    }
    for (size_t first = 0; apart > 0 && count - first >= 2 * apart; first += 2 * apart) {
        for (size_t i = first; i < first + apart; i++) {
            if (data[i] == least && data[i + apart] == least) {
                return true;
            }
        }
    }
    return false;
}

const char *lc_check_quantised(const struct lc_layer *layer, const struct tfl_context *context) {
    const float too_large = 256.0f; // as XNNPACK has it
    struct lc_quantised_layer quantised;
    if (!lc_read_quantised(layer, context, &quantised)) {
        return "its quantisation is not that of an int8 or uint8 layer";
    }
    int32_t channels = layer->upsampling.rows ? layer->upsampling.channels : layer->out_channels;
    int32_t count = quantised.scale_step ? channels : 1;
    for (int32_t m = 0; m < count && lc_library.rounding == LC_ROUNDING_XNNPACK; m++) {
        if (!(lc_ratio(&quantised, (size_t)m) < too_large)) {
            return "the scales of its input and weights are too large for that of its output";
        }
    }
    return NULL;
}
