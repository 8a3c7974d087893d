// SPDX-License-Identifier: Apache-2.0
//
// Averages are sums over the number of elements, rounded; ties go away from zero. The zero point is
// in both.

#include "codes/pooling.h"

#include "codes/lanes.h"

enum {
    VECTORS = 2, // of channels that are pooled at once
    // Elements whose sum of codes, and a half of it, single precision holds; the quotient of such
    // is rounded to no integer that it does not reach.
    FEW = 1 << 16,
};

typedef uint8_t codes __attribute__((vector_size(LC_LANES32)));
typedef int8_t signed_codes __attribute__((vector_size(LC_LANES32)));

LC_INLINE codes larger(bool is_signed, codes a, codes b) {
    codes mask = is_signed ? (codes)((signed_codes)a > (signed_codes)b) : (codes)(a > b);
    return (mask & a) | (~mask & b);
}

LC_INLINE codes smaller(bool is_signed, codes a, codes b) {
    codes mask = is_signed ? (codes)((signed_codes)a < (signed_codes)b) : (codes)(a < b);
    return (mask & a) | (~mask & b);
}

LC_INLINE codes splat(int32_t code) { return (uint8_t)code - (codes){0}; }

LC_INLINE codes load(const uint8_t *x, int32_t some) {
    codes v = {0};
    if (some >= LC_LANES32) {
        memcpy(&v, x, sizeof v);
    } else {
        lc_copy_bytes(&v, x, (size_t)some);
    }
    return v;
}

// Largest codes of some vectors of channels, or of the first `some` channels of one.
LC_INLINE void largest(bool is_signed, const struct lc_coded_pooling *self,
                       const struct lc_window *window, const uint8_t *row, uint8_t *y, int vectors,
                       int32_t some) {
    codes most[VECTORS];
    for (int i = 0; i < vectors; i++) {
        most[i] = splat(is_signed ? INT8_MIN : 0);
    }
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const uint8_t *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            for (int i = 0; i < vectors; i++) {
                most[i] = larger(is_signed, load(x + i * LC_LANES32, some), most[i]);
            }
        }
    }
    const codes least = splat(self->least), end = splat(self->most);
    for (int i = 0; i < vectors; i++) {
        const codes v = larger(is_signed, smaller(is_signed, most[i], end), least);
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
    lc_store16(y, lc_clamp16(quotient(sums, elements), self->least, self->most), some);
}

// Averages of some vectors of channels.
LC_INLINE void averages(bool is_signed, const struct lc_coded_pooling *self,
                        const struct lc_window *window, const uint8_t *row, uint8_t *y,
                        int vectors) {
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
                sums[i] += lc_load32(is_signed, x + i * LC_LANES32);
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
LC_INLINE void some_averages(bool is_signed, const struct lc_coded_pooling *self,
                             const struct lc_window *window, const uint8_t *row, uint8_t *y,
                             int32_t some) {
    lc_integers16 sums = {0};
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const uint8_t *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            sums += lc_load16(is_signed, x, some);
        }
    }
    store_averages(self, window, sums, y, some);
}

LC_INLINE void pool(bool is_max, bool is_signed, const struct lc_coded_pooling *self,
                    const struct lc_window *window, uint8_t *y, int32_t count) {
    const uint8_t *x = window->x;
    const int32_t many = VECTORS * LC_LANES32;
    LC_ROLLED
    for (; count >= many; count -= many, x += many, y += many) {
        if (is_max) {
            largest(is_signed, self, window, x, y, VECTORS, LC_LANES32);
        } else {
            averages(is_signed, self, window, x, y, VECTORS);
        }
    }
    LC_ROLLED
    for (; count >= LC_LANES32; count -= LC_LANES32, x += LC_LANES32, y += LC_LANES32) {
        if (is_max) {
            largest(is_signed, self, window, x, y, 1, LC_LANES32);
        } else {
            averages(is_signed, self, window, x, y, 1);
        }
    }
    if (is_max && count > 0) {
        largest(is_signed, self, window, x, y, 1, count);
    }
    LC_ROLLED
    for (; !is_max && count > 0; count -= LC_LANES16, x += LC_LANES16, y += LC_LANES16) {
        some_averages(is_signed, self, window, x, y, count);
    }
}

LC_VECTOR void lc_coded_pool(const struct lc_coded_pooling *self, const struct lc_window *window,
                             uint8_t *y, int32_t count) {
    if (self->is_max && self->is_signed) {
        pool(true, true, self, window, y, count);
    } else if (self->is_max) {
        pool(true, false, self, window, y, count);
    } else if (self->is_signed) {
        pool(false, true, self, window, y, count);
    } else {
        pool(false, false, self, window, y, count);
    }
}
