// SPDX-License-Identifier: Apache-2.0

#include "operation/broadcast.h"

enum { CHUNK = 4096 }; // elements that are one item of work where the output is a single row

// The size of a shape's axis once it has `rank` axes: new ones in front are of one element.
static int32_t aligned(const struct lc_shape *shape, int32_t rank, int32_t axis) {
    int32_t own = axis - (rank - shape->rank);
    return own < 0 ? 1 : shape->dims[own];
}

const char *lc_broadcast_shape(const struct lc_shape *a, const struct lc_shape *b,
                               struct lc_shape *output) {
    *output = (struct lc_shape){.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int32_t axis = 0; axis < output->rank; axis++) {
        int32_t a_size = aligned(a, output->rank, axis), b_size = aligned(b, output->rank, axis);
        if (a_size != b_size && a_size != 1 && b_size != 1) {
            return "the shapes of the operands do not match";
        }
        output->dims[axis] = a_size == 1 ? b_size : a_size;
    }
    return NULL;
}

struct lc_broadcast lc_broadcast_rows(const struct lc_shape *a, const struct lc_shape *b) {
    struct lc_broadcast rows = {0};
    int32_t rank = a->rank > b->rank ? a->rank : b->rank;
    for (int32_t axis = 0; axis < rank; axis++) {
        int32_t sizes[2] = {aligned(a, rank, axis), aligned(b, rank, axis)};
        int32_t extent = sizes[0] == 1 ? sizes[1] : sizes[0], last = rows.rank - 1;
        if (extent == 1) {
            continue;
        }
        if (rows.rank > 0 && rows.steps[0][last] == (sizes[0] > 1) &&
            rows.steps[1][last] == (sizes[1] > 1)) {
            rows.extents[last] *= extent;
            continue;
        }
        rows.extents[rows.rank] = extent;
        rows.steps[0][rows.rank] = sizes[0] > 1; // for now, whether it moves at all
        rows.steps[1][rows.rank] = sizes[1] > 1;
        rows.rank++;
    }
    if (rows.rank == 0) {
        rows.extents[rows.rank++] = 1;
    }
    int32_t elements[2] = {1, 1};
    for (int32_t axis = rows.rank - 1; axis >= 0; axis--) {
        for (int i = 0; i < 2; i++) {
            int32_t moves = rows.steps[i][axis];
            rows.steps[i][axis] = moves * elements[i];
            elements[i] *= moves ? rows.extents[axis] : 1;
        }
    }
    return rows;
}

static const void *operand_at(const struct lc_stretched *self, int operand, size_t element) {
    return (const char *)self->operands[operand] + element * self->bytes;
}

// Chunks [begin, end) of the only row.
static bool run_chunks(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct lc_stretched *self = argument;
    size_t first = (size_t)begin * CHUNK;
    int64_t left = self->shape.extents[0] - (int64_t)first, count = ((int64_t)end - begin) * CHUNK;
    self->compute_rows(self, operand_at(self, 0, first * (size_t)self->shape.steps[0][0]),
                       operand_at(self, 1, first * (size_t)self->shape.steps[1][0]),
                       (char *)self->output + first * self->bytes,
                       (int32_t)(count < left ? count : left), 1);
    return true;
}

// Rows [begin, end) of several, by runs along the last axis but one.
static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct lc_stretched *self = argument;
    const struct lc_broadcast *shape = &self->shape;
    const int32_t last = shape->rank - 1, count = shape->extents[last];
    while (begin < end) {
        int32_t run = shape->extents[last - 1] - begin % shape->extents[last - 1];
        run = run < end - begin ? run : end - begin;
        size_t a = 0, b = 0;
        for (int32_t axis = last - 1, rest = begin; axis >= 0; axis--) {
            size_t index = (size_t)(rest % shape->extents[axis]);
            rest /= shape->extents[axis];
            a += index * (size_t)shape->steps[0][axis];
            b += index * (size_t)shape->steps[1][axis];
        }
        self->compute_rows(self, operand_at(self, 0, a), operand_at(self, 1, b),
                           (char *)self->output + (size_t)begin * (size_t)count * self->bytes,
                           count, run);
        begin += run;
    }
    return true;
}

void lc_broadcast_run(const struct lc_operation *operation, struct lc_stretched *stretched) {
    const struct lc_broadcast *shape = &stretched->shape;
    int32_t elements = 1;
    for (int32_t axis = 0; axis < shape->rank; axis++) {
        elements *= shape->extents[axis];
    }
    if (shape->rank > 1) {
        int32_t count = elements / shape->extents[shape->rank - 1];
        lc_operation_run(operation, count, elements, run_rows, stretched);
    } else {
        int32_t count = elements / CHUNK + (elements % CHUNK != 0);
        lc_operation_run(operation, count, elements, run_chunks, stretched);
    }
}
