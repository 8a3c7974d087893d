// SPDX-License-Identifier: Apache-2.0
//
// MEAN and SUM over any axes.
//
// Neighbouring axes that are both reduced or both kept are one, so that axes alternate. The last
// one is taken as a row: kept, it is added to a row of the output, and reduced, to one element.
// The last reduced axis before a kept one is gone through at once.

#include <string.h>

#include "codes/coded.h"
#include "kernels/halves.h"
#include "operation/operation.h"
#include "operation/vector.h"
#include "operators/halves/reduction.h"

enum {
    CHUNK = 256,      // elements of a row that one item of work adds where the last axis is kept
    PART_SUMS = 2048, // on the stack, of all parts of the first axis but one
    VECTORS = 8,      // that are added at once
    MANY = VECTORS * LC_LANES,
};

struct reduction {
    struct lc_reduced axes;
    int32_t x_steps[LC_MAX_RANK], y_steps[LC_MAX_RANK]; // in elements; 0 where y is reduced
    int32_t leading;   // axes before those that are added at once: the last one or two
    int32_t positions; // along the leading axes
    int32_t chunk;     // elements of the last axis that are one item of work
    int32_t items;
    lc_pool_task run; // computes some of these
    int32_t x_elements, y_elements;
    const float *x; // of the call
    float *y;
};

static const char *find_reduced(const struct lc_operation *operation, int32_t rank,
                                bool reduced[LC_MAX_RANK]) {
    int32_t count;
    const int32_t *axes = lc_integers(operation, 1, &count);
    memset(reduced, 0, LC_MAX_RANK * sizeof *reduced);
    for (int32_t i = 0; i < count; i++) {
        int32_t axis = axes[i];
        if (!lc_find_axis(rank, &axis)) {
            return "there is no such axis";
        }
        reduced[axis] = true;
    }
    return NULL;
}

static const char *reduction_infer(const struct lc_operation *operation, struct lc_shape *output) {
    const struct tfl_reducer_params *params = operation->params;
    struct lc_shape x = lc_input_shape(operation, 0);
    bool reduced[LC_MAX_RANK];
    const char *problem = find_reduced(operation, x.rank, reduced);
    *output = (struct lc_shape){0};
    for (int32_t axis = 0; axis < x.rank; axis++) {
        if (!reduced[axis] || params->keep_dims) {
            output->dims[output->rank++] = reduced[axis] ? 1 : x.dims[axis];
        }
    }
    return problem;
}

// Merges axes and drops those of one element; at least one axis is left.
static void find_extents(struct reduction *self, const struct lc_shape *x, const bool *reduced) {
    for (int32_t axis = 0; axis < x->rank; axis++) {
        if (x->dims[axis] == 1) {
            continue;
        }
        if (self->axes.rank > 0 && self->axes.reduced[self->axes.rank - 1] == reduced[axis]) {
            self->axes.extents[self->axes.rank - 1] *= x->dims[axis];
        } else {
            self->axes.extents[self->axes.rank] = x->dims[axis];
            self->axes.reduced[self->axes.rank++] = reduced[axis];
        }
    }
    if (self->axes.rank == 0) {
        self->axes.extents[self->axes.rank++] = 1;
    }
    int32_t x_elements = 1, y_elements = 1;
    for (int32_t axis = self->axes.rank - 1; axis >= 0; axis--) {
        self->x_steps[axis] = x_elements;
        self->y_steps[axis] = self->axes.reduced[axis] ? 0 : y_elements;
        x_elements *= self->axes.extents[axis];
        y_elements *= self->axes.reduced[axis] ? 1 : self->axes.extents[axis];
    }
}

// Adds rows of some vectors, element by element.
LC_INLINE void add_vectors(const float *x, size_t row_step, int32_t rows, float *y, int vectors) {
    lc_vector sums[VECTORS];
    for (int i = 0; i < vectors; i++) {
        sums[i] = lc_load(y + i * LC_LANES);
    }
    LC_ROLLED
    for (int32_t row = 0; row < rows; row++, x += row_step) {
        for (int i = 0; i < vectors; i++) {
            sums[i] += lc_load(x + i * LC_LANES);
        }
    }
    for (int i = 0; i < vectors; i++) {
        lc_store(y + i * LC_LANES, sums[i]);
    }
}

