// SPDX-License-Identifier: Apache-2.0

#include "operators/halves/pooling.h"

#include <math.h>

#include "operation/halves/vector.h"

#if LC_HALVES

enum { VECTORS = 4, MANY = VECTORS * LC_LANES }; // of channels that are pooled at once

LC_HALF_INLINE lc_halves load(const lc_half *x, int32_t some) {
    return some ? lc_half_load_some(x, some, 0.0f) : lc_half_load(x);
}

LC_HALF_INLINE void store(const struct lc_half_pooling *self, lc_half *y, lc_halves v,
                          int32_t some) {
    v = lc_half_clamp(v, lc_half_splat(self->least), lc_half_splat(self->most));
    if (some) {
        lc_half_store_some(y, v, some);
    } else {
        lc_half_store(y, v);
    }
}

// Of some vectors of channels, or of so many channels only.
LC_HALF_INLINE void largest(const struct lc_half_pooling *self, const struct lc_window *window,
                            const lc_half *row, lc_half *y, int vectors, int32_t some) {
    lc_halves results[VECTORS];
    for (int i = 0; i < vectors; i++) {
        results[i] = lc_half_splat(-INFINITY);
    }
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const lc_half *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            for (int i = 0; i < vectors; i++) {
                results[i] = lc_half_larger_number(load(x + i * LC_LANES, some), results[i]);
            }
        }
    }
    for (int i = 0; i < vectors; i++) {
        store(self, y + i * LC_LANES, results[i], some);
    }
}

LC_HALF_INLINE void average(const struct lc_half_pooling *self, const struct lc_window *window,
                            const lc_half *row, lc_half *y, int vectors, int32_t some) {
    lc_vector sums[VECTORS];
    for (int i = 0; i < vectors; i++) {
        sums[i] = lc_splat(0.0f);
    }
    LC_ROLLED
    for (int32_t h = 0; h < window->rows; h++, row += window->row_step) {
        const lc_half *x = row;
        LC_ROLLED
        for (int32_t w = 0; w < window->columns; w++, x += window->column_step) {
            for (int i = 0; i < vectors; i++) {
                sums[i] += lc_widened(load(x + i * LC_LANES, some));
            }
        }
    }
    const float elements = (float)window->rows * (float)window->columns;
    for (int i = 0; i < vectors; i++) {
        store(self, y + i * LC_LANES, lc_narrowed(sums[i] / elements), some);
    }
}

LC_HALF_INLINE void pool(bool is_max, const struct lc_half_pooling *self,
                         const struct lc_window *window, const lc_half *x, lc_half *y, int vectors,
                         int32_t some) {
    if (is_max) {
        largest(self, window, x, y, vectors, some);
    } else {
        average(self, window, x, y, vectors, some);
    }
}

LC_HALF_INLINE void pool_channels(bool is_max, const struct lc_half_pooling *self,
                                  const struct lc_window *window, lc_half *y, int32_t count) {
    const lc_half *x = window->x;
    LC_ROLLED
    for (; count >= MANY; count -= MANY, x += MANY, y += MANY) {
        pool(is_max, self, window, x, y, VECTORS, 0);
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES, y += LC_LANES) {
        pool(is_max, self, window, x, y, 1, 0);
    }
    if (count > 0) {
        pool(is_max, self, window, x, y, 1, count);
    }
}

LC_HALF_VECTOR void lc_half_pool(const struct lc_half_pooling *self, const struct lc_window *window,
                                 void *y, int32_t count) {
    if (self->is_max) {
        pool_channels(true, self, window, y, count);
    } else {
        pool_channels(false, self, window, y, count);
    }
}

#else

// Nothing is float16 there.
void lc_half_pool(const struct lc_half_pooling *self, const struct lc_window *window, void *y,
                  int32_t count) {
    (void)self;
    (void)window;
    (void)y;
    (void)count;
}

#endif
