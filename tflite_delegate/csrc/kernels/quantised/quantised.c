// SPDX-License-Identifier: Apache-2.0

#include "kernels/quantised/quantised.h"

#include <math.h>
#include <string.h>

#include "host/checked.h"
#include "kernels/geometry.h"
#include "kernels/quantised/rounding.h"
#include "kernels/quantised/sums.h"
#include "kernels/weights.h"

// What a kernel reads of a layer beside its channels'; schedules/kernel/quantised/constants.py.
struct parameters {
    uint8_t zeros[LC_WORD]; // the input's zero point, as often as a word has elements
    int32_t zero;           // the output's
    int32_t low, high;      // of the output's range
    int32_t weight_zero;    // of the weights as they are packed
    // Of the sum with a residual; else zeros.
    int32_t factors[2], offset, shift, sum_zero, sum_low, sum_high;
};

float lc_ratio(const struct lc_quantised_layer *layer, size_t m) {
    float scale = layer->scales[m * (size_t)layer->scale_step];
    return layer->input_scale * scale / layer->output_scale;
}

static int32_t least_of(const struct lc_quantised_layer *layer) {
    return layer->element == LC_UINT8 ? 0 : INT8_MIN;
}

static float clamp(float value, float least, float most) {
    return value < least ? least : value > most ? most : value;
}

// What an activation leaves of elements of a scale and zero point. XNNPACK adds the zero point
// before it rounds, half to even; TFLite behind, half away from zero.
static void find_range(const struct lc_quantised_layer *layer, int32_t rule, int32_t activation,
                       float scale, int32_t zero_point, int32_t *ends[2]) {
    float bounds[2], zero = (float)zero_point;
    float least = (float)least_of(layer), most = least + (float)UINT8_MAX;
    lc_activation_range(activation, &bounds[0], &bounds[1]);
    for (int i = 0; i < 2; i++) {
        float value = bounds[i] / scale;
        *ends[i] = rule < LC_DOUBLE ? (int32_t)lrintf(clamp(value + zero, least, most))
                                    : (int32_t)clamp(roundf(value) + zero, least, most);
    }
}

static struct parameters parameters_of(const struct lc_geometry *g,
                                       const struct lc_constants *constants) {
    const struct lc_quantised_layer *layer = &constants->quantised;
    struct parameters parameters = {
        .zero = layer->output_zero,
        .weight_zero = layer->weight_zero,
    };
    memset(parameters.zeros, layer->input_zero, sizeof parameters.zeros);
    find_range(layer, g->rule, g->activation, layer->output_scale, layer->output_zero,
               (int32_t *[]){&parameters.low, &parameters.high});
    struct lc_code_sum sum;
    if (g->residual && lc_code_sum_of(&sum, layer->output_scale, layer->residual_scale,
                                      layer->sum_scale)) { // which it was claimed for
        memcpy(parameters.factors, sum.factors, sizeof sum.factors);
        parameters.offset = lc_sum_offset(&sum, layer->output_zero, layer->residual_zero);
        parameters.shift = sum.shift;
        parameters.sum_zero = layer->sum_zero;
        find_range(layer, g->rule, g->output_activation, layer->sum_scale, layer->sum_zero,
                   (int32_t *[]){&parameters.sum_low, &parameters.sum_high});
    }
    return parameters;
}

// Bytes of the ratios of so many biases, each array on cache lines of its own. False on overflow.
static bool ratio_bytes(int32_t rule, size_t biases, size_t *bytes) {
    *bytes = biases;
    if (rule == LC_REAL64) {
        return lc_multiply(bytes, 2) && lc_round_up(bytes);
    }
    return lc_round_up(bytes) && (rule == LC_XNN_FP32 || lc_multiply(bytes, 2));
}

bool lc_add_parameters(size_t *bytes, int32_t rule) {
    size_t ratios;
    return ratio_bytes(rule, *bytes, &ratios) && lc_round_up(bytes) && lc_add(bytes, ratios) &&
           lc_add(bytes, LC_CACHE_LINE);
}

static int32_t element_at(int32_t element, const void *data, size_t i) {
    return element == LC_UINT8 ? ((const uint8_t *)data)[i] : ((const int8_t *)data)[i];
}

// Less the zero point.
static int32_t weight_at(const struct lc_constants *constants, size_t i) {
    const struct lc_quantised_layer *layer = &constants->quantised;
    return element_at(layer->element, constants->weights.data, i) - layer->weight_zero;
}

// Wraps as the kernel's sums do.
static uint32_t sum_of_weights(const struct lc_geometry *g, const struct lc_constants *constants,
                               size_t m) {
    size_t taps = (size_t)g->kernel_height * (size_t)g->kernel_width;
    size_t channels = (size_t)(g->in_channels / g->groups);
    uint32_t sum = 0;
    for (size_t tap = 0; tap < taps && constants->weights.data; tap++) {
        size_t index = lc_weights_index(constants, g, m, tap);
        for (size_t c = 0; c < channels && index != SIZE_MAX; c++) {
            sum += (uint32_t)weight_at(constants, index + c);
        }
    }
    return sum;
}

static int32_t bias_of(const struct lc_constants *constants, size_t m) {
    const int32_t *biases = constants->bias.data;
    return biases ? biases[lc_model_channel(constants, m)] : 0;
}

