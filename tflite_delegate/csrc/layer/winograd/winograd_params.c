// SPDX-License-Identifier: Apache-2.0

#include "layer/winograd/winograd_params.h"

#include "layer/winograd/flexbuffer.h"

static bool read_activation(const struct lc_flex_map *map, int32_t *activation) {
    static const struct {
        const char *name;
        int32_t activation;
    } known[] = {{"NONE", TFL_ACTIVATION_NONE},
                 {"RELU", TFL_ACTIVATION_RELU},
                 {"RELU6", TFL_ACTIVATION_RELU6}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (lc_flex_is(map, "activation", known[i].name)) {
            *activation = known[i].activation;
            return true;
        }
    }
    return false;
}

const char *lc_read_winograd_params(struct lc_layer *layer, const struct tfl_node *node) {
    struct lc_flex_map map;
    int64_t outputs, taps, relu;
    if (node->custom_initial_data_size < 0 ||
        !lc_flex_open(&map, node->custom_initial_data, (size_t)node->custom_initial_data_size) ||
        !lc_flex_integer(&map, "m", &outputs) || !lc_flex_integer(&map, "r", &taps) ||
        !lc_flex_integer(&map, "winograd_relu", &relu) ||
        !read_activation(&map, &layer->activation)) {
        return "malformed options";
    }
    layer->same_padding = lc_flex_is(&map, "padding", "SAME");
    if (!layer->same_padding && !lc_flex_is(&map, "padding", "VALID")) {
        return "unknown padding";
    }
    if (outputs < 1 || outputs > LC_MAX_INPUTS || taps < 2 || taps > LC_MAX_INPUTS ||
        outputs + taps - 1 > LC_MAX_INPUTS || relu < 0 || relu > 1) {
        return "options of no known form of Winograd's algorithm";
    }
    layer->source = LC_POINTS;
    layer->domain = (int32_t)outputs;
    layer->domain_relu = (int32_t)relu;
    layer->kernel_height = layer->kernel_width = (int32_t)taps;
    layer->stride_height = layer->stride_width = 1;
    layer->dilation_height = layer->dilation_width = 1;
    return NULL;
}
