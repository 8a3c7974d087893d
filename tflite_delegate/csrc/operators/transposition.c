// SPDX-License-Identifier: Apache-2.0
//
// Axes in another order: TRANSPOSE, DEPTH_TO_SPACE and SPACE_TO_DEPTH.

#include "operators/strided.h"

// TRANSPOSE

static const char *transpose_infer(const struct lc_operation *operation, struct lc_shape *output) {
    struct lc_shape x = lc_input_shape(operation, 0);
    int32_t count;
    const int32_t *order = lc_integers(operation, 1, &count);
    bool seen[LC_MAX_RANK] = {false};
    *output = (struct lc_shape){.rank = x.rank};
    if (count != x.rank) {
        return "malformed order of axes";
    }
    for (int32_t i = 0; i < x.rank; i++) {
        int32_t axis = order[i];
        if (!lc_find_axis(x.rank, &axis) || seen[axis]) {
            return "malformed order of axes";
        }
        seen[axis] = true;
        output->dims[i] = x.dims[axis];
    }
    return NULL;
}

static void transpose_plan(const struct lc_operation *operation) {
    struct lc_shape x = lc_input_shape(operation, 0);
    const struct lc_strided all = lc_strided_all(operation, &x);
    struct lc_strided from = all;
    from.shape = lc_output_shape(operation, 0);
    int32_t count;
    const int32_t *order = lc_integers(operation, 1, &count);
    for (int32_t i = 0; i < x.rank; i++) {
        int32_t axis = order[i];
        lc_find_axis(x.rank, &axis);
        from.steps[i] = all.steps[axis];
    }
    lc_strided_plan(&from, operation->plan);
}

LC_DEFINE_OPERATOR(TRANSPOSE, 2, 2, .integers = 1u << 1, .infer = transpose_infer,
                   LC_STRIDED_OPERATOR(transpose_plan));

// DEPTH_TO_SPACE and SPACE_TO_DEPTH

static const char *block_infer(const struct lc_operation *operation, struct lc_shape *output) {
    const int32_t block = ((const struct tfl_block_params *)operation->params)->block_size;
    *output = lc_input_shape(operation, 0);
    int32_t *dims = output->dims, area;
    if (output->rank != 4 || block < 1 || __builtin_mul_overflow(block, block, &area)) {
        return "malformed image or block";
    }
    if (operation->builtin_code == TFL_BUILTIN_SPACE_TO_DEPTH) {
        if (dims[1] % block != 0 || dims[2] % block != 0 ||
            __builtin_mul_overflow(dims[3], area, &dims[3])) {
            return "the image does not consist of blocks";
        }
        dims[1] /= block;
        dims[2] /= block;
        return NULL;
    }
    if (dims[3] % area != 0 || __builtin_mul_overflow(dims[1], block, &dims[1]) ||
        __builtin_mul_overflow(dims[2], block, &dims[2])) {
        return "the channels do not make up blocks";
    }
    dims[3] /= area;
    return NULL;
}

// Both exchange two axes of images whose rows, columns and channels of blocks are axes.
static void block_plan(const struct lc_operation *operation) {
    const int32_t block = ((const struct tfl_block_params *)operation->params)->block_size;
    struct lc_shape x = lc_input_shape(operation, 0), y = lc_output_shape(operation, 0);
    bool gathers = operation->builtin_code == TFL_BUILTIN_SPACE_TO_DEPTH;
    const struct lc_shape *rows = gathers ? &y : &x; // as many as there are blocks
    const int32_t channels = gathers ? x.dims[3] : y.dims[3];
    // Images and their rows of blocks are one axis.
    const int32_t height = x.dims[0] * rows->dims[1], width = rows->dims[2];
    const struct lc_shape scattered = {.rank = 5, .dims = {height, block, width, block, channels}};
    const struct lc_shape gathered = {.rank = 5, .dims = {height, width, block, block, channels}};
    struct lc_strided from = lc_strided_all(operation, gathers ? &scattered : &gathered);
    from.shape = gathers ? gathered : scattered;
    ptrdiff_t step = from.steps[1];
    from.steps[1] = from.steps[2];
    from.steps[2] = step;
    lc_strided_plan(&from, operation->plan);
}

#define BLOCKS(builtin)                                                                            \
    LC_DEFINE_OPERATOR(builtin, 1, 1, .params_bytes = sizeof(struct tfl_block_params),             \
                       .infer = block_infer, LC_STRIDED_OPERATOR(block_plan))

BLOCKS(DEPTH_TO_SPACE);
BLOCKS(SPACE_TO_DEPTH);
