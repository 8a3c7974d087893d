// SPDX-License-Identifier: Apache-2.0

#include "operators/halves/softmax.h"

#include <math.h>

#include "operation/halves/vector.h"

#if LC_HALVES

LC_HALF_INLINE float largest(const lc_half *x, int32_t count) {
    lc_halves most = lc_half_splat(-INFINITY);
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES) {
        most = lc_half_larger(most, lc_half_load(x));
    }
    most = lc_half_larger(most, lc_half_load_some(x, count, -INFINITY));
    return lc_largest(lc_widened(most));
}

// e^(beta (x - most)); in lanes that are no elements, anything.
LC_HALF_INLINE lc_vector power(lc_halves x, float most, float beta) {
    return lc_exp(beta * (lc_widened(x) - most));
}

LC_HALF_INLINE float sum_powers(const lc_half *x, float most, float beta, int32_t count) {
    lc_vector sum = lc_splat(0.0f);
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES) {
        sum += power(lc_half_load(x), most, beta);
    }
    const lc_vector last = power(lc_half_load_some(x, count, most), most, beta);
    return lc_sum(sum + lc_select(lc_first(count), last, lc_splat(0.0f)));
}

// Powers are computed twice: stored in between, they would be rounded twice.
LC_HALF_VECTOR void lc_half_softmax(const void *x, float beta, void *y, int32_t count) {
    const lc_half *from = x;
    lc_half *to = y;
    const float most = largest(from, count);
    const float factor = 1.0f / sum_powers(from, most, beta, count);
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, from += LC_LANES, to += LC_LANES) {
        lc_half_store(to, lc_narrowed(power(lc_half_load(from), most, beta) * factor));
    }
    if (count > 0) {
        const lc_halves last = lc_half_load_some(from, count, most);
        lc_half_store_some(to, lc_narrowed(power(last, most, beta) * factor), count);
    }
}

#else

// Nothing is float16 there.
void lc_half_softmax(const void *x, float beta, void *y, int32_t count) {
    (void)x;
    (void)beta;
    (void)y;
    (void)count;
}

#endif
