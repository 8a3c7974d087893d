// SPDX-License-Identifier: Apache-2.0
//
// SOFTMAX of codes, as TFLite's own kernels compute it: XNNPACK takes none. e^x for all distances
// from the largest code is in a table: on Arm of 16 bits, and else of floats.

#include <math.h>

#include "codes/coded.h"
#include "codes/codes.h"
#include "codes/lanes.h"
#include "codes/tables.h"
#include "kernels/quantised/fixed_point.h"
#include "operation/vector.h"

enum {
    MOST_KEPT = 256, // powers of a row
    VECTOR = 16,     // elements of a row that the kernel for Arm computes at once
    ONE = 65535,     // of the table of integers
};

struct softmax {
    struct lc_codes y;
    uint8_t sign; // the bit that tells it, if codes have one: without it they are in order
    float powers[LC_ALL_CODES];     // by the distance from the largest code
    int32_t integers[LC_ALL_CODES]; // likewise
    bool is_integer;
};

struct rows {
    const struct softmax *constants;
    int32_t count; // elements of one
    const uint8_t *x;
    uint8_t *y;
};

static const char *softmax_refuses(const struct lc_operation *operation) {
    if (lc_follows_reference()) { // powers in fixed point
        return "the reference kernel's rounding is its own";
    }
    const struct lc_codes y = lc_output_codes(operation);
    const float beta = ((const struct tfl_softmax_params *)operation->params)->beta;
    if (!(beta >= 0.0f) || !isfinite(beta * lc_input_codes(operation, 0).scale)) {
        return "the exponents are no numbers";
    }
    bool fits = y.zero == y.least && fabsf(y.scale - 0x1p-8f) <= 0.001f * 0x1p-8f;
    return fits ? NULL : "the output's scale is not 1/256";
}

static void softmax_start(const struct lc_operation *operation, void *state) {
    struct softmax *self = state;
    self->y = lc_output_codes(operation);
    self->sign = self->y.is_signed ? 1 << 7 : 0;
    const float beta = ((const struct tfl_softmax_params *)operation->params)->beta;
    const float scale = lc_input_codes(operation, 0).scale * beta;
#if defined(__aarch64__)
    self->is_integer = true;
#endif
    for (int32_t i = 0; i < LC_ALL_CODES; i++) {
        const float power = expf(-scale * (float)i), scaled = power * (float)ONE;
        const int32_t integer = (int32_t)((double)scaled + 0.5);
        self->powers[i] = power;
        self->integers[i] = integer < ONE ? integer : ONE;
    }
}

// By how much a code is less than the largest; `most` is that one's byte, without its sign.
LC_INLINE int32_t distance(const struct softmax *self, int32_t most, uint8_t code) {
    return most - (code ^ self->sign);
}

// The sum of a row's powers, in the order of TFLite's; up to MOST_KEPT of these are kept.
LC_INLINE float add_powers(const struct softmax *self, const uint8_t *x, int32_t most, float *kept,
                           int32_t count) {
    float sum = 0.0f;
    for (int32_t i = 0; i < count; i++) {
        const float power = self->powers[distance(self, most, x[i])];
        if (i < MOST_KEPT) {
            kept[i] = power;
        }
        sum += power;
    }
    return sum;
}

// Shares of the sum as codes; ties go away from zero.
LC_INLINE void store_shares(const struct softmax *self, const float *powers, float inverse,
                            uint8_t *y, int32_t count) {
    for (int32_t i = 0; i < count; i += LC_LANES16) {
        lc_floats16 share;
        memcpy(&share, powers + i, sizeof share);
        share *= inverse;
        const lc_integers16 whole = __builtin_convertvector(share, lc_integers16);
        const lc_floats16 half = __builtin_convertvector(whole, lc_floats16) + 0.5f;
        const lc_integers16 code = whole - (share >= half); // a comparison that holds is -1
        lc_store16(y + i, lc_clamp16(code, 0, UINT8_MAX) ^ self->sign, count - i);
    }
}

LC_INLINE void compute_floats(const struct softmax *self, const uint8_t *x, int32_t most,
                              uint8_t *y, int32_t count) {
    float kept[MOST_KEPT + LC_LANES16];
    const float sum = add_powers(self, x, most, kept, count);
    const float inverse = 1.0f / (sum * self->y.scale);
    for (int32_t first = 0; first < count; first += MOST_KEPT) {
        const int32_t left = count - first, some = left < MOST_KEPT ? left : MOST_KEPT;
        for (int32_t i = 0; first > 0 && i < some; i++) {
            kept[i] = self->powers[distance(self, most, x[first + i])];
        }
        memset(kept + some, 0, LC_LANES16 * sizeof *kept);
        store_shares(self, kept, inverse, y + first, some);
    }
}

LC_INLINE void compute_integers(const struct softmax *self, const uint8_t *x, int32_t most,
                                uint8_t *y, int32_t count) {
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += self->integers[distance(self, most, x[i])];
    }
    const struct lc_multiplier by = lc_multiplier_of((double)(1.0f / ((float)sum * self->y.scale)));
    const int32_t whole = count - count % VECTOR;
    for (int32_t i = 0; i < count; i++) {
        const int32_t power = self->integers[distance(self, most, x[i])];
        const int32_t share = i < whole ? lc_scale_up(power, by) : lc_scale_away(power, by);
        y[i] = (uint8_t)((share < UINT8_MAX ? share : UINT8_MAX) ^ self->sign);
    }
}

LC_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct rows *rows = argument;
    const struct softmax *self = rows->constants;
    for (int32_t row = begin; row < end; row++) {
        const uint8_t *x = rows->x + (size_t)row * (size_t)rows->count;
        uint8_t *y = rows->y + (size_t)row * (size_t)rows->count;
        uint8_t most = 0;
        for (int32_t i = 0; i < rows->count; i++) {
            const uint8_t code = x[i] ^ self->sign;
            most = code > most ? code : most;
        }
        if (self->is_integer) {
            compute_integers(self, x, most, y, rows->count);
        } else {
            compute_floats(self, x, most, y, rows->count);
        }
    }
    return true;
}

static void softmax_compute(const struct lc_operation *operation) {
    const struct lc_shape x = lc_input_shape(operation, 0);
    struct rows rows = {
        .constants = operation->state,
        .count = x.dims[x.rank - 1],
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    lc_operation_run(operation, lc_count(&x, 0, x.rank - 1), lc_count(&x, 0, x.rank), run_rows,
                     &rows);
}

const struct lc_coded lc_coded_SOFTMAX = {
    .refuses = softmax_refuses,
    .state_bytes = sizeof(struct softmax),
    .start = softmax_start,
    .compute = softmax_compute,
};
