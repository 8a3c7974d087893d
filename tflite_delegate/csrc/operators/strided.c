// SPDX-License-Identifier: Apache-2.0
//
// Neighbouring axes that are gone through at one distance are merged. Where elements of an axis are
// neighbours in memory but not in the output, tiles of that axis and the last one are transposed:
// of every cache line that is read, all is used at once.

#include "operators/strided.h"

#include <string.h>

#include "operation/transpose.h"

enum {
    TILE = 16,      // elements in memory, a cache line, that are transposed at once
    AT_ONCE = 2048, // elements that are one item of work then
    SHORT = 512,    // bytes of a row that is copied without a call
};

struct lc_strided lc_strided_all(const struct lc_operation *operation,
                                 const struct lc_shape *shape) {
    struct lc_strided all = {.element = operation->element_bytes, .shape = *shape};
    ptrdiff_t bytes = all.element;
    for (int32_t axis = shape->rank - 1; axis >= 0; axis--) {
        all.steps[axis] = bytes;
        bytes *= shape->dims[axis];
    }
    return all;
}

// At least one axis is left.
static struct lc_strided merge_axes(const struct lc_strided *from) {
    struct lc_strided merged = {.first = from->first, .element = from->element};
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
LC_INLINE void copy_runs(int32_t element, const struct lc_strided_plan *self, int32_t begin,
                         int32_t end) {
    const struct lc_strided *from = &self->from;
    const int32_t last = from->shape.rank - 1, count = from->shape.dims[last];
    const int32_t extent = last > 0 ? from->shape.dims[last - 1] : 1;
    while (begin < end) {
        const int32_t left = extent - begin % extent, most = end - begin;
        const int32_t run = left < most ? left : most;
        size_t written = 0;
        const char *x = self->x + offset_of(from, begin, -1, &written);
        copy_rows(element, x, last > 0 ? from->steps[last - 1] : 0, run, self->y + written, count,
                  from->steps[last]);
        begin += run;
    }
}

LC_VECTOR static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct lc_strided_plan *self = argument;
    if (self->from.element == 1) {
        copy_runs(1, self, begin, end);
    } else if (self->from.element == 2) {
        copy_runs(2, self, begin, end);
    } else {
        copy_runs(sizeof(float), self, begin, end);
    }
    return true;
}

// Of floats: y[i][j] = x[j][i], where i are neighbours in x and j in y: up to eight columns.
LC_INLINE void transpose_columns(const float *x, ptrdiff_t x_step, int32_t rows, float *y,
                                 size_t y_step, int32_t columns) {
    int32_t i = 0;
    for (; i + LC_FOUR <= rows; i += LC_FOUR) {
        lc_transpose(x + i, x_step, LC_FOUR, y + (size_t)i * y_step, y_step, columns);
    }
    if (i < rows) {
        lc_transpose(x + i, x_step, rows - i, y + (size_t)i * y_step, y_step, columns);
    }
}

// The same apart, for edges: inlined at every place, they would be most of this file's code.
LC_VECTOR __attribute__((noinline)) static void transpose_edge(const float *x, ptrdiff_t x_step,
                                                               int32_t rows, float *y,
                                                               size_t y_step, int32_t columns) {
    transpose_columns(x, x_step, rows, y, y_step, columns);
}

LC_INLINE void transpose_rows(const float *x, ptrdiff_t x_step, int32_t rows, float *y,
                              size_t y_step, int32_t columns) {
    LC_ROLLED
    for (; columns >= LC_EIGHT; columns -= LC_EIGHT, x += LC_EIGHT * x_step, y += LC_EIGHT) {
        transpose_columns(x, x_step, rows, y, y_step, LC_EIGHT);
    }
    if (columns > 0) {
        transpose_edge(x, x_step, rows, y, y_step, columns);
    }
}

// The same of any number of columns, and of up to TILE rows.
LC_INLINE void transpose_floats(const float *x, ptrdiff_t x_step, int32_t rows, float *y,
                                size_t y_step, int32_t columns) {
    if (rows == TILE) {
        transpose_rows(x, x_step, TILE, y, y_step, columns);
        return;
    }
    if (rows == 3) { // of colours
        transpose_rows(x, x_step, 3, y, y_step, columns);
        return;
    }
    for (; columns > 0; columns -= LC_EIGHT, x += LC_EIGHT * x_step, y += LC_EIGHT) {
        transpose_edge(x, x_step, rows, y, y_step, columns < LC_EIGHT ? columns : LC_EIGHT);
    }
}

