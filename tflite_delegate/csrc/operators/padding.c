// SPDX-License-Identifier: Apache-2.0
//
// PAD with zeros and PADV2 with another number, before and after every axis. The code of a zero is
// the zero point.

#include <string.h>

#include "host/tensor.h"
#include "operation/operation.h"

// Neighbouring axes are merged where the later one has no padding: what is left of the last axis is
// copied in one piece.
struct padding {
    int32_t rank;
    int32_t in[LC_MAX_RANK], out[LC_MAX_RANK], before[LC_MAX_RANK]; // the last in elements
    size_t element;                                                 // bytes of one
    uint32_t value; // its first bytes, as they are in memory
    const char *x;
    char *y;
};

static const char *padding_infer(const struct lc_operation *operation, struct lc_shape *output) {
    int32_t count;
    const int32_t *paddings = lc_integers(operation, 1, &count);
    *output = lc_input_shape(operation, 0);
    if (count != 2 * output->rank) {
        return "malformed paddings";
    }
    for (int32_t axis = 0; axis < output->rank; axis++) {
        int32_t *size = &output->dims[axis];
        const int32_t *pad = &paddings[2 * axis];
        if (pad[0] < 0 || pad[1] < 0 || __builtin_add_overflow(*size, pad[0], size) ||
            __builtin_add_overflow(*size, pad[1], size)) {
            return "malformed paddings";
        }
    }
    if (operation->inputs->size > 2) {
        struct lc_shape value = lc_input_shape(operation, 2);
        return lc_count(&value, 0, value.rank) == 1 ? NULL : "malformed value";
    }
    return NULL;
}

static void find_axes(struct padding *self, const struct lc_shape *x, const struct lc_shape *y,
                      const int32_t *paddings) {
    for (int32_t axis = 0; axis < x->rank; axis++) {
        bool merged = self->rank > 0 && x->dims[axis] == y->dims[axis];
        int32_t i = merged ? self->rank - 1 : self->rank++;
        self->in[i] = (merged ? self->in[i] : 1) * x->dims[axis];
        self->out[i] = (merged ? self->out[i] : 1) * y->dims[axis];
        self->before[i] = merged ? self->before[i] * x->dims[axis] : paddings[2 * axis];
    }
    if (self->rank == 0) {
        self->in[0] = self->out[0] = 1;
        self->rank = 1;
    }
}

static void fill(const struct padding *self, char *y, size_t count) {
    if (self->element == 1) {
        uint8_t value;
        memcpy(&value, &self->value, sizeof value);
        memset(y, value, count);
        return;
    }
    if (self->element == 2) {
        uint16_t *halves = (uint16_t *)(void *)y;
        for (size_t i = 0; i < count; i++) {
            halves[i] = (uint16_t)self->value; // of little-endian memory
        }
        return;
    }
    uint32_t *words = (uint32_t *)(void *)y;
    for (size_t i = 0; i < count; i++) {
        words[i] = self->value;
    }
}

// The row of x that is in row number `row` of y, or NULL: that one is padding.
static const char *source(const struct padding *self, int32_t row) {
    size_t offset = 0, step = (size_t)self->in[self->rank - 1];
    for (int32_t axis = self->rank - 2; axis >= 0; axis--) {
        int32_t index = row % self->out[axis] - self->before[axis];
        row /= self->out[axis];
        if (index < 0 || index >= self->in[axis]) {
            return NULL;
        }
        offset += (size_t)index * step;
        step *= (size_t)self->in[axis];
    }
    return self->x + offset * self->element;
}

static bool run_rows(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct padding *self = argument;
    const int32_t last = self->rank - 1;
    const size_t out = (size_t)self->out[last];
    for (int32_t row = begin; row < end; row++) {
        const char *x = source(self, row);
        char *y = self->y + (size_t)row * out * self->element;
        size_t before = x ? (size_t)self->before[last] : out, in = x ? (size_t)self->in[last] : 0;
        fill(self, y, before);
        y += before * self->element;
        if (in > 0) {
            memcpy(y, x, in * self->element);
        }
        fill(self, y + in * self->element, out - before - in);
    }
    return true;
}

static void padding_compute(const struct lc_operation *operation) {
    struct lc_shape x = lc_input_shape(operation, 0), y = lc_output_shape(operation, 0);
    struct padding self = {
        .element = (size_t)operation->element_bytes,
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    struct lc_quantization codes;
    if (operation->inputs->size > 2) {
        memcpy(&self.value, lc_input_data(operation, 2), self.element);
    } else if (lc_read_quantization(lc_input(operation, 0), &codes)) {
        const uint8_t zero = (uint8_t)codes.zero_points[0];
        memcpy(&self.value, &zero, sizeof zero);
    }
    int32_t count, elements = lc_count(&y, 0, y.rank);
    find_axes(&self, &x, &y, lc_integers(operation, 1, &count));
    lc_operation_run(operation, elements / self.out[self.rank - 1], elements, run_rows, &self);
}

LC_DEFINE_OPERATOR(PAD, 2, 2, .integers = 1u << 1, .infer = padding_infer,
                   .compute = padding_compute, LC_IN_HALVES(padding_compute),
                   .coded = LC_KEEPS_SCALE(padding_compute));

LC_DEFINE_OPERATOR(PADV2, 3, 3, .integers = 1u << 1, .infer = padding_infer,
                   .compute = padding_compute, LC_IN_HALVES(padding_compute),
                   .coded = LC_KEEPS_SCALE(padding_compute));
