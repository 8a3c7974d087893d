// SPDX-License-Identifier: Apache-2.0
//
// ADD, SUB and MUL of codes, and PRELU, as XNNPACK computes them in vectors or TFLite's own kernels
// one by one.

#include <math.h>

#include "codes/coded.h"
#include "codes/codes.h"
#include "codes/lanes.h"
#include "kernels/quantised/fixed_point.h"
#include "kernels/quantised/sums.h"
#include "operation/broadcast.h"
#include "operation/vector.h"

enum {
    LEFT = LC_SUM_BITS, // binary digits behind the point of TFLite's sums
    // Elements of TFLite's vectors.
    SIGNED_VECTOR = 16,
    UNSIGNED_VECTOR = 8,
};

// What is computed of each pair of codes.
enum form {
    XNNPACK_SUM,           // (a factor + b factor) / 2^shift, ties up
    XNNPACK_PRODUCT,       // a b scale in float32, ties to even: on x86
    XNNPACK_FIXED_PRODUCT, // a b factor / 2^shift, ties up: on Arm
    TFLITE,
};

struct arithmetic {
    int32_t builtin_code;
    enum form form;
    struct lc_codes a, b, y;
    int32_t least, most;    // of the activation
    struct lc_code_sum sum; // of a product, its only factor and its shift
    float scale;
    struct lc_multiplier by[2], total; // TFLite's
    int32_t vector;                    // elements that TFLite computes at once; 1: none
};

// One row of the output.
struct row {
    struct lc_stretched stretched;
    const struct arithmetic *constants;
    bool has_vectors; // TFLite's kernels compute what fills its vectors in another way
};

// XNNPACK

LC_INLINE lc_integers16 result(enum form form, const struct arithmetic *self, lc_integers16 a,
                               lc_integers16 b) {
    if (form == XNNPACK_SUM) {
        const struct lc_code_sum *sum = &self->sum;
        const int32_t offset = lc_sum_offset(sum, self->a.zero, self->b.zero);
        return ((a * sum->factors[0] + b * sum->factors[1] + offset) >> sum->shift) + self->y.zero;
    }
    const lc_integers16 product = (a - self->a.zero) * (b - self->b.zero);
    if (form == XNNPACK_PRODUCT) {
        return lc_nearest16(__builtin_convertvector(product, lc_floats16) * self->scale) +
               self->y.zero;
    }
    const int64_t half = (INT64_C(1) << self->sum.shift) >> 1;
    lc_integers16 y;
    for (int i = 0; i < LC_LANES16; i++) {
        y[i] = (int32_t)(((int64_t)product[i] * self->sum.factors[0] + half) >> self->sum.shift);
    }
    return y + self->y.zero;
}

// The operands of some lanes, of which one may be stretched over the row.
struct operands {
    const uint8_t *a, *b;
    bool a_stretched, b_stretched;
    lc_integers16 a_all, b_all; // the code that is
};

LC_INLINE void xnnpack_lanes(enum form form, bool is_signed, const struct arithmetic *self,
                             const struct operands *from, int32_t i, uint8_t *y, int32_t some) {
    const lc_integers16 a =
        from->a_stretched ? from->a_all : lc_load16(is_signed, from->a + i, some);
    const lc_integers16 b =
        from->b_stretched ? from->b_all : lc_load16(is_signed, from->b + i, some);
    const lc_integers16 v = result(form, self, a, b);
    lc_store16(y + i, lc_clamp16(v, self->least, self->most), some);
}

LC_INLINE void xnnpack_operands(enum form form, bool is_signed, const struct arithmetic *self,
                                struct operands from, uint8_t *y, int32_t count) {
    int32_t i = 0;
    LC_ROLLED
    for (; i + LC_LANES16 <= count; i += LC_LANES16) {
        xnnpack_lanes(form, is_signed, self, &from, i, y, LC_LANES16);
    }
    if (i < count) {
        xnnpack_lanes(form, is_signed, self, &from, i, y, count - i);
    }
}

LC_INLINE void xnnpack_row(enum form form, bool is_signed, const struct arithmetic *self,
                           const uint8_t *a, size_t a_step, const uint8_t *b, size_t b_step,
                           uint8_t *y, int32_t count) {
    struct operands from = {.a = a, .b = b};
    if (a_step && b_step) {
        xnnpack_operands(form, is_signed, self, from, y, count);
    } else if (a_step) {
        from.b_stretched = true;
        from.b_all = lc_splat16(lc_code_at(&self->b, b, 0));
        xnnpack_operands(form, is_signed, self, from, y, count);
    } else {
        from.a_stretched = true;
        from.a_all = lc_splat16(lc_code_at(&self->a, a, 0));
        xnnpack_operands(form, is_signed, self, from, y, count);
    }
}