// Rows 0 to 7 of y from 8 columns, each a word: squares of 1, 2 and 4 bytes change places.
LC_INLINE void transpose_words(const char *x, ptrdiff_t x_step, char *y, size_t y_step) {
    static const uint64_t masks[] = {0x00ff00ff00ff00ff, 0x0000ffff0000ffff, 0x00000000ffffffff};
    uint64_t words[LC_EIGHT];
    for (int32_t j = 0; j < LC_EIGHT; j++) {
        memcpy(&words[j], x + j * x_step, sizeof words[j]);
    }
    for (int step = 0; step < 3; step++) {
        const int32_t size = 1 << step;
        for (int32_t j = 0; j < LC_EIGHT; j++) {
            if (j & size) {
                continue;
            }
            uint64_t changed = ((words[j] >> (8 * size)) ^ words[j + size]) & masks[step];
            words[j] ^= changed << (8 * size);
            words[j + size] ^= changed;
        }
    }
    for (size_t i = 0; i < LC_EIGHT; i++) {
        memcpy(y + i * y_step, &words[i], sizeof words[i]);
    }
}

LC_VECTOR static void transpose_bytes(const char *x, ptrdiff_t x_step, int32_t rows, char *y,
                                      size_t y_step, int32_t columns) {
    int32_t whole = 0; // columns
    for (; rows == TILE && whole + LC_EIGHT <= columns; whole += LC_EIGHT) {
        for (int32_t i = 0; i < TILE; i += LC_EIGHT) {
            transpose_words(x + whole * x_step + i, x_step, y + (size_t)i * y_step + whole, y_step);
        }
    }
    for (int32_t first = whole; first < columns; first += TILE) {
        const int32_t left = columns - first, stop = first + (left < TILE ? left : TILE);
        for (int32_t i = 0; i < rows; i++) {
            for (int32_t j = first; j < stop; j++) {
                y[(size_t)i * y_step + (size_t)j] = x[j * x_step + i];
            }
        }
    }
}

// Blocks of the near axis.
LC_INLINE void copy_blocks(int32_t element, const struct lc_strided_plan *self, int32_t begin,
                           int32_t end) {
    const struct lc_strided *from = &self->from;
    const int32_t last = from->shape.rank - 1, near = self->near;
    const int32_t columns = from->shape.dims[last], extent = from->shape.dims[near];
    const ptrdiff_t x_step = from->steps[last] / element;
    size_t y_step = 1;
    for (int32_t axis = last; axis > near; axis--) {
        y_step *= (size_t)from->shape.dims[axis];
    }
    for (int32_t item = begin; item < end; item++) {
        size_t written = 0;
        const char *x = self->x + offset_of(from, item / self->blocks, near, &written);
        char *y = self->y + written;
        const int32_t start = item % self->blocks * self->block, left = extent - start;
        const int32_t stop = start + (left < self->block ? left : self->block);
        for (int32_t i = start; i < stop; i += TILE) {
            const int32_t rows = stop - i < TILE ? stop - i : TILE;
            const char *tile = x + (ptrdiff_t)i * element;
            char *result = y + (size_t)i * y_step * (size_t)element;
            if (element == 1) {
                transpose_bytes(tile, x_step, rows, result, y_step, columns);
            } else {
                transpose_floats((const float *)(const void *)tile, x_step, rows,
                                 (float *)(void *)result, y_step, columns);
            }
        }
    }
}

LC_VECTOR static bool run_blocks(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct lc_strided_plan *self = argument;
    if (self->from.element == 1) {
        copy_blocks(1, self, begin, end);
    } else {
        copy_blocks(sizeof(float), self, begin, end);
    }
    return true;
}

void lc_strided_plan(const struct lc_strided *from, struct lc_strided_plan *plan) {
    *plan = (struct lc_strided_plan){.from = merge_axes(from), .near = -1};
    const struct lc_shape *shape = &plan->from.shape;
    plan->elements = lc_count(shape, 0, shape->rank);
    if (plan->elements == 0) {
        return;
    }
    if (shape->rank == 1 && plan->from.steps[0] == from->element) {
        plan->run = (size_t)plan->elements * (size_t)from->element;
    }
    // Float16 is copied one by one: there are no tiles of it.
    for (int32_t axis = 0; axis < shape->rank - 1 && from->element != 2; axis++) {
        plan->near = plan->from.steps[axis] == from->element ? axis : plan->near;
    }
    plan->items = plan->elements / shape->dims[shape->rank - 1];
    if (plan->near < 0) {
        return;
    }
    const int32_t tiles = AT_ONCE / TILE / shape->dims[shape->rank - 1];
    const int32_t extent = shape->dims[plan->near];
    plan->block = TILE * (tiles > 1 ? tiles : 1);
    plan->blocks = extent / plan->block + (extent % plan->block != 0);
    plan->items = plan->items / extent * plan->blocks;
}

void lc_strided_copy(const struct lc_operation *operation, struct lc_strided_plan *plan,
                     const char *x, char *y) {
    x += plan->from.first;
    if (plan->run) {
        memcpy(y, x, plan->run);
        return;
    }
    plan->x = x;
    plan->y = y;
    lc_operation_run(operation, plan->items, plan->elements, plan->near < 0 ? run_rows : run_blocks,
                     plan);
}

void lc_strided_compute(const struct lc_operation *operation) {
    lc_strided_copy(operation, operation->plan, lc_input_data(operation, 0),
                    lc_output_data(operation, 0));
}
