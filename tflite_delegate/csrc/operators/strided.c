// SPDX-License-Identifier: Apache-2.0
//
// Neighbouring axes that are gone through at one distance are merged. Where elements of an axis are
// neighbours in memory but not in the output, squares of that axis and the last one are copied: of
// every cache line that is read, all is used at once.

#include "operators/strided.h"

#include <string.h>

#include "operation/vector.h"

enum {
    SQUARE = 8,
    SHORT = 128, // elements of a row that is copied without a call
};

struct copy {
    struct lc_strided from;
    int32_t near; // the axis whose elements are neighbours in memory, -1 if no other than the last
    int32_t blocks; // of that axis
    float *y;
};

struct lc_strided lc_strided_all(const float *x, const struct lc_shape *shape) {
    struct lc_strided all = {.x = x, .shape = *shape};
    ptrdiff_t elements = 1;
    for (int32_t axis = shape->rank - 1; axis >= 0; axis--) {
        all.steps[axis] = elements;
        elements *= shape->dims[axis];
    }
    return all;
}

// At least one axis is left.
static struct lc_strided merge_axes(const struct lc_strided *from) {
    struct lc_strided merged = {.x = from->x};
    struct lc_shape *shape = &merged.shape;
    for (int32_t axis = 0; axis < from->shape.rank; axis++) {
        int32_t extent = from->shape.dims[axis], last = shape->rank - 1;
        if (extent == 1) {
            continue;
        }
        if (last >= 0 && merged.steps[last] == from->steps[axis] * extent) {
            shape->dims[last] *= extent;
            merged.steps[last] = from->steps[axis];
            continue;
        }
        merged.steps[shape->rank] = from->steps[axis];
        shape->dims[shape->rank++] = extent;
    }
    if (shape->rank == 0) {
        merged.steps[0] = 1;
        shape->dims[shape->rank++] = 1;
    }
    return merged;
}

// Where row number `row` begins: positions along the axes before the last but for `skipped`.
// Adds to `written` where it goes.
static ptrdiff_t offset_of(const struct lc_strided *from, int32_t row, int32_t skipped,
                           size_t *written) {
    ptrdiff_t offset = 0;
    size_t elements = (size_t)from->shape.dims[from->shape.rank - 1];
    for (int32_t axis = from->shape.rank - 2; axis >= 0; axis--) {
        int32_t extent = from->shape.dims[axis];
        if (axis != skipped) {
            offset += row % extent * from->steps[axis];
            *written += (size_t)(row % extent) * elements;
            row /= extent;
        }
        elements *= (size_t)extent;
    }
    return offset;
}

// Short rows without calls.
LC_VECTOR static void copy_short(const float *x, ptrdiff_t x_step, int32_t rows, float *y,
                                 int32_t count) {
    for (; rows > 0; rows--, x += x_step, y += count) {
        int32_t i = 0;
        LC_ROLLED
        for (; i + LC_LANES <= count; i += LC_LANES) {
            lc_store(y + i, lc_load(x + i));
        }
        lc_copy_some(y + i, x + i, count - i);
    }
}

static void copy_rows(const float *x, ptrdiff_t x_step, int32_t rows, float *y, int32_t count,
                      ptrdiff_t step) {
    if (step == 1 && count <= SHORT) {
        copy_short(x, x_step, rows, y, count);
        return;
    }
    for (; rows > 0; rows--, x += x_step, y += count) {
        if (step == 1) {
            memcpy(y, x, (size_t)count * sizeof *y);
            continue;
        }
        for (int32_t i = 0; i < count; i++) {
            y[i] = x[i * step];
        }
    }
}

// Rows [begin, end), by runs along the last axis but one.
static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct copy *self = argument;
    const struct lc_strided *from = &self->from;
    const int32_t last = from->shape.rank - 1, count = from->shape.dims[last];
    const int32_t extent = last > 0 ? from->shape.dims[last - 1] : 1;
    while (begin < end) {
        const int32_t left = extent - begin % extent, most = end - begin;
        const int32_t run = left < most ? left : most;
        size_t written = 0;
        const float *x = from->x + offset_of(from, begin, -1, &written);
        copy_rows(x, last > 0 ? from->steps[last - 1] : 0, run, self->y + written, count,
                  from->steps[last]);
        begin += run;
    }
    return true;
}

// y[i][j] = x[j][i], where i are neighbours in x and j in y.
static void transpose(const float *x, ptrdiff_t x_step, int32_t rows, float *y, size_t y_step,
                      int32_t columns) {
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t j = 0; j < columns; j++) {
            y[(size_t)i * y_step + (size_t)j] = x[j * x_step + i];
        }
    }
}

// Blocks of the near axis.
static bool run_squares(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct copy *self = argument;
    const struct lc_strided *from = &self->from;
    const int32_t last = from->shape.rank - 1, near = self->near;
    const ptrdiff_t step = from->steps[last];
    size_t y_step = 1;
    for (int32_t axis = last; axis > near; axis--) {
        y_step *= (size_t)from->shape.dims[axis];
    }
    for (int32_t item = begin; item < end; item++) {
        size_t written = 0;
        const float *x = from->x + offset_of(from, item / self->blocks, near, &written);
        const int32_t first = item % self->blocks * SQUARE;
        const int32_t left = from->shape.dims[near] - first, rows = left < SQUARE ? left : SQUARE;
        float *y = self->y + written + (size_t)first * y_step;
        x += first;
        int32_t columns = from->shape.dims[last];
        for (; rows == SQUARE && columns >= SQUARE; columns -= SQUARE) {
            transpose(x, step, SQUARE, y, y_step, SQUARE);
            x += SQUARE * step;
            y += SQUARE;
        }
        transpose(x, step, rows, y, y_step, columns);
    }
    return true;
}

void lc_strided_copy(const struct lc_operation *operation, const struct lc_strided *from,
                     float *y) {
    int32_t elements = lc_count(&from->shape, 0, from->shape.rank);
    if (elements == 0) {
        return;
    }
    struct copy self = {.from = merge_axes(from), .near = -1, .y = y};
    const struct lc_shape *shape = &self.from.shape;
    for (int32_t axis = 0; axis < shape->rank - 1; axis++) {
        self.near = self.from.steps[axis] == 1 ? axis : self.near;
    }
    int32_t rows = elements / shape->dims[shape->rank - 1];
    if (self.near < 0) {
        lc_operation_run(operation, rows, elements, run_rows, &self);
        return;
    }
    int32_t extent = shape->dims[self.near];
    self.blocks = extent / SQUARE + (extent % SQUARE != 0);
    lc_operation_run(operation, rows / extent * self.blocks, elements, run_squares, &self);
}
