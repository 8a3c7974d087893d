// SPDX-License-Identifier: Apache-2.0

#include "operators/halves/resizing.h"

#include "operation/halves/vector.h"

#if LC_HALVES

LC_HALF_INLINE lc_vector load(const void *pixel, size_t c, int32_t some) {
    const lc_half *x = (const lc_half *)pixel + c;
    return lc_widened(some ? lc_half_load_some(x, some, 0.0f) : lc_half_load(x));
}

// One vector of channels, or `some` channels if that is not 0.
LC_HALF_INLINE void interpolate(const struct lc_pixels *self, size_t c, lc_half *y, size_t channels,
                                int32_t some) {
    lc_vector columns[2];
    for (int k = 0; k < 2; k++) {
        columns[k] = lc_mix(load(self->corners[0][k], c, some), load(self->corners[1][k], c, some),
                            self->row_share, self->doubles);
    }
    LC_ROLLED
    for (int32_t i = 0; i < self->count; i++, y += channels) {
        const lc_halves pixel =
            lc_narrowed(lc_mix(columns[0], columns[1], self->shares[i], self->doubles));
        if (some) {
            lc_half_store_some(y + c, pixel, some);
        } else {
            lc_half_store(y + c, pixel);
        }
    }
}

LC_HALF_VECTOR void lc_half_interpolate(const struct lc_pixels *pixels, void *y, size_t channels) {
    size_t c = 0;
    LC_ROLLED
    for (; c + LC_LANES <= channels; c += LC_LANES) {
        interpolate(pixels, c, y, channels, 0);
    }
    if (c < channels) {
        interpolate(pixels, c, y, channels, (int32_t)(channels - c));
    }
}

#else

// Nothing is float16 there.
void lc_half_interpolate(const struct lc_pixels *pixels, void *y, size_t channels) {
    (void)pixels;
    (void)y;
    (void)channels;
}

#endif