LC_VECTOR __attribute__((noinline)) static void add_rows(const float *x, size_t row_step,
                                                         int32_t rows, float *y, int32_t count) {
    LC_ROLLED
    for (; count >= MANY; count -= MANY, x += MANY, y += MANY) {
        add_vectors(x, row_step, rows, y, VECTORS);
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES, y += LC_LANES) {
        add_vectors(x, row_step, rows, y, 1);
    }
    LC_ROLLED
    for (; count > 0; count--, x++, y++) {
        LC_ROLLED
        for (int32_t row = 0; row < rows; row++) {
            *y += x[(size_t)row * row_step];
        }
    }
}

// The sum of a row.
LC_INLINE float sum_row(const float *x, int32_t count) {
    lc_vector sums[VECTORS] = {lc_splat(0.0f)};
    LC_ROLLED
    for (; count >= MANY; count -= MANY, x += MANY) {
        for (int i = 0; i < VECTORS; i++) {
            sums[i] += lc_load(x + i * LC_LANES);
        }
    }
    LC_ROLLED
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES) {
        sums[0] += lc_load(x);
    }
    for (int i = 2; i < VECTORS; i += 2) {
        sums[0] += sums[i];
        sums[1] += sums[i + 1];
    }
    return lc_sum(sums[0] + (sums[1] + lc_load_some(x, count, 0.0f)));
}

// Adds, for positions [begin, end) of the leading axes, elements [first, first + count) of the rows
// behind them.
LC_VECTOR __attribute__((noinline)) static void add_positions(const struct reduction *self,
                                                              int32_t begin, int32_t end,
                                                              int32_t first, int32_t count) {
    const int32_t last = self->axes.rank - 1;
    for (int32_t position = begin; position < end; position++) {
        const float *x = self->x + first;
        float *y = self->y + (self->axes.reduced[last] ? 0 : first);
        for (int32_t axis = self->leading - 1, rest = position; axis >= 0; axis--) {
            size_t index = (size_t)rest;
            if (axis > 0) { // divisions take long
                index = (size_t)(rest % self->axes.extents[axis]);
                rest /= self->axes.extents[axis];
            }
            x += index * (size_t)self->x_steps[axis];
            y += index * (size_t)self->y_steps[axis];
        }
        if (self->axes.reduced[last]) {
            *y += sum_row(x, count);
        } else {
            bool single = self->leading == last;
            add_rows(x, single ? 0 : (size_t)self->x_steps[last - 1],
                     single ? 1 : self->axes.extents[last - 1], y, count);
        }
    }
}

LC_VECTOR static bool run_positions(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct reduction *self = argument;
    int32_t inner = self->positions / self->axes.extents[0];
    add_positions(self, begin * inner, end * inner, 0, self->axes.extents[self->axes.rank - 1]);
    return true;
}

LC_VECTOR static bool run_chunks(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct reduction *self = argument;
    int64_t first = (int64_t)begin * self->chunk, last = (int64_t)end * self->chunk;
    int32_t extent = self->axes.extents[self->axes.rank - 1];
    add_positions(self, 0, self->positions, (int32_t)first,
                  (int32_t)((last < extent ? last : extent) - first));
    return true;
}

// The first of two axes in parts, each with sums of its own.
struct parts {
    const struct reduction *reduction;
    float *sums; // of all but the first, whose are the output
    int32_t count;
};

LC_VECTOR static bool run_parts(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct parts *parts = argument;
    const int64_t rows = parts->reduction->axes.extents[0];
    const int32_t row = parts->reduction->axes.extents[1];
    for (int32_t part = begin; part < end; part++) {
        const int64_t first = rows * part / parts->count, last = rows * (part + 1) / parts->count;
        float *sums =
            part > 0 ? parts->sums + (size_t)(part - 1) * (size_t)row : parts->reduction->y;
        add_rows(parts->reduction->x + first * row, (size_t)row, (int32_t)(last - first), sums,
                 row);
    }
    return true;
}

