// SPDX-License-Identifier: Apache-2.0
//
// Averages are sums over the number of elements, rounded; ties go away from zero. The zero point is
// in both.

#include "codes/pooling.h"

#include "codes/lanes.h"

enum {
    LARGEST = 32, // codes of which the largest are found at once
    VECTORS = 4,  // that are added at once
    // Elements whose sum of codes, and a half of it, single precision holds; the quotient of such
    // is rounded to no integer that it does not reach.
    FEW = 1 << 16,
};

typedef uint8_t codes __attribute__((vector_size(LARGEST)));
typedef int8_t signed_codes __attribute__((vector_size(LARGEST)));

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
    if (some >= LARGEST) {
        memcpy(&v, x, sizeof v);
    } else {
        lc_copy_bytes(&v, x, (size_t)some);
    }
    return v;
}

LC_INLINE void find_largest(bool is_signed, const struct lc_coded_pooling *self,
                            const struct lc_window *window, uint8_t *y, int32_t count) {
    LC_ROLLED
    for (int32_t c = 0; c < count; c += LARGEST) {
        const int32_t some = count - c;
        codes most = splat(is_signed ? INT8_MIN : 0);
        const uint8_t *row = (const uint8_t *)window->x + c;
        LC_ROLLED
        for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
            const uint8_t *x = row;
            LC_ROLLED
            for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
                most = larger(is_signed, load(x, some), most);
            }
        }
        most = smaller(is_signed, most, splat(self->most));
        most = larger(is_signed, most, splat(self->least));
        if (some >= LARGEST) {
            memcpy(y + c, &most, sizeof most);
        } else {
            lc_copy_bytes(y + c, &most, (size_t)some);
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

// Averages of some vectors of channels, or of the first `some` channels of one.
LC_INLINE void average(bool is_signed, const struct lc_coded_pooling *self,
                       const struct lc_window *window, const uint8_t *row, uint8_t *y, int vectors,
                       int32_t some) {
    lc_integers16 sums[VECTORS];
    for (int i = 0; i < vectors; i++) {
        sums[i] = lc_splat16(0);
    }
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const uint8_t *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            for (int i = 0; i < vectors; i++) {
                sums[i] += lc_load16(is_signed, x + i * LC_LANES16, some);
            }
        }
    }
    const int64_t elements = (int64_t)window->rows * window->columns;
    for (int i = 0; i < vectors; i++) {
        lc_integers16 codes = lc_clamp16(quotient(sums[i], elements), self->least, self->most);
        lc_store16(y + i * LC_LANES16, codes, some);
    }
}

LC_INLINE void find_averages(bool is_signed, const struct lc_coded_pooling *self,
                             const struct lc_window *window, uint8_t *y, int32_t count) {
    const uint8_t *x = window->x;
    const int32_t many = VECTORS * LC_LANES16;
    LC_ROLLED
    for (; count >= many; count -= many, x += many, y += many) {
        average(is_signed, self, window, x, y, VECTORS, LC_LANES16);
    }
    LC_ROLLED
    for (; count >= LC_LANES16; count -= LC_LANES16, x += LC_LANES16, y += LC_LANES16) {
        average(is_signed, self, window, x, y, 1, LC_LANES16);
    }
    if (count > 0) {
        average(is_signed, self, window, x, y, 1, count);
    }
}

LC_VECTOR void lc_coded_pool(const struct lc_coded_pooling *self, const struct lc_window *window,
                             uint8_t *y, int32_t count) {
    if (self->is_max && self->is_signed) {
        find_largest(true, self, window, y, count);
    } else if (self->is_max) {
        find_largest(false, self, window, y, count);
    } else if (self->is_signed) {
        find_averages(true, self, window, y, count);
    } else {
        find_averages(false, self, window, y, count);
    }
}