// TFLite

static int32_t wrap16(int32_t v) { return (int16_t)(uint16_t)(uint32_t)v; }

static int32_t sum(const struct arithmetic *self, int32_t a, int32_t b, bool in_vector) {
    const int32_t operands[2] = {a, b};
    int32_t parts[2];
    for (int i = 0; i < 2; i++) {
        const struct lc_multiplier by = self->by[i];
        const int32_t wide = operands[i] * (1 << LEFT); // its last digits are zeros
        parts[i] =
            in_vector ? lc_high_product(wide >> -by.shift, by.mantissa) : lc_scale_away(wide, by);
    }
    bool subtracts = self->builtin_code == TFL_BUILTIN_SUB;
    return lc_scale_away(subtracts ? parts[0] - parts[1] : parts[0] + parts[1], self->total);
}

static int32_t tflite(const struct arithmetic *self, int32_t a, int32_t b, bool in_vector) {
    int32_t y;
    switch (self->builtin_code) {
    case TFL_BUILTIN_PRELU:
        y = a >= 0 ? lc_scale_away(a, self->by[0]) : lc_scale_away(a * b, self->by[1]);
        break;
    case TFL_BUILTIN_MUL:
        y = lc_scale_away(a * b, self->total);
        y = !in_vector ? y : y < INT16_MIN ? INT16_MIN : y > INT16_MAX ? INT16_MAX : y;
        break;
    default:
        y = sum(self, a, b, in_vector);
        y = in_vector ? wrap16(y) : y;
    }
    y += self->y.zero; // in vectors, of 16 bits
    return lc_clamp_code(lc_clamp_code(in_vector ? wrap16(y) : y, self->y.least, self->y.most),
                         self->least, self->most);
}

static void tflite_row(const struct row *row, const uint8_t *a, size_t a_step, const uint8_t *b,
                       size_t b_step, uint8_t *y, int32_t count) {
    const struct arithmetic *self = row->constants;
    const int32_t whole = row->has_vectors ? count - count % self->vector : 0;
    for (int32_t i = 0; i < count; i++) {
        const size_t at = (size_t)i;
        const int32_t x = lc_code_at(&self->a, a, at * a_step) - self->a.zero;
        const int32_t other = lc_code_at(&self->b, b, at * b_step) - self->b.zero;
        y[i] = (uint8_t)tflite(self, x, other, i < whole);
    }
}

// Rows

LC_INLINE void rows(enum form form, const struct lc_stretched *stretched, const uint8_t *a,
                    const uint8_t *b, uint8_t *y, int32_t count, int32_t number) {
    const struct row *row = (const struct row *)stretched;
    const struct arithmetic constants = *row->constants; // which no byte of an output is
    const struct lc_broadcast *shape = &stretched->shape;
    const int32_t last = shape->rank - 1, before = last > 0 ? last - 1 : 0;
    const size_t a_step = (size_t)shape->steps[0][last], b_step = (size_t)shape->steps[1][last];
    for (; number > 0; number--, y += count) {
        if (form == TFLITE) {
            tflite_row(row, a, a_step, b, b_step, y, count);
        } else if (constants.y.is_signed) {
            xnnpack_row(form, true, &constants, a, a_step, b, b_step, y, count);
        } else {
            xnnpack_row(form, false, &constants, a, a_step, b, b_step, y, count);
        }
        a += shape->steps[0][before];
        b += shape->steps[1][before];
    }
}

#define ROWS(form)                                                                                 \
    LC_VECTOR static void rows_##form(const struct lc_stretched *self, const void *a,              \
                                      const void *b, void *y, int32_t count, int32_t number) {     \
        rows(form, self, a, b, y, count, number);                                                  \
    }

ROWS(XNNPACK_SUM)
ROWS(XNNPACK_PRODUCT)
ROWS(XNNPACK_FIXED_PRODUCT)
ROWS(TFLITE)

// Whether TFLite goes through the operands in five loops, of which the inner one is in vectors: as
// long as each operand is stretched along one run of axes, and the one whose run is last is not
// stretched along others in between.
static bool is_fivefold(const struct lc_broadcast *shape) {
    int32_t runs[2] = {0, 0};
    for (int32_t axis = shape->rank - 1; axis >= 0; axis--) {
        for (int i = 0; i < 2; i++) {
            runs[i] += shape->steps[i][axis] == 0 && shape->extents[axis] > 1;
        }
    }
    return runs[0] <= 1 && runs[1] <= 1;
}

