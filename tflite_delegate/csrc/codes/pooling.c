// SPDX-License-Identifier: Apache-2.0
//
// Averages are sums over the number of elements, rounded; ties go away from zero. The zero point is
// in both. Signed codes are pooled as unsigned ones, which are SIGN more.

#include "codes/pooling.h"

#include "codes/lanes.h"

enum {
    SIGN = 128,
    VECTORS = 2, // of channels that are pooled at once
    // Elements whose sum of codes, and a half of it, single precision holds; the quotient of such
    // is rounded to no integer that it does not reach.
    FEW = 1 << 16,
};

typedef uint8_t codes __attribute__((vector_size(LC_LANES32)));

LC_INLINE codes larger(codes a, codes b) {
    codes mask = (codes)(a > b);
    return (mask & a) | (~mask & b);
}

LC_INLINE codes smaller(codes a, codes b) {
    codes mask = (codes)(a < b);
    return (mask & a) | (~mask & b);
}

LC_INLINE codes splat(int32_t code) { return (uint8_t)code - (codes){0}; }

// What takes codes to unsigned ones, and back.
LC_INLINE codes flip(const struct lc_coded_pooling *self) {
    return splat(self->is_signed ? SIGN : 0);
}

LC_INLINE codes load(const struct lc_coded_pooling *self, const uint8_t *x, int32_t some) {
    codes v = {0};
    if (some >= LC_LANES32) {
        memcpy(&v, x, sizeof v);
    } else {
        lc_copy_bytes(&v, x, (size_t)some);
    }
    return v ^ flip(self);
}

// Largest codes of some vectors of channels, or of the first `some` channels of one.
LC_INLINE void largest(const struct lc_coded_pooling *self, const struct lc_window *window,
                       const uint8_t *row, uint8_t *y, int vectors, int32_t some) {
    codes most[VECTORS] = {{0}};
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const uint8_t *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            for (int i = 0; i < vectors; i++) {
                most[i] = larger(load(self, x + i * LC_LANES32, some), most[i]);
            }
        }
    }
    const codes least = splat(self->least) ^ flip(self), end = splat(self->most) ^ flip(self);
    for (int i = 0; i < vectors; i++) {
        const codes v = larger(smaller(most[i], end), least) ^ flip(self);
        if (some >= LC_LANES32) {
            memcpy(y + i * LC_LANES32, &v, sizeof v);
        } else {
            lc_copy_bytes(y, &v, (size_t)some);
        }
    }
}

LC_INLINE lc_integers16 quotient(lc_integers16 sum, int64_t elements) {
    const int32_t half = (int32_t)(elements / 2);
    sum += lc_select16(sum > 0, lc_splat16(half), lc_splat16(-half));
    if (elements <= FEW) {
        return __builtin_convertvector(__builtin_convertvector(sum, lc_floats16) / (float)elements,
                                       lc_integers16);
    }
    lc_integers16 y;
    for (int i = 0; i < LC_LANES16; i++) {
        y[i] = (int32_t)(sum[i] / elements);
    }
    return y;
}

LC_INLINE void store_averages(const struct lc_coded_pooling *self, const struct lc_window *window,
                              lc_integers16 sums, uint8_t *y, int32_t some) {
    const int64_t elements = (int64_t)window->rows * window->columns;
    sums -= lc_splat16(self->is_signed ? SIGN * (int32_t)elements : 0);
    lc_store16(y, lc_clamp16(quotient(sums, elements), self->least, self->most), some);
}

// Averages of some vectors of channels.
LC_INLINE void averages(const struct lc_coded_pooling *self, const struct lc_window *window,
                        const uint8_t *row, uint8_t *y, int vectors) {
    lc_sums32 sums[VECTORS];
    lc_integers16 totals[VECTORS][2];
    memset(sums, 0, sizeof sums);
    memset(totals, 0, sizeof totals);
    int32_t summed = 0;
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const uint8_t *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            for (int i = 0; i < vectors; i++) {
                const codes v = load(self, x + i * LC_LANES32, LC_LANES32);
                sums[i] += __builtin_convertvector(v, lc_sums32);
            }
            if (++summed % LC_MOST_SUMMED == 0) {
                for (int i = 0; i < vectors; i++) {
                    lc_flush32(&sums[i], totals[i]);
                }
            }
        }
    }
    for (int i = 0; i < vectors; i++) {
        lc_flush32(&sums[i], totals[i]);
        store_averages(self, window, totals[i][0], y + i * LC_LANES32, LC_LANES16);
        store_averages(self, window, totals[i][1], y + i * LC_LANES32 + LC_LANES16, LC_LANES16);
    }
}

// Those of up to a vector of channels.
LC_INLINE void some_averages(const struct lc_coded_pooling *self, const struct lc_window *window,
                             const uint8_t *row, uint8_t *y, int32_t some) {
    const lc_bytes16 sign = (uint8_t)(self->is_signed ? SIGN : 0) - (lc_bytes16){0};
    lc_integers16 sums = {0};
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const uint8_t *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            lc_bytes16 v = {0};
            lc_copy_bytes(&v, x, (size_t)(some < LC_LANES16 ? some : LC_LANES16));
            sums += __builtin_convertvector(v ^ sign, lc_integers16);
        }
    }
    store_averages(self, window, sums, y, some);
}

LC_INLINE void pool(bool is_max, const struct lc_coded_pooling *self,
                    const struct lc_window *window, uint8_t *y, int32_t count) {
    const uint8_t *x = window->x;
    const int32_t many = VECTORS * LC_LANES32;
    LC_ROLLED
    for (; count >= many; count -= many, x += many, y += many) {
        if (is_max) {
            largest(self, window, x, y, VECTORS, LC_LANES32);
        } else {
            averages(self, window, x, y, VECTORS);
        }
    }
    LC_ROLLED
    for (; count >= LC_LANES32; count -= LC_LANES32, x += LC_LANES32, y += LC_LANES32) {
        if (is_max) {
            largest(self, window, x, y, 1, LC_LANES32);
        } else {
            averages(self, window, x, y, 1);
        }
    }
    if (is_max && count > 0) {
        largest(self, window, x, y, 1, count);
    }
    LC_ROLLED
    for (; !is_max && count > 0; count -= LC_LANES16, x += LC_LANES16, y += LC_LANES16) {
        some_averages(self, window, x, y, count);
    }
}

LC_VECTOR void lc_coded_pool(const struct lc_coded_pooling *self, const struct lc_window *window,
                             uint8_t *y, int32_t count) {
    if (self->is_max) {
        pool(true, self, window, y, count);
    } else {
        pool(false, self, window, y, count);
    }
}
