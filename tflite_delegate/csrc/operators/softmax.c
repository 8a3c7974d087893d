// SPDX-License-Identifier: Apache-2.0
//
// SOFTMAX over the last axis: y = e^(beta (x - max x)) / sum of these.

#include <math.h>

#include "codes/coded.h"
#include "operation/exponential.h"
#include "operation/operation.h"
#include "operation/vector.h"
#include "operators/halves/softmax.h"

enum { VECTORS = LC_WIDE ? 4 : 2, MANY = VECTORS * LC_LANES }; // that are computed at once

struct softmax {
    int32_t count; // elements of a row
    float beta;
    const void *x;
    void *y;
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
    most[0] = lc_larger(most[0], lc_load_some(x, count, -INFINITY));
    for (int i = 1; i < VECTORS; i++) {
        most[0] = lc_larger(most[0], most[i]);
    }
    return lc_largest(most[0]);
}

// Writes e^(beta (x - most)) and returns the sum.
LC_INLINE float exponentials(const float *x, float most, float beta, float *y, int32_t count) {
    lc_vector sums[VECTORS] = {lc_splat(0.0f)};
    LC_ROLLED
    for (; count >= MANY; count -= MANY, x += MANY, y += MANY) {
        lc_vector powers[VECTORS];
        for (int i = 0; i < VECTORS; i++) {
            powers[i] = lc_exp(beta * (lc_load(x + i * LC_LANES) - most));
        }
        for (int i = 0; i < VECTORS; i++) {
            lc_store(y + i * LC_LANES, powers[i]);
            sums[i] += powers[i];
        }
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES, y += LC_LANES) {
        lc_vector power = lc_exp(beta * (lc_load(x) - most));
        lc_store(y, power);
        sums[0] += power;
    }
    if (count > 0) {
        lc_vector power = lc_exp(beta * (lc_load_some(x, count, most) - most));
        lc_store_some(y, power, count);
        sums[0] += lc_select(lc_first(count), power, lc_splat(0.0f));
    }
    for (int i = 1; i < VECTORS; i++) {
        sums[0] += sums[i];
    }
    return lc_sum(sums[0]);
}

LC_INLINE void scale(float *y, int32_t count, float factor) {
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, y += LC_LANES) {
        lc_store(y, lc_load(y) * factor);
    }
    lc_store_some(y, lc_load_some(y, count, 0.0f) * factor, count);
}

// A row of so many elements in so many registers.
LC_INLINE void short_row(const float *x, float beta, float *y, int32_t count, int vectors) {
    lc_vector values[VECTORS];
    const int last = vectors - 1;
    const int32_t rest = count % LC_LANES;
    for (int i = 0; i < last; i++) {
        values[i] = lc_load(x + i * LC_LANES);
    }
    x += last * LC_LANES;
    values[last] = rest ? lc_load_some(x, rest, -INFINITY) : lc_load(x);
    lc_vector most = values[0];
    for (int i = 1; i < vectors; i++) {
        most = lc_larger(most, values[i]);
    }
    const float largest = lc_largest(most);
    for (int i = 0; i < vectors; i++) {
        values[i] = lc_exp(beta * (values[i] - largest));
    }
    if (rest) {
        values[last] = lc_select(lc_first(rest), values[last], lc_splat(0.0f));
    }
    lc_vector sum = values[0];
    for (int i = 1; i < vectors; i++) {
        sum += values[i];
    }
    const float factor = 1.0f / lc_sum(sum);
    for (int i = 0; i < last; i++) {
        lc_store(y + i * LC_LANES, values[i] * factor);
    }
    y += last * LC_LANES;
    if (rest) {
        lc_store_some(y, values[last] * factor, rest);
    } else {
        lc_store(y, values[last] * factor);
    }
}

LC_INLINE void short_rows(const struct softmax *self, const float *x, float *y, int32_t rows,
                          int vectors) {
    const int32_t count = self->count;
    LC_ROLLED
    for (; rows > 0; rows--, x += count, y += count) {
        short_row(x, self->beta, y, count, vectors);
    }
}

LC_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct softmax *self = argument;
    const int32_t count = self->count, rows = end - begin;
    const float *x = (const float *)self->x + (size_t)begin * (size_t)count;
    float *y = (float *)self->y + (size_t)begin * (size_t)count;
    switch ((count - 1) / LC_LANES) {
    case 0:
        short_rows(self, x, y, rows, 1);
        return true;
    case 1:
        short_rows(self, x, y, rows, 2);
        return true;
#if LC_WIDE
    case 2:
        short_rows(self, x, y, rows, 3);
        return true;
    case 3:
        short_rows(self, x, y, rows, 4);
        return true;
#endif
    default:
        break;
    }
    for (int32_t row = 0; row < rows; row++, x += count, y += count) {
        const float most = largest(x, count);
        float sum = self->beta == 1.0f ? exponentials(x, most, 1.0f, y, count)
                                       : exponentials(x, most, self->beta, y, count);
        scale(y, count, 1.0f / sum);
    }
    return true;
}

static bool run_halves(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct softmax *self = argument;
    const size_t row = (size_t)self->count * sizeof(uint16_t);
    for (int32_t i = begin; i < end; i++) {
        lc_half_softmax((const char *)self->x + (size_t)i * row, self->beta,
                        (char *)self->y + (size_t)i * row, self->count);
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
    lc_operation_run(operation, lc_count(&x, 0, x.rank - 1), lc_count(&x, 0, x.rank),
                     operation->is_half ? run_halves : run_rows, &self);
}

LC_DEFINE_OPERATOR(SOFTMAX, 1, 1, .params_bytes = sizeof(struct tfl_softmax_params),
                   .inplace = TFL_INPLACE_INPUT_0, .infer = softmax_infer,
                   .compute = softmax_compute, LC_IN_HALVES(softmax_compute),
                   .coded = &lc_coded_SOFTMAX);
