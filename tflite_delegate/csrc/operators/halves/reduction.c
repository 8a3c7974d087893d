// SPDX-License-Identifier: Apache-2.0
//
// Elements of y one vector after the other, each from all of x that it is the sum of.

#include "operators/halves/reduction.h"

#include "operation/halves/vector.h"

#if LC_HALVES

enum { VECTORS = 4, CHUNK = VECTORS * LC_LANES }; // of neighbours that are summed at once

struct reduction {
    struct lc_reduced axes;
    int32_t x_steps[LC_MAX_RANK]; // in elements
    int32_t leading; // axes before the last one, and before the last reduced one if that is kept
    int32_t sums;    // positions along those of them that are reduced
    int32_t rows;    // behind each: neighbours along the last reduced axis
    int32_t columns; // elements of y that are neighbours in x
    int32_t chunks;  // of these
    float divisor;
    const lc_half *x;
    lc_half *y;
};

// Where position number `position` is along the leading axes that are reduced, or that are kept.
static size_t offset_of(const struct reduction *self, int32_t position, bool reduced) {
    size_t offset = 0;
    for (int32_t axis = self->leading - 1; axis >= 0; axis--) {
        if (self->axes.reduced[axis] == reduced) {
            const int32_t extent = self->axes.extents[axis];
            offset += (size_t)(position % extent) * (size_t)self->x_steps[axis];
            position /= extent;
        }
    }
    return offset;
}

// Some vectors of columns, or so many columns.
LC_HALF_INLINE void sum_columns(const struct reduction *self, const lc_half *x, lc_half *y,
                                int vectors, int32_t some) {
    lc_vector sums[VECTORS];
    for (int i = 0; i < vectors; i++) {
        sums[i] = lc_splat(0.0f);
    }
    LC_ROLLED
    for (int32_t position = 0; position < self->sums; position++) {
        const lc_half *row = x + offset_of(self, position, true);
        LC_ROLLED
        for (int32_t i = 0; i < self->rows; i++, row += self->columns) {
            for (int j = 0; j < vectors; j++) {
                sums[j] += lc_widened(some ? lc_half_load_some(row, some, 0.0f)
                                           : lc_half_load(row + j * LC_LANES));
            }
        }
    }
    for (int i = 0; i < vectors; i++) {
        const lc_halves result = lc_narrowed(sums[i] / self->divisor);
        if (some) {
            lc_half_store_some(y, result, some);
        } else {
            lc_half_store(y + i * LC_LANES, result);
        }
    }
}

// The last axis is kept.
LC_HALF_VECTOR static bool run_columns(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct reduction *self = argument;
    for (int32_t item = begin; item < end; item++) {
        const int32_t kept = item / self->chunks;
        int32_t column = item % self->chunks * CHUNK;
        const int32_t stop = self->columns - column < CHUNK ? self->columns : column + CHUNK;
        const lc_half *x = self->x + offset_of(self, kept, false);
        lc_half *y = self->y + (size_t)kept * (size_t)self->columns;
        if (stop - column == CHUNK) {
            sum_columns(self, x + column, y + column, VECTORS, 0);
            continue;
        }
        LC_ROLLED
        for (; column + LC_LANES <= stop; column += LC_LANES) {
            sum_columns(self, x + column, y + column, 1, 0);
        }
        if (column < stop) {
            sum_columns(self, x + column, y + column, 1, stop - column);
        }
    }
    return true;
}

// The last axis is reduced.
LC_HALF_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct reduction *self = argument;
    for (int32_t item = begin; item < end; item++) {
        lc_vector sum = lc_splat(0.0f);
        LC_ROLLED
        for (int32_t position = 0; position < self->sums; position++) {
            const lc_half *x =
                self->x + offset_of(self, item, false) + offset_of(self, position, true);
            int32_t count = self->rows;
            LC_ROLLED
            for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES) {
                sum += lc_widened(lc_half_load(x));
            }
            if (count > 0) {
                sum += lc_widened(lc_half_load_some(x, count, 0.0f));
            }
        }
        self->y[item] = (lc_half)(lc_sum(sum) / self->divisor);
    }
    return true;
}

void lc_half_reduce(const struct lc_operation *operation, const struct lc_reduced *axes,
                    float divisor) {
    const int32_t last = axes->rank - 1;
    const bool sums_rows = axes->reduced[last];
    struct reduction self = {
        .axes = *axes,
        .leading = sums_rows || last == 0 ? last : last - 1,
        .sums = 1,
        .rows = sums_rows  ? axes->extents[last]
                : last > 0 ? axes->extents[last - 1]
                           : 1,
        .columns = sums_rows ? 1 : axes->extents[last],
        .divisor = divisor,
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    int32_t elements = 1, kept = 1;
    for (int32_t axis = last; axis >= 0; axis--) {
        self.x_steps[axis] = elements;
        elements *= axes->extents[axis];
    }
    for (int32_t axis = 0; axis < self.leading; axis++) {
        *(axes->reduced[axis] ? &self.sums : &kept) *= axes->extents[axis];
    }
    self.chunks = (self.columns - 1) / CHUNK + 1;
    lc_operation_run(operation, kept * self.chunks, elements, sums_rows ? run_rows : run_columns,
                     &self);
}

#else

// Nothing is float16 there.
void lc_half_reduce(const struct lc_operation *operation, const struct lc_reduced *axes,
                    float divisor) {
    (void)operation;
    (void)axes;
    (void)divisor;
}

#endif