// Threads add the pixels of an image that they have most likely written, and not some channels of
// all: lines that two cores have read take long to be written again. False if it is no image, or
// not worth it.
LC_VECTOR static bool add_parts(const struct lc_operation *operation,
                                const struct reduction *self) {
    const struct lc_reduced *axes = &self->axes;
    if (axes->rank != 2 || !axes->reduced[0] || axes->reduced[1]) {
        return false;
    }
    const int32_t most = PART_SUMS / axes->extents[1] + 1;
    const int32_t threads = lc_operation_threads(operation, self->x_elements);
    float sums[PART_SUMS];
    struct parts parts = {self, sums, threads < most ? threads : most};
    if (parts.count == 1) {
        return false;
    }
    const size_t row = (size_t)axes->extents[1], others = (size_t)(parts.count - 1) * row;
    memset(sums, 0, others * sizeof *sums);
    lc_operation_run(operation, parts.count, self->x_elements, run_parts, &parts);
    add_rows(sums, row, parts.count - 1, self->y, axes->extents[1]);
    return true;
}

LC_VECTOR static void divide(float *y, int32_t count, float divisor) {
    for (int32_t i = 0; i < count; i++) {
        y[i] /= divisor;
    }
}

static void reduction_plan(const struct lc_operation *operation) {
    struct lc_shape x = lc_input_shape(operation, 0), y = lc_output_shape(operation, 0);
    struct reduction *self = operation->plan;
    bool reduced[LC_MAX_RANK];
    *self = (struct reduction){
        .x_elements = lc_count(&x, 0, x.rank),
        .y_elements = lc_count(&y, 0, y.rank),
        .run = run_chunks,
    };
    find_reduced(operation, x.rank, reduced);
    find_extents(self, &x, reduced);
    const int32_t last = self->axes.rank - 1, extent = self->axes.extents[last];
    self->leading = self->axes.reduced[last] || self->axes.rank == 1 ? last : last - 1;
    self->positions = 1;
    for (int32_t axis = 0; axis < self->leading; axis++) {
        self->positions *= self->axes.extents[axis];
    }
    self->chunk = self->axes.reduced[last] ? extent : CHUNK;
    if (self->x_elements == 0) {
        return; // nothing to add
    }
    self->items = extent / self->chunk + (extent % self->chunk != 0);
    if (self->leading > 0 && !self->axes.reduced[0]) {
        self->run = run_positions;
        self->items = self->axes.extents[0];
    }
}

// What sums are divided by.
static float divisor_of(const struct lc_operation *operation, const struct reduction *self) {
    const bool is_mean = operation->builtin_code == TFL_BUILTIN_MEAN;
    return is_mean ? (float)(self->x_elements / self->y_elements) : 1.0f;
}

static void reduction_compute(const struct lc_operation *operation) {
    struct reduction *self = operation->plan;
    self->x = lc_input_data(operation, 0);
    self->y = lc_output_data(operation, 0);
    memset(self->y, 0, (size_t)self->y_elements * sizeof(float));
    if (!add_parts(operation, self)) {
        lc_operation_run(operation, self->items, self->x_elements, self->run, self);
    }
    if (operation->builtin_code == TFL_BUILTIN_MEAN) {
        divide(self->y, self->y_elements, divisor_of(operation, self));
    }
}

static void reduction_compute_halves(const struct lc_operation *operation) {
    const struct reduction *self = operation->plan;
    if (self->x_elements > 0) {
        lc_half_reduce(operation, &self->axes, divisor_of(operation, self));
        return;
    }
    const uint16_t nothing = lc_float_to_half(0.0f / divisor_of(operation, self));
    uint16_t *y = lc_output_data(operation, 0);
    for (int32_t i = 0; i < self->y_elements; i++) {
        y[i] = nothing;
    }
}

#define REDUCTION(builtin, ...)                                                                    \
    LC_DEFINE_OPERATOR(                                                                            \
        builtin, 2, 2, .integers = 1u << 1, .params_bytes = sizeof(struct tfl_reducer_params),     \
        .infer = reduction_infer, .plan_bytes = sizeof(struct reduction), .plan = reduction_plan,  \
        .compute = reduction_compute, LC_IN_HALVES(reduction_compute_halves), __VA_ARGS__)

REDUCTION(MEAN, .coded = &lc_coded_MEAN);
REDUCTION(SUM);
