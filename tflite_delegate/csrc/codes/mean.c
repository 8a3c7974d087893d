// SPDX-License-Identifier: Apache-2.0
//
// MEAN of codes over neighbouring axes: of all positions before these, and all behind.

#include <math.h>

#include "codes/coded.h"
#include "codes/codes.h"
#include "codes/lanes.h"
#include "kernels/quantised/fixed_point.h"
#include "operation/vector.h"

enum {
    VECTORS = 2, // of neighbours that are added at once
    CHUNK = VECTORS * LC_LANES32,
    FAR = 1 << 28, // beyond all codes
    VECTOR = 16,   // channels that TFLite's own kernel computes at once
};

struct mean {
    struct lc_codes x, y;
    int32_t before, count, behind; // positions; `count` are averaged
    int32_t chunks;                // of those behind
    bool as_xnnpack;
    bool is_image;           // TFLite has a kernel for it
    float scale, zero;       // XNNPACK's
    struct lc_multiplier by; // TFLite's
    int32_t bias;
    const uint8_t *from;
    uint8_t *to;
};

// Axes

// Positions before, within and behind the averaged axes. False if others are between these.
static bool find_axes(const struct lc_operation *operation, struct mean *self) {
    const struct lc_shape x = lc_input_shape(operation, 0);
    int32_t count;
    const int32_t *axes = lc_integers(operation, 1, &count);
    bool averaged[LC_MAX_RANK] = {false};
    for (int32_t i = 0; i < count; i++) {
        int32_t axis = axes[i];
        averaged[axis + (axis < 0 ? x.rank : 0)] = true;
    }
    self->before = self->count = self->behind = 1;
    int32_t *part = &self->before;
    for (int32_t axis = 0; axis < x.rank; axis++) {
        if (averaged[axis] && part == &self->behind) {
            return false;
        }
        part = averaged[axis] ? &self->count : part == &self->before ? part : &self->behind;
        *part *= x.dims[axis];
    }
    return true;
}

static const char *mean_refuses(const struct lc_operation *operation) {
    const struct lc_shape x = lc_input_shape(operation, 0);
    int32_t count;
    const int32_t *axes = lc_integers(operation, 1, &count);
    for (int32_t i = 0; i < count; i++) {
        int32_t axis = axes[i];
        if (!lc_find_axis(x.rank, &axis)) {
            return "there is no such axis";
        }
    }
    struct mean self;
    return find_axes(operation, &self) ? NULL : "the axes are no neighbours";
}

// TFLite's kernel for the mean of images.
static bool is_image(const struct lc_operation *operation) {
    const struct tfl_reducer_params *params = operation->params;
    int32_t count;
    const int32_t *axes = lc_integers(operation, 1, &count);
    return params->keep_dims && lc_input_shape(operation, 0).rank == 4 && count == 2 &&
           ((axes[0] == 1 && axes[1] == 2) || (axes[0] == 2 && axes[1] == 1));
}

// Numbers

static float near(float code) {
    return code<-(float)FAR ? -(float)FAR : code>(float) FAR ? (float)FAR : code;
}

static void find_numbers(const struct lc_operation *operation, struct mean *self) {
    const struct lc_codes *x = &self->x, *y = &self->y;
    const float count = (float)self->count;
    self->as_xnnpack = lc_follows_xnnpack();
    self->scale = x->scale / y->scale * (1.0f / count);
    self->zero = (float)((int64_t)self->count * x->zero);
    self->is_image = !lc_follows_reference() && is_image(operation);
    if (self->is_image) {
        float zero = (float)x->zero * x->scale;
        zero = zero / y->scale;
        zero = near(zero);
        self->bias = y->zero - (int32_t)(zero + (zero > 0.0f ? 0.5f : -0.5f));
        self->by = lc_multiplier_of((double)(x->scale / (count * y->scale)));
        return;
    }
    self->by = lc_multiplier_of((double)x->scale / (double)y->scale);
    int32_t shift = 31 - __builtin_clz((uint32_t)self->count);
    shift = shift < 31 + self->by.shift ? shift : 31 + self->by.shift;
    self->by.mantissa = (int32_t)(((int64_t)self->by.mantissa << shift) / self->count);
    self->by.shift -= shift;
}

