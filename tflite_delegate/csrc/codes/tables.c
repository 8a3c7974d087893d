// SPDX-License-Identifier: Apache-2.0

#include "codes/tables.h"

#include "host/cpu.h"
#include "host/tensor.h"

enum { CHUNK = 4096 }; // elements that are one item of work

struct lookup {
    const struct lc_tables *tables;
    size_t whole, count; // elements of vectors, and all of them
    const uint8_t *x;
    uint8_t *y;
};

void lc_tables_start(struct lc_tables *tables, int32_t lanes) {
    tables->lanes = lanes;
    tables->features = lc_cpu_features();
}

void lc_table_fill(uint8_t table[LC_ALL_CODES], const struct lc_codes *from,
                   const struct lc_codes *to, lc_code_function function, const void *argument) {
    for (int32_t code = from->least; code <= from->most; code++) {
        table[(uint8_t)code] =
            (uint8_t)lc_clamp_code(function(argument, code), to->least, to->most);
    }
}

static bool run_chunks(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct lookup *self = argument;
    const size_t first = (size_t)begin * CHUNK, last = (size_t)end * CHUNK;
    const size_t stop = last < self->count ? last : self->count;
    const size_t turn = self->whole < first ? first : self->whole < stop ? self->whole : stop;
    lc_look_up(self->tables->whole, self->tables->features, self->x + first, self->y + first,
               turn - first);
    lc_look_up(self->tables->rest, self->tables->features, self->x + turn, self->y + turn,
               stop - turn);
    return true;
}

void lc_tables_compute(const struct lc_operation *operation) {
    const struct lc_tables *tables = operation->state;
    const size_t count = lc_tensor(operation->context, operation->outputs->data[0])->bytes;
    struct lookup self = {
        .tables = tables,
        .whole = count - count % (size_t)tables->lanes,
        .count = count,
        .x = lc_input_data(operation, 0),
        .y = lc_output_data(operation, 0),
    };
    lc_operation_run(operation, (int32_t)(count / CHUNK + (count % CHUNK != 0)), (int64_t)count,
                     run_chunks, &self);
}
