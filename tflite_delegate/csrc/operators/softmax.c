// SPDX-License-Identifier: Apache-2.0
//
// SOFTMAX over the last axis: y = e^(beta (x - max x)) / sum of these.

#include <math.h>

#include "operation/exponential.h"
#include "operation/operation.h"
#include "operation/vector.h"

enum { VECTORS = 2, MANY = VECTORS * LC_LANES }; // that are computed at once

struct softmax {
    int32_t count; // elements of a row
    float beta;
    const float *x;
    float *y;
};

LC_INLINE float largest(const float *x, int32_t count) {
    lc_vector most[VECTORS];
    for (int i = 0; i < VECTORS; i++) {
        most[i] = lc_splat(-INFINITY);
    }
    LC_ROLLED
    for (; count >= MANY; count -= MANY, x += MANY) {
        for (int i = 0; i < VECTORS; i++) {
            most[i] = lc_larger(most[i], lc_load(x + i * LC_LANES));
        }
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES) {
        most[0] = lc_larger(most[0], lc_load(x));
    }
    most[1] = lc_larger(most[1], lc_load_some(x, count, -INFINITY));
    return lc_largest(lc_larger(most[0], most[1]));
}

// Writes e^(beta (x - most)) and returns the sum.
LC_INLINE float exponentials(const float *x, float most, float beta, float *y, int32_t count) {
    lc_vector sums[VECTORS] = {lc_splat(0.0f)};
    LC_ROLLED
    for (; count >= MANY; count -= MANY, x += MANY, y += MANY) {
        for (int i = 0; i < VECTORS; i++) {
            lc_vector power = lc_exp(beta * (lc_load(x + i * LC_LANES) - most));
            lc_store(y + i * LC_LANES, power);
            sums[i] += power;
        }
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES, y += LC_LANES) {
        lc_vector power = lc_exp(beta * (lc_load(x) - most));
        lc_store(y, power);
        sums[0] += power;
    }
    lc_store_some(y, lc_exp(beta * (lc_load_some(x, count, most) - most)), count);
    return lc_sum(sums[0] + (sums[1] + lc_load_some(y, count, 0.0f)));
}

LC_INLINE void scale(float *y, int32_t count, float factor) {
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, y += LC_LANES) {
        lc_store(y, lc_load(y) * factor);
    }
    lc_store_some(y, lc_load_some(y, count, 0.0f) * factor, count);
}

LC_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct softmax *self = argument;
    for (int32_t row = begin; row < end; row++) {
        const float *x = self->x + (size_t)row * (size_t)self->count;
        float *y = self->y + (size_t)row * (size_t)self->count;
        float sum = exponentials(x, largest(x, self->count), self->beta, y, self->count);
        scale(y, self->count, 1.0f / sum);
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
        .y = lc_output_data(operation, 0),
    };
    lc_operation_run(operation, lc_count(&x, 0, x.rank - 1), lc_count(&x, 0, x.rank), run_rows,
                     &self);
}

LC_DEFINE_OPERATOR(SOFTMAX, 1, 1, .params_bytes = sizeof(struct tfl_softmax_params),
                   .inplace = TFL_INPLACE_INPUT_0, .infer = softmax_infer,
                   .compute = softmax_compute);
