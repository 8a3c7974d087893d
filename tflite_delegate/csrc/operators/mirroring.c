// SPDX-License-Identifier: Apache-2.0
//
// MIRROR_PAD: what is beyond the border is what lies before it, with the border itself (symmetric)
// or without (reflect).

#include <string.h>

#include "operation/operation.h"

// Axes behind the last one that is padded are one: what is copied in one piece.
struct mirroring {
    int32_t rank; // of the axes before that
    int32_t in[LC_MAX_RANK], out[LC_MAX_RANK], before[LC_MAX_RANK];
    size_t piece;    // in bytes
    int32_t skipped; // elements of the border that are not mirrored: 0 or 1
    const char *x;
    char *y;
};

static int32_t skipped_of(const struct lc_operation *operation) {
    return ((const struct tfl_mirror_pad_params *)operation->params)->mode == TFL_MIRROR_REFLECT;
}

static const char *mirror_refuses(const struct lc_operation *operation) {
    int mode = ((const struct tfl_mirror_pad_params *)operation->params)->mode;
    return mode == TFL_MIRROR_REFLECT || mode == TFL_MIRROR_SYMMETRIC ? NULL : "unknown mode";
}

static const char *mirror_infer(const struct lc_operation *operation, struct lc_shape *output) {
    int32_t count;
    const int32_t *paddings = lc_integers(operation, 1, &count);
    *output = lc_input_shape(operation, 0);
    if (count != 2 * output->rank) {
        return "malformed paddings";
    }
    for (int32_t axis = 0; axis < output->rank; axis++) {
        const int32_t *pad = &paddings[2 * axis];
        int32_t most = output->dims[axis] - skipped_of(operation);
        if (pad[0] < 0 || pad[1] < 0 || (pad[0] > 0 && pad[0] > most) ||
            (pad[1] > 0 && pad[1] > most) ||
            __builtin_add_overflow(output->dims[axis], pad[0], &output->dims[axis]) ||
            __builtin_add_overflow(output->dims[axis], pad[1], &output->dims[axis])) {
            return "malformed paddings, or more than the input has";
        }
    }
    return NULL;
}

// The position in the input of one in the output.
static int32_t source(const struct mirroring *self, int32_t axis, int32_t position) {
    int32_t size = self->in[axis], index = position - self->before[axis];
    if (index < 0) {
        return -index - 1 + self->skipped;
    }
    return index < size ? index : 2 * size - 1 - index - self->skipped;
}

// Rows of pieces.
static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct mirroring *self = argument;
    const int32_t last = self->rank - 1;
    for (int32_t row = begin; row < end; row++) {
        size_t offset = 0, step = (size_t)self->in[last] * self->piece;
        for (int32_t axis = last - 1, rest = row; axis >= 0; axis--) {
            offset += (size_t)source(self, axis, rest % self->out[axis]) * step;
            rest /= self->out[axis];
            step *= (size_t)self->in[axis];
        }
        char *y = self->y + (size_t)row * (size_t)self->out[last] * self->piece;
        for (int32_t i = 0; i < self->out[last];) {
            // What is inside of the border is copied at once.
            int32_t count = i == self->before[last] ? self->in[last] : 1;
            memcpy(y, self->x + offset + (size_t)source(self, last, i) * self->piece,
                   (size_t)count * self->piece);
            y += (size_t)count * self->piece;
            i += count;
        }
    }
    return true;
}

static void mirror_compute(const struct lc_operation *operation) {
    struct lc_shape x = lc_input_shape(operation, 0), y = lc_output_shape(operation, 0);
    int32_t count, elements = lc_count(&y, 0, y.rank);
    const int32_t *paddings = lc_integers(operation, 1, &count);
    struct mirroring self = {
        .rank = x.rank,
        .skipped = skipped_of(operation),
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    while (self.rank > 1 && x.dims[self.rank - 1] == y.dims[self.rank - 1]) {
        self.rank--;
    }
    const int32_t piece = lc_count(&x, self.rank, x.rank);
    self.piece = (size_t)piece * (size_t)operation->element_bytes;
    for (int32_t axis = 0; axis < self.rank; axis++) {
        self.in[axis] = x.dims[axis];
        self.out[axis] = y.dims[axis];
        self.before[axis] = paddings[2 * axis];
    }
    if (self.rank == 0) { // a scalar
        self.in[0] = self.out[0] = self.rank = 1;
    }
    int32_t row = self.out[self.rank - 1] * piece;
    lc_operation_run(operation, elements / row, elements, run_rows, &self);
}

LC_DEFINE_OPERATOR(MIRROR_PAD, 2, 2, .integers = 1u << 1,
                   .params_bytes = sizeof(struct tfl_mirror_pad_params), .refuses = mirror_refuses,
                   .infer = mirror_infer, .compute = mirror_compute, LC_IN_HALVES(mirror_compute),
                   .coded = LC_KEEPS_SCALE(mirror_compute));
