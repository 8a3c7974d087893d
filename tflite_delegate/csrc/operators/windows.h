// SPDX-License-Identifier: Apache-2.0
//
// Windows of floats: elements of a pixel by vectors of channels, and rows of windows that overlap.

#pragma once

#include <math.h>

#include "codes/pooling.h"
#include "operation/vector.h"

// Vectors of channels at once, of a row of windows.
enum { LC_SLID = 4 };

// Takes a pixel into the results of some vectors of channels or, if `count` is not 0, of so many
// channels only.
LC_INLINE void lc_pool_element(bool is_max, const float *x, lc_vector *results, int vectors,
                               int32_t count) {
    for (int i = 0; i < vectors; i++) {
        lc_vector part = count ? lc_load_some(x, count, 0.0f) : lc_load(x + i * LC_LANES);
        results[i] = is_max ? lc_larger_number(part, results[i]) : results[i] + part;
    }
}

// The largest elements of windows of three by three, two columns apart: each shares a column with
// the next. They lie side by side, and are bounded by `least` and `most`.
LC_INLINE void lc_pool_threes(const struct lc_window *first, float *y, int32_t windows, float least,
                              float most, int vectors, int32_t count) {
    const lc_vector nothing = lc_splat(-INFINITY);
    const bool is_clamped = least > -INFINITY || most < INFINITY;
    const size_t step = first->column_step;
    const float *top = first->x, *middle = top + first->row_step;
    const float *bottom = middle + first->row_step;
    lc_vector shared[LC_SLID], results[LC_SLID];
    for (int i = 0; i < vectors; i++) {
        shared[i] = nothing;
    }
    lc_pool_element(true, top, shared, vectors, count);
    lc_pool_element(true, middle, shared, vectors, count);
    lc_pool_element(true, bottom, shared, vectors, count);
    LC_ROLLED
    for (; windows > 0; windows--, y += step) {
        for (int i = 0; i < vectors; i++) {
            results[i] = shared[i];
            shared[i] = nothing;
        }
        lc_pool_element(true, top + step, results, vectors, count);
        lc_pool_element(true, middle + step, results, vectors, count);
        lc_pool_element(true, bottom + step, results, vectors, count);
        top += 2 * step;
        middle += 2 * step;
        bottom += 2 * step;
        lc_pool_element(true, top, shared, vectors, count);
        lc_pool_element(true, middle, shared, vectors, count);
        lc_pool_element(true, bottom, shared, vectors, count);
        for (int i = 0; i < vectors; i++) {
            results[i] = lc_larger_number(shared[i], results[i]);
            if (is_clamped) {
                results[i] = lc_clamp(results[i], lc_splat(least), lc_splat(most));
            }
            if (count) {
                lc_store_some(y, results[i], count);
            } else {
                lc_store(y + i * LC_LANES, results[i]);
            }
        }
    }
}

// Those of `count` channels.
LC_INLINE void lc_pool_row_of_threes(struct lc_window first, float *y, int32_t windows, float least,
                                     float most, int32_t count) {
    const int32_t slid = LC_SLID * LC_LANES;
    LC_ROLLED
    for (; count >= slid; count -= slid, y += slid) {
        lc_pool_threes(&first, y, windows, least, most, LC_SLID, 0);
        first.x = (const float *)first.x + slid;
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, y += LC_LANES) {
        lc_pool_threes(&first, y, windows, least, most, 1, 0);
        first.x = (const float *)first.x + LC_LANES;
    }
    if (count > 0) {
        lc_pool_threes(&first, y, windows, least, most, 1, count);
    }
}
