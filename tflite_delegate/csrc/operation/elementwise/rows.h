// SPDX-License-Identifier: Apache-2.0
//
// Part of elementwise.c and of halves.c: rows of elements of one type, by vectors. Of the type,
// these say what `element` and a vector of `elements` are, by LC_OF(load) and so on how these are
// handled, and in ROWS_TARGET for what processor functions with such vectors are compiled.

#define INLINE ROWS_TARGET static inline __attribute__((always_inline))

enum {
    MOST_VECTORS = 4, // that are computed at once
    // The same of exponentials, whose steps need more registers. One after the other would wait.
    FEW_VECTORS = LC_WIDE ? 4 : 2,
};

INLINE elements apply(int32_t builtin_code, elements a, elements b) {
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
        return LC_OF(select)(a > b, a, b); // b, if one is NaN
    case TFL_BUILTIN_MINIMUM:
        return LC_OF(select)(a < b, a, b);
    case TFL_BUILTIN_PRELU:
        return LC_OF(select)(a >= LC_OF(splat)(0.0f), a, a * b);
    case TFL_BUILTIN_HARD_SWISH:
        return a * (LC_OF(clamp)(a + LC_OF(splat)(3.0f), LC_OF(splat)(0.0f), LC_OF(splat)(6.0f)) *
                    LC_OF(splat)(1.0f / 6.0f));
    case TFL_BUILTIN_LOGISTIC:
        return LC_OF(logistic)(a);
    case TFL_BUILTIN_TANH:
        return LC_OF(tanh)(a);
    case TFL_BUILTIN_EXP:
        return LC_OF(exp_full)(a);
    case TFL_BUILTIN_SQUARED_DIFFERENCE:
        return (a - b) * (a - b);
    case TFL_BUILTIN_SQRT:
        return LC_OF(sqrt)(a);
    case TFL_BUILTIN_RSQRT:
        return LC_OF(splat)(1.0f) / LC_OF(sqrt)(a);
    case TFL_BUILTIN_ABS:
        return LC_OF(abs)(a);
    default: // RELU and its kind only clamp
        return a;
    }
}

// Whether results are clamped: by an activation that is fused, or that is all there is.
INLINE bool clamps(int32_t builtin_code) {
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

INLINE elements result(int32_t builtin_code, const struct lc_elementwise *self, elements a,
                       elements b) {
    elements y = apply(builtin_code, a, b);
    return clamps(builtin_code)
               ? LC_OF(clamp)(y, LC_OF(splat)(self->least), LC_OF(splat)(self->most))
               : y;
}

// Vectors of a row. All is read before anything is written: the output may be in the place of an
// operand.
INLINE void block(int32_t builtin_code, const struct lc_elementwise *self, const element *a,
                  const element *b, element *y, int vectors) {
    elements results[MOST_VECTORS];
    for (int i = 0; i < vectors; i++) {
        results[i] = result(builtin_code, self, LC_OF(load)(a + i * LC_LANES),
                            LC_OF(load)(b + i * LC_LANES));
    }
    for (int i = 0; i < vectors; i++) {
        LC_OF(store)(y + i * LC_LANES, results[i]);
    }
}

// Whether the second operand is looked at.
INLINE bool has_two(int32_t builtin_code) {
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
INLINE const element *repeat(element *copies, const element *x) {
    for (int i = 0; i < MOST_VECTORS; i++) {
        LC_OF(store)(copies + i * LC_LANES, LC_OF(splat)(*x));
    }
    return copies;
}

// A row whose operands advance by a step of 0 or 1.
INLINE void row(int32_t builtin_code, const struct lc_elementwise *self, const element *a,
                size_t a_step, const element *b, size_t b_step, element *y, int32_t count) {
    element a_copies[MOST_VECTORS * LC_LANES], b_copies[MOST_VECTORS * LC_LANES];
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
        elements a_part = LC_OF(load_some)(a, count, 0.0f),
                 b_part = LC_OF(load_some)(b, count, 1.0f);
        LC_OF(store_some)(y, result(builtin_code, self, a_part, b_part), count);
    }
}

INLINE void rows(int32_t builtin_code, const struct lc_elementwise *self, const element *a,
                 const element *b, element *y, int32_t count, int32_t number) {
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
    ROWS_TARGET static void rows_##builtin(const struct lc_stretched *self, const void *a,         \
                                           const void *b, void *y, int32_t count,                  \
                                           int32_t number) {                                       \
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

static lc_rows_function *rows_for(int32_t builtin_code) {
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