static int64_t code_of(const struct mean *self, int32_t sum, bool in_vector) {
    if (self->as_xnnpack) {
#if defined(__aarch64__)
        const float zero = fmaf(-self->zero, self->scale, (float)self->y.zero);
        return lrintf(near(fmaf((float)sum, self->scale, zero)));
#else
        float product = (float)sum * self->scale, zero = self->zero * self->scale;
        LC_APART(product);
        LC_APART(zero);
        return lrintf(near(product + ((float)self->y.zero - zero)));
#endif
    }
    if (self->is_image) {
        return (in_vector ? lc_scale_up(sum, self->by) : lc_scale_away(sum, self->by)) + self->bias;
    }
    const int64_t centered = sum - (int64_t)self->x.zero * self->count;
    return lc_scale_away((int32_t)centered, self->by) + self->y.zero;
}

// Sums

// Of rows of CHUNK neighbours, element by element.
LC_INLINE void add_rows(bool is_signed, const struct mean *self, const uint8_t *x, int32_t *sums) {
    lc_sums32 parts[VECTORS] = {{0}};
    lc_integers16 totals[VECTORS][2] = {{{0}}};
    for (int32_t left = self->count; left > 0;) {
        const int32_t some = left < LC_MOST_SUMMED ? left : LC_MOST_SUMMED;
        LC_ROLLED
        for (int32_t i = 0; i < some; i++, x += self->behind) {
            for (int v = 0; v < VECTORS; v++) {
                parts[v] += lc_load32(is_signed, x + v * LC_LANES32);
            }
        }
        for (int v = 0; v < VECTORS; v++) {
            lc_flush32(&parts[v], totals[v]);
        }
        left -= some;
    }
    memcpy(sums, totals, sizeof totals);
}

// Of rows of fewer.
LC_INLINE void add_short_rows(bool is_signed, const struct mean *self, const uint8_t *x,
                              int32_t *sums, int32_t count) {
    for (int32_t first = 0; first < count; first += LC_LANES16) {
        lc_integers16 total = {0};
        const uint8_t *row = x + first;
        LC_ROLLED
        for (int32_t i = 0; i < self->count; i++, row += self->behind) {
            total += lc_load16(is_signed, row, count - first);
        }
        memcpy(sums + first, &total, sizeof total);
    }
}

// Of neighbours.
LC_INLINE int32_t add_row(bool is_signed, const uint8_t *x, int32_t count) {
    lc_integers16 parts = {0};
    LC_ROLLED
    for (; count > 0; count -= LC_LANES16, x += LC_LANES16) {
        parts += lc_load16(is_signed, x, count);
    }
    uint32_t sum = 0;
    for (int i = 0; i < LC_LANES16; i++) {
        sum += (uint32_t)parts[i];
    }
    return (int32_t)sum;
}

LC_INLINE void average(bool is_signed, const struct mean *self, int32_t begin, int32_t end) {
    const int32_t whole = self->behind - self->behind % VECTOR;
    for (int32_t item = begin; item < end; item++) {
        const int32_t first = item % self->chunks * CHUNK, left = self->behind - first;
        const int32_t some = left < CHUNK ? left : CHUNK;
        const size_t image = (size_t)(item / self->chunks);
        const uint8_t *x =
            self->from + image * (size_t)self->count * (size_t)self->behind + (size_t)first;
        uint8_t *y = self->to + image * (size_t)self->behind + (size_t)first;
        int32_t sums[CHUNK];
        if (self->behind == 1) {
            sums[0] = add_row(is_signed, x, self->count);
        } else if (some == CHUNK) {
            add_rows(is_signed, self, x, sums);
        } else {
            add_short_rows(is_signed, self, x, sums, some);
        }
        for (int32_t i = 0; i < some; i++) {
            y[i] = (uint8_t)lc_clamp_code(code_of(self, sums[i], first + i < whole), self->y.least,
                                          self->y.most);
        }
    }
}

LC_VECTOR static bool run_chunks(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct mean *self = argument;
    if (self->x.is_signed) {
        average(true, self, begin, end);
    } else {
        average(false, self, begin, end);
    }
    return true;
}

static void mean_compute(const struct lc_operation *operation) {
    struct mean self = {
        .x = lc_input_codes(operation, 0),
        .y = lc_output_codes(operation),
        .from = lc_input_data(operation, 0),
        .to = lc_output_data(operation, 0),
    };
    find_axes(operation, &self);
    if (self.count == 0) { // nothing stands for no number
        memset(self.to, self.y.zero, (size_t)(self.before * self.behind));
        return;
    }
    find_numbers(operation, &self);
    self.chunks = (self.behind - 1) / CHUNK + 1;
    lc_operation_run(operation, self.before * self.chunks,
                     (int64_t)self.before * self.count * self.behind, run_chunks, &self);
}

const struct lc_coded lc_coded_MEAN = {.refuses = mean_refuses, .compute = mean_compute};
