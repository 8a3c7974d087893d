// SPDX-License-Identifier: Apache-2.0

#include "operation/broadcast.h"

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
