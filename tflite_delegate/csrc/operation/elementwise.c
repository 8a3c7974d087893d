// SPDX-License-Identifier: Apache-2.0

#include "operation/elementwise.h"

#include "kernels/geometry.h"
#include "operation/exponential.h"
#include "operation/vector.h"

enum {
    MOST_VECTORS = 4, // that are computed at once
    // The same of exponentials, whose steps need more registers. One after the other would wait.
    FEW_VECTORS = LC_WIDE ? 4 : 2,
};

typedef void rows_function(const struct lc_stretched *self, const void *a, const void *b, void *y,
                           int32_t count, int32_t rows);

LC_INLINE lc_vector apply(int32_t builtin_code, lc_vector a, lc_vector b) {
    switch (builtin_code) {
    case TFL_BUILTIN_ADD:
        return a + b;
    case TFL_BUILTIN_SUB:
        return a - b;
    case TFL_BUILTIN_MUL:
        return a * b;
    case TFL_BUILTIN_DIV:
        return a / b;
    case TFL_BUILTIN_MAXIMUM:
        return lc_select(a > b, a, b); // b, if one is NaN
    case TFL_BUILTIN_MINIMUM:
        return lc_select(a < b, a, b);
    case TFL_BUILTIN_PRELU:
        return lc_select(a >= 0.0f, a, a * b);
    case TFL_BUILTIN_HARD_SWISH:
        return a * (lc_clamp(a + 3.0f, lc_splat(0.0f), lc_splat(6.0f)) * (1.0f / 6.0f));
    case TFL_BUILTIN_LOGISTIC:
        return lc_logistic(a);
    case TFL_BUILTIN_TANH:
        return lc_tanh(a);
    case TFL_BUILTIN_EXP:
        return lc_exp_full(a);
    case TFL_BUILTIN_SQUARED_DIFFERENCE:
        return (a - b) * (a - b);
    case TFL_BUILTIN_SQRT:
        return lc_sqrt(a);
    case TFL_BUILTIN_RSQRT:
        return 1.0f / lc_sqrt(a);
    case TFL_BUILTIN_ABS:
        return lc_abs(a);
    default: // RELU and its kind only clamp
        return a;
    }
}

// Whether results are clamped: by an activation that is fused, or that is all there is.
LC_INLINE bool clamps(int32_t builtin_code) {
    switch (builtin_code) {
    case TFL_BUILTIN_ADD:
    case TFL_BUILTIN_SUB:
    case TFL_BUILTIN_MUL:
    case TFL_BUILTIN_DIV:
    case TFL_BUILTIN_RELU:
        return true;
    default:
        return false;
    }
}

LC_INLINE lc_vector result(int32_t builtin_code, const struct lc_elementwise *self, lc_vector a,
                           lc_vector b) {
    lc_vector y = apply(builtin_code, a, b);
    return clamps(builtin_code) ? lc_clamp(y, lc_splat(self->least), lc_splat(self->most)) : y;
}

// Vectors of a row. All is read before anything is written: the output may be in the place of an
// operand.
LC_INLINE void block(int32_t builtin_code, const struct lc_elementwise *self, const float *a,
                     const float *b, float *y, int vectors) {
    lc_vector results[MOST_VECTORS];
    for (int i = 0; i < vectors; i++) {
        results[i] =
            result(builtin_code, self, lc_load(a + i * LC_LANES), lc_load(b + i * LC_LANES));
    }
    for (int i = 0; i < vectors; i++) {
        lc_store(y + i * LC_LANES, results[i]);
    }
}

// Whether the second operand is looked at.
LC_INLINE bool has_two(int32_t builtin_code) {
    switch (builtin_code) {
    case TFL_BUILTIN_ADD:
    case TFL_BUILTIN_SUB:
    case TFL_BUILTIN_MUL:
    case TFL_BUILTIN_DIV:
    case TFL_BUILTIN_MAXIMUM:
    case TFL_BUILTIN_MINIMUM:
    case TFL_BUILTIN_PRELU:
    case TFL_BUILTIN_SQUARED_DIFFERENCE:
        return true;
    default:
        return false;
    }
}

// What the loops over a row read instead of an operand that is stretched along it.
LC_INLINE const float *repeat(float *copies, const float *x) {
    for (int i = 0; i < MOST_VECTORS; i++) {
        lc_store(copies + i * LC_LANES, lc_splat(*x));
    }
    return copies;
}