static void compute(const struct lc_operation *operation) {
    static void (*const compute_rows[])(const struct lc_stretched *, const void *, const void *,
                                        void *, int32_t, int32_t) = {
        [XNNPACK_SUM] = rows_XNNPACK_SUM,
        [XNNPACK_PRODUCT] = rows_XNNPACK_PRODUCT,
        [XNNPACK_FIXED_PRODUCT] = rows_XNNPACK_FIXED_PRODUCT,
        [TFLITE] = rows_TFLITE,
    };
    const struct arithmetic *constants = operation->state;
    const struct lc_shape a = lc_input_shape(operation, 0), b = lc_input_shape(operation, 1);
    struct row row = {
        .stretched =
            {
                .shape = lc_broadcast_rows(&a, &b),
                .compute_rows = compute_rows[constants->form],
                .bytes = 1,
                .operands = {lc_input_data(operation, 0), lc_input_data(operation, 1)},
                .output = lc_output_data(operation, 0),
            },
        .constants = constants,
    };
    row.has_vectors = constants->vector > 1 && is_fivefold(&row.stretched.shape);
    lc_broadcast_run(operation, &row.stretched);
}

// Constants

static struct arithmetic constants_of(const struct lc_operation *operation) {
    struct arithmetic self = {
        .builtin_code = operation->builtin_code,
        .form = TFLITE,
        .a = lc_input_codes(operation, 0),
        .b = lc_input_codes(operation, 1),
        .y = lc_output_codes(operation),
        .vector = 1,
    };
    self.least = self.y.least;
    self.most = self.y.most;
    return self;
}

static void find_activation(const struct lc_operation *operation, struct arithmetic *self) {
    const struct tfl_arithmetic_params *params = operation->params;
    bool has_vectors = self->form == TFLITE && !lc_follows_reference();
    self->vector = !has_vectors ? 1 : self->y.is_signed ? SIGNED_VECTOR : UNSIGNED_VECTOR;
    lc_coded_activation(&self->y, params->activation, self->form != TFLITE, &self->least,
                        &self->most);
}

static void sum_start(const struct lc_operation *operation, void *state) {
    struct arithmetic self = constants_of(operation);
    const float scales[2] = {self.a.scale, self.b.scale};
    const float twice = 2.0f * fmaxf(scales[0], scales[1]);
    bool fits = lc_code_sum_of(&self.sum, scales[0], scales[1], self.y.scale);
    bool subtracts = operation->builtin_code == TFL_BUILTIN_SUB;
    self.form = lc_follows_xnnpack() && fits ? XNNPACK_SUM : TFLITE;
    for (int i = 0; i < 2; i++) {
        self.by[i] = lc_multiplier_of((double)scales[i] / (double)twice);
    }
    self.sum.factors[1] *= subtracts ? -1 : 1;
    self.total = lc_multiplier_of((double)twice / (double)((float)(1 << LEFT) * self.y.scale));
    find_activation(operation, &self);
    self.vector = subtracts ? 1 : self.vector;
    *(struct arithmetic *)state = self;
}

static void product_start(const struct lc_operation *operation, void *state) {
    struct arithmetic self = constants_of(operation);
    int exponent;
    self.scale = self.a.scale * self.b.scale / self.y.scale;
    self.total = lc_multiplier_of((double)self.scale);
    if (lc_follows_xnnpack() && self.scale >= 0x1p-16f && self.scale < 0x1p8f) {
#if defined(__aarch64__)
        self.form = XNNPACK_FIXED_PRODUCT;
#else
        self.form = XNNPACK_PRODUCT;
#endif
        self.sum.factors[0] = (int32_t)ldexpf(frexpf(self.scale, &exponent), 24);
        self.sum.shift = 24 - exponent;
    }
    find_activation(operation, &self);
    *(struct arithmetic *)state = self;
}

static void prelu_start(const struct lc_operation *operation, void *state) {
    struct arithmetic self = constants_of(operation);
    self.by[0] = lc_multiplier_of((double)(self.a.scale / self.y.scale));
    self.by[1] = lc_multiplier_of((double)(self.a.scale * self.b.scale / self.y.scale));
    *(struct arithmetic *)state = self;
}

const struct lc_coded lc_coded_ADD = {
    .state_bytes = sizeof(struct arithmetic), .start = sum_start, .compute = compute};

const struct lc_coded lc_coded_MUL = {
    .state_bytes = sizeof(struct arithmetic), .start = product_start, .compute = compute};

const struct lc_coded lc_coded_PRELU = {
    .state_bytes = sizeof(struct arithmetic), .start = prelu_start, .compute = compute};
