// SPDX-License-Identifier: Apache-2.0

#include "codes/codes.h"

#include <math.h>

#include "host/tensor.h"
#include "kernels/geometry.h"

static struct lc_codes codes_of(const struct tfl_tensor *tensor) {
    struct lc_quantization read;
    if (!lc_read_quantization(tensor, &read)) {
        return (struct lc_codes){.scale = 1.0f}; // which no node has that was claimed
    }
    bool is_signed = read.type == TFL_INT8;
    return (struct lc_codes){
        .is_signed = is_signed,
        .scale = read.scales[0],
        .zero = read.zero_points[0],
        .least = is_signed ? INT8_MIN : 0,
        .most = is_signed ? INT8_MAX : UINT8_MAX,
    };
}

struct lc_codes lc_input_codes(const struct lc_operation *operation, int i) {
    return codes_of(lc_input(operation, i));
}

struct lc_codes lc_output_codes(const struct lc_operation *operation) {
    return codes_of(lc_tensor(operation->context, operation->outputs->data[0]));
}

// The code of a bound; one beyond all codes is the last of them.
static int32_t code_of(const struct lc_codes *codes, float bound, bool as_xnnpack) {
    const float steps = bound / codes->scale;
    const float code =
        as_xnnpack ? rintf(steps + (float)codes->zero) : roundf(steps) + (float)codes->zero;
    const float least = (float)codes->least, most = (float)codes->most;
    return (int32_t)(code < least ? least : code > most ? most : code);
}

void lc_coded_activation(const struct lc_codes *codes, int32_t activation, bool as_xnnpack,
                         int32_t *least, int32_t *most) {
    float low, high;
    lc_activation_range(activation, &low, &high);
    *least = code_of(codes, low, as_xnnpack);
    *most = code_of(codes, high, as_xnnpack);
}
