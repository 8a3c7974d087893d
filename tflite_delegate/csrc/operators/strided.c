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
    SHORT = 512, // bytes of a row that is copied without a call
};

struct copy {
    struct lc_strided from;
    int32_t near; // the axis whose elements are neighbours in memory, -1 if no other than the last
    int32_t blocks; // of that axis
    char *y;
};

struct lc_strided lc_strided_all(const struct lc_operation *operation, const void *x,
                                 const struct lc_shape *shape) {
    struct lc_strided all = {.x = x, .element = operation->element_bytes, .shape = *shape};
    ptrdiff_t bytes = all.element;
    for (int32_t axis = shape->rank - 1; axis >= 0; axis--) {
        all.steps[axis] = bytes;
        bytes *= shape->dims[axis];
    }
    return all;
}

// At least one axis is left.
static struct lc_strided merge_axes(const struct lc_strided *from) {
    struct lc_strided merged = {.x = from->x, .element = from->element};
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
        merged.steps[0] = from->element;
        shape->dims[shape->rank++] = 1;
    }
    return merged;
}

// Where row number `row` begins: positions along the axes before the last but for `skipped`.
// Adds to `written` the byte where it goes.
static ptrdiff_t offset_of(const struct lc_strided *from, int32_t row, int32_t skipped,
                           size_t *written) {
    ptrdiff_t offset = 0;
    size_t bytes = (size_t)from->shape.dims[from->shape.rank - 1] * (size_t)from->element;
    for (int32_t axis = from->shape.rank - 2; axis >= 0; axis--) {
        int32_t extent = from->shape.dims[axis];
        if (axis != skipped) {
            offset += row % extent * from->steps[axis];
            *written += (size_t)(row % extent) * bytes;
            row /= extent;
        }
        bytes *= (size_t)extent;
    }
    return offset;
}

// Short rows without calls, of whole elements.
LC_INLINE void copy_short(int32_t element, const char *x, ptrdiff_t x_step, int32_t rows, char *y,
                          int32_t bytes) {
    for (; rows > 0; rows--, x += x_step, y += bytes) {
        int32_t i = 0;
        LC_ROLLED
        for (; i + (int32_t)sizeof(lc_vector) <= bytes; i += (int32_t)sizeof(lc_vector)) {
            memcpy(y + i, x + i, sizeof(lc_vector));
        }
        for (int32_t size = (int32_t)sizeof(lc_vector) / 2; size >= element; size /= 2) {
            if (bytes & size) {
                memcpy(y + i, x + i, (size_t)size);
                i += size;
            }
        }
    }
}

LC_INLINE void copy_elements(int32_t element, const char *x, ptrdiff_t x_step, int32_t rows,
                             char *y, int32_t count, ptrdiff_t step) {
    for (; rows > 0; rows--, x += x_step) {
        for (int32_t i = 0; i < count; i++, y += element) {
            memcpy(y, x + i * step, (size_t)element);
        }
    }
}

LC_INLINE void copy_rows(int32_t element, const char *x, ptrdiff_t x_step, int32_t rows, char *y,
                         int32_t count, ptrdiff_t step) {
    const int64_t bytes = (int64_t)count * element;
    if (step != element) {
        copy_elements(element, x, x_step, rows, y, count, step);
    } else if (bytes <= SHORT) {
        copy_short(element, x, x_step, rows, y, (int32_t)bytes);
    } else {
        for (; rows > 0; rows--, x += x_step, y += bytes) {
            memcpy(y, x, (size_t)bytes);
        }
    }
}

// Rows [begin, end), by runs along the last axis but one.
LC_INLINE void copy_runs(int32_t element, const struct copy *self, int32_t begin, int32_t end) {
    const struct lc_strided *from = &self->from;
    const int32_t last = from->shape.rank - 1, count = from->shape.dims[last];
    const int32_t extent = last > 0 ? from->shape.dims[last - 1] : 1;
    while (begin < end) {
        const int32_t left = extent - begin % extent, most = end - begin;
        const int32_t run = left < most ? left : most;
        size_t written = 0;
        const char *x = from->x + offset_of(from, begin, -1, &written);
        copy_rows(element, x, last > 0 ? from->steps[last - 1] : 0, run, self->y + written, count,
                  from->steps[last]);
        begin += run;
    }
}

LC_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct copy *self = argument;
    if (self->from.element == 1) {
        copy_runs(1, self, begin, end);
    } else {
        copy_runs(sizeof(float), self, begin, end);
    }
    return true;
}

// y[i][j] = x[j][i], where i are neighbours in x and j in y. Steps are in bytes.
LC_INLINE void transpose(int32_t element, const char *x, ptrdiff_t x_step, int32_t rows, char *y,
                         size_t y_step, int32_t columns) {
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t j = 0; j < columns; j++) {
            memcpy(y + (size_t)i * y_step + (size_t)(j * element), x + j * x_step + i * element,
                   (size_t)element);
        }
    }
}

// Blocks of the near axis.
LC_INLINE void copy_squares(int32_t element, const struct copy *self, int32_t begin, int32_t end) {
    const struct lc_strided *from = &self->from;
    const int32_t last = from->shape.rank - 1, near = self->near;
    const ptrdiff_t step = from->steps[last];
    size_t y_step = (size_t)element;
    for (int32_t axis = last; axis > near; axis--) {
        y_step *= (size_t)from->shape.dims[axis];
    }
    for (int32_t item = begin; item < end; item++) {
        size_t written = 0;
        const char *x = from->x + offset_of(from, item / self->blocks, near, &written);
        const int32_t first = item % self->blocks * SQUARE;
        const int32_t left = from->shape.dims[near] - first, rows = left < SQUARE ? left : SQUARE;
        char *y = self->y + written + (size_t)first * y_step;
        x += first * element;
        int32_t columns = from->shape.dims[last];
        for (; rows == SQUARE && columns >= SQUARE; columns -= SQUARE) {
            transpose(element, x, step, SQUARE, y, y_step, SQUARE);
            x += SQUARE * step;
            y += SQUARE * element;
        }
        transpose(element, x, step, rows, y, y_step, columns);
    }
}

LC_VECTOR static bool run_squares(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct copy *self = argument;
    if (self->from.element == 1) {
        copy_squares(1, self, begin, end);
    } else {
        copy_squares(sizeof(float), self, begin, end);
    }
    return true;
}

void lc_strided_copy(const struct lc_operation *operation, const struct lc_strided *from, void *y) {
    int32_t elements = lc_count(&from->shape, 0, from->shape.rank);
    if (elements == 0) {
        return;
    }
    struct copy self = {.from = merge_axes(from), .near = -1, .y = y};
    const struct lc_shape *shape = &self.from.shape;
    for (int32_t axis = 0; axis < shape->rank - 1; axis++) {
        self.near = self.from.steps[axis] == from->element ? axis : self.near;
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