static union lc_ratio ratio_of(const struct lc_geometry *g, const struct lc_constants *constants,
                               size_t m) {
    return lc_ratio_of(g->rule, &constants->quantised, lc_model_channel(constants, m));
}

// Writes a ratio into arrays that are a `line` apart.
static void write_ratio(char *ratios, size_t line, size_t m, int32_t rule, union lc_ratio ratio) {
    if (rule == LC_XNN_FP32) {
        memcpy(ratios + m * sizeof ratio.single, &ratio.single, sizeof ratio.single);
    } else if (rule == LC_REAL64) {
        memcpy(ratios + m * sizeof ratio.real, &ratio.real, sizeof ratio.real);
    } else {
        memcpy(ratios + m * sizeof(int32_t), &ratio.scaled.mantissa, sizeof(int32_t));
        memcpy(ratios + line + m * sizeof(int32_t), &ratio.scaled.shift, sizeof(int32_t));
    }
}

void lc_write_parameters(void *block, const struct lc_part *part, const struct lc_geometry *g,
                         const struct lc_constants *constants, size_t first, size_t channels) {
    const struct lc_quantised_layer *layer = &constants->quantised;
    const bool is_unsigned = layer->element == LC_UINT8;
    const int32_t offset = is_unsigned ? lc_library.unsigned_image_offset : lc_library.image_offset;
    // Only products of words add something to the image. It is the kernel's layout that tells: the
    // model's is that of depthwise layers for one input channel too, which are multiplied in words.
    const bool is_offset = part->layout == LC_WORDS || part->layout == LC_ROWS;
    const uint32_t taken = (uint32_t)(layer->input_zero + (is_offset ? offset : 0));
    size_t line = part->bias_elements * sizeof(float), ratios;
    ratio_bytes(g->rule, line, &ratios);
    lc_round_up(&line);
    for (size_t m = 0; m < channels; m++) {
        uint32_t sum = sum_of_weights(g, constants, first + m);
        uint32_t bias = (uint32_t)bias_of(constants, first + m) - taken * sum;
        memcpy((char *)block + m * sizeof bias, &bias, sizeof bias);
        write_ratio((char *)block + line, line, m, g->rule, ratio_of(g, constants, first + m));
    }
    struct parameters parameters = parameters_of(g, constants);
    parameters.weight_zero +=
        is_unsigned && part->layout == LC_WORDS ? lc_library.weight_offset : 0;
    memcpy((char *)block + line + ratios, &parameters, sizeof parameters);
}

// The kernel in plain C

// The sum of one output element.
static int32_t sum_of(const struct lc_geometry *g, const struct lc_constants *constants,
                      const void *x, int32_t oy, int32_t ox, size_t m) {
    const struct lc_quantised_layer *layer = &constants->quantised;
    size_t channels = (size_t)(g->in_channels / g->groups);
    size_t group = m / (size_t)(g->out_channels / g->groups), tap = 0;
    uint32_t sum = (uint32_t)bias_of(constants, m);
    for (int32_t kh = 0; kh < g->kernel_height; kh++) {
        for (int32_t kw = 0; kw < g->kernel_width; kw++, tap++) {
            size_t pixel = lc_tap_pixel(g, oy, ox, kh, kw);
            size_t weight = lc_weights_index(constants, g, m, tap);
            if (pixel == SIZE_MAX || weight == SIZE_MAX) {
                continue;
            }
            size_t from = pixel * (size_t)g->in_channels + group * channels;
            for (size_t c = 0; c < channels; c++) {
                int32_t value = element_at(layer->element, x, from + c) - layer->input_zero;
                sum += (uint32_t)(value * weight_at(constants, weight + c));
            }
        }
    }
    return (int32_t)sum;
}

static int64_t between(int64_t value, int32_t low, int32_t high) {
    value = value < high ? value : high;
    return value > low ? value : low;
}

static int64_t added(const struct parameters *by, int32_t element, int32_t residual) {
    int32_t sum = element * by->factors[0] + residual * by->factors[1] + by->offset;
    return between((sum >> by->shift) + by->sum_zero, by->sum_low, by->sum_high);
}

void lc_quantised_conv(const struct lc_geometry *g, const struct lc_constants *constants,
                       const void *x, const void *r, void *y, int32_t begin, int32_t end) {
    struct parameters parameters = parameters_of(g, constants);
    int32_t out_width = lc_out_width(g);
    size_t out_channels = (size_t)g->out_channels;
    size_t first = (size_t)begin * (size_t)out_width * out_channels;
    uint8_t *to = (uint8_t *)y + first;
    for (int32_t oy = begin; oy < end; oy++) {
        for (int32_t ox = 0; ox < out_width; ox++, to += out_channels, first += out_channels) {
            for (size_t m = 0; m < out_channels; m++) {
                int32_t sum = sum_of(g, constants, x, oy, ox, m);
                union lc_ratio ratio = ratio_of(g, constants, m);
                int64_t element =
                    lc_rounded(g->rule, sum, ratio, m, out_channels) + parameters.zero;
                element = between(element, parameters.low, parameters.high);
                if (r) {
                    int32_t residual = element_at(constants->quantised.element, r, first + m);
                    element = added(&parameters, (int32_t)element, residual);
                }
                to[m] = (uint8_t)element;
            }
        }
    }
}