// A row whose operands advance by a step of 0 or 1.
LC_INLINE void row(int32_t builtin_code, const struct lc_elementwise *self, const float *a,
                   size_t a_step, const float *b, size_t b_step, float *y, int32_t count) {
    float a_copies[MOST_VECTORS * LC_LANES], b_copies[MOST_VECTORS * LC_LANES];
    a = a_step ? a : repeat(a_copies, a);
    if (!has_two(builtin_code)) {
        b = a;
        b_step = a_step;
    } else if (!b_step) {
        b = repeat(b_copies, b);
    }
    const bool few = builtin_code == TFL_BUILTIN_LOGISTIC || builtin_code == TFL_BUILTIN_TANH ||
                     builtin_code == TFL_BUILTIN_EXP;
    const int vectors = few ? FEW_VECTORS : MOST_VECTORS;
    const int32_t many = vectors * LC_LANES;
    LC_ROLLED
    for (; count >= many; count -= many) {
        block(builtin_code, self, a, b, y, vectors);
        a += (size_t)many * a_step;
        b += (size_t)many * b_step;
        y += many;
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, a += LC_LANES * a_step, b += LC_LANES * b_step) {
        block(builtin_code, self, a, b, y, 1);
        y += LC_LANES;
    }
    if (count > 0) {
        lc_vector a_part = lc_load_some(a, count, 0.0f), b_part = lc_load_some(b, count, 1.0f);
        lc_store_some(y, result(builtin_code, self, a_part, b_part), count);
    }
}

LC_INLINE void rows(int32_t builtin_code, const struct lc_elementwise *self, const float *a,
                    const float *b, float *y, int32_t count, int32_t number) {
    const struct lc_broadcast *shape = &self->stretched.shape;
    const int32_t last = shape->rank - 1, before = last > 0 ? last - 1 : 0;
    const size_t a_step = (size_t)shape->steps[0][last], b_step = (size_t)shape->steps[1][last];
    const size_t a_pitch = (size_t)shape->steps[0][before];
    const size_t b_pitch = (size_t)shape->steps[1][before];
    for (; number > 0; number--, a += a_pitch, b += b_pitch, y += count) {
        row(builtin_code, self, a, a_step, b, b_step, y, count);
    }
}

#define ROWS(builtin)                                                                              \
    LC_VECTOR static void rows_##builtin(const struct lc_stretched *self, const void *a,           \
                                         const void *b, void *y, int32_t count, int32_t number) {  \
        rows(TFL_BUILTIN_##builtin, (const struct lc_elementwise *)self, a, b, y, count, number);  \
    }

ROWS(ADD)
ROWS(SUB)
ROWS(MUL)
ROWS(DIV)
ROWS(MAXIMUM)
ROWS(MINIMUM)
ROWS(PRELU)
ROWS(HARD_SWISH)
ROWS(LOGISTIC)
ROWS(TANH)
ROWS(EXP)
ROWS(SQUARED_DIFFERENCE)
ROWS(SQRT)
ROWS(RSQRT)
ROWS(ABS)
ROWS(RELU)

static rows_function *rows_for(int32_t builtin_code) {
    switch (builtin_code) {
    case TFL_BUILTIN_ADD:
        return rows_ADD;
    case TFL_BUILTIN_SUB:
        return rows_SUB;
    case TFL_BUILTIN_MUL:
    case TFL_BUILTIN_NEG:
    case TFL_BUILTIN_SQUARE:
        return rows_MUL;
    case TFL_BUILTIN_DIV:
        return rows_DIV;
    case TFL_BUILTIN_MAXIMUM:
        return rows_MAXIMUM;
    case TFL_BUILTIN_MINIMUM:
        return rows_MINIMUM;
    case TFL_BUILTIN_PRELU:
    case TFL_BUILTIN_LEAKY_RELU:
        return rows_PRELU;
    case TFL_BUILTIN_HARD_SWISH:
        return rows_HARD_SWISH;
    case TFL_BUILTIN_LOGISTIC:
        return rows_LOGISTIC;
    case TFL_BUILTIN_TANH:
        return rows_TANH;
    case TFL_BUILTIN_EXP:
        return rows_EXP;
    case TFL_BUILTIN_SQUARED_DIFFERENCE:
        return rows_SQUARED_DIFFERENCE;
    case TFL_BUILTIN_SQRT:
        return rows_SQRT;
    case TFL_BUILTIN_RSQRT:
        return rows_RSQRT;
    case TFL_BUILTIN_ABS:
        return rows_ABS;
    default:
        return rows_RELU;
    }
}

void lc_elementwise_plan(int32_t builtin_code, const struct lc_shape *a, const struct lc_shape *b,
                         int32_t activation, struct lc_elementwise *plan) {
    plan->stretched = (struct lc_stretched){
        .shape = lc_broadcast_rows(a, b),
        .compute_rows = rows_for(builtin_code),
        .bytes = sizeof(float),
    };
    lc_activation_range(activation, &plan->least, &plan->most);
}

void lc_elementwise_run(const struct lc_operation *operation, struct lc_elementwise *plan,
                        const float *a, const float *b) {
    plan->stretched.operands[0] = a;
    plan->stretched.operands[1] = b;
    plan->stretched.output = lc_output_data(operation, 0);
    lc_broadcast_run(operation, &plan->stretched);
}
