// SPDX-License-Identifier: Apache-2.0
//
// SOFTMAX over the last axis: y = e^(beta (x - max x)) / sum of these.

#include <math.h>

#include "exponential.h"
#include "lanes.h"
#include "operation.h"

struct softmax {
    int32_t count; // elements of a row
    float beta;
    const float *x;
    float *y;
};

LC_INLINE float largest(const float *x, int32_t count) {
    float lanes[LC_LANES], result = -INFINITY;
    for (int j = 0; j < LC_LANES; j++) {
        lanes[j] = -INFINITY;
    }
    int32_t i = 0;
    for (; i + LC_LANES <= count; i += LC_LANES) {
        for (int j = 0; j < LC_LANES; j++) {
            lanes[j] = lc_larger(lanes[j], x[i + j]);
        }
    }
    for (; i < count; i++) {
        result = lc_larger(result, x[i]);
    }
    for (int j = 0; j < LC_LANES; j++) {
        result = lc_larger(result, lanes[j]);
    }
    return result;
}

// Writes e^(beta (x - most)) and returns the sum.
LC_INLINE float exponentials(const float *x, float most, float beta, float *y, int32_t count) {
    float lanes[LC_LANES] = {0}, sum = 0.0f;
    int32_t i = 0;
    for (; i + LC_LANES <= count; i += LC_LANES) {
        float block[LC_LANES];
        for (int j = 0; j < LC_LANES; j++) {
            block[j] = lc_exp(beta * (x[i + j] - most));
        }
        for (int j = 0; j < LC_LANES; j++) {
            y[i + j] = block[j];
            lanes[j] += block[j];
        }
    }
    for (; i < count; i++) {
        sum += y[i] = lc_exp(beta * (x[i] - most));
    }
    for (int j = 0; j < LC_LANES; j++) {
        sum += lanes[j];
    }
    return sum;
}

LC_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct softmax *self = argument;
    for (int32_t row = begin; row < end; row++) {
        const float *x = self->x + (size_t)row * (size_t)self->count;
        float *y = self->y + (size_t)row * (size_t)self->count;
        float sum = exponentials(x, largest(x, self->count), self->beta, y, self->count);
        float scale = 1.0f / sum;
        for (int32_t i = 0; i < self->count; i++) {
            y[i] *= scale;
        }
    }
    return true;
}

static const char *softmax_infer(const struct lc_operation *operation, struct lc_shape *output) {
    *output = lc_input_shape(operation, 0);
    return output->rank < 1 ? "the input is a scalar" : NULL;
}

static void softmax_compute(const struct lc_operation *operation) {
    struct lc_shape x = lc_input_shape(operation, 0);
    struct softmax self = {
        .count = x.dims[x.rank - 1],
        .beta = ((const struct tfl_softmax_params *)operation->params)->beta,
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation),
    };
    lc_operation_run(operation, lc_elements(&x, 0, x.rank - 1), lc_elements(&x, 0, x.rank),
                     run_rows, &self);
}

const struct lc_operator lc_softmax_operators[] = {
    {
        .builtin_code = TFL_BUILTIN_SOFTMAX,
        .name = "leanconv/SOFTMAX",
        .least_inputs = 1,
        .most_inputs = 1,
        .params_bytes = sizeof(struct tfl_softmax_params),
        .inplace = TFL_INPLACE_INPUT_0,
        .infer = softmax_infer,
        .compute = softmax_compute,
    },
    {0},
};
