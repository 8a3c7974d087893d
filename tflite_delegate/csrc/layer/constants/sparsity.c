// SPDX-License-Identifier: Apache-2.0

#include "layer/constants/sparsity.h"

#include <stdlib.h>
#include <string.h>

#include "host/checked.h"
#include "host/tensor.h"

enum { MAX_RANK = 8, MAX_LEVELS = 2 * MAX_RANK };

struct level {
    const struct tfl_ints *segments, *positions; // NULL: the level is dense
    int size;
    size_t step; // elements of the dense tensor from one position to the next
};

struct tree {
    struct level levels[MAX_LEVELS];
    int count;
    size_t elements, leaves; // of the dense tensor; stored
};

// The axis and the block size of every level.
struct axes {
    int axis[MAX_LEVELS], block_size[MAX_RANK];
};

// Reads the orders. Blocks come behind all dimensions, in their own order, as every converter
// writes them: TFLite itself takes no other.
static bool read_axes(struct axes *axes, const struct tfl_sparsity *sparsity, const int *shape,
                      int rank, int blocked) {
    bool seen[MAX_RANK] = {false};
    const int *order = sparsity->traversal_order->data;
    for (int i = 0; i < rank; i++) {
        if (order[i] < 0 || order[i] >= rank || seen[order[i]]) {
            return false;
        }
        seen[order[i]] = true;
        axes->axis[i] = order[i];
        axes->block_size[i] = 1;
    }
    for (int i = 0; i < blocked; i++) {
        int axis = sparsity->block_map->data[i];
        int size = sparsity->dim_metadata[rank + i].dense_size;
        if (order[rank + i] != rank + i || axis < (i ? axes->axis[rank + i - 1] + 1 : 0) ||
            axis >= rank || size < 1 || shape[axis] % size) {
            return false;
        }
        axes->axis[rank + i] = axis;
        axes->block_size[axis] = size;
    }
    return true;
}

// Whether segments and positions are those of `paths` rows.
static bool is_compressed(const struct level *level, size_t paths) {
    const struct tfl_ints *segments = level->segments, *positions = level->positions;
    if (!segments || !positions || segments->size < 1 || (size_t)segments->size != paths + 1 ||
        segments->data[0] != 0 || segments->data[segments->size - 1] != positions->size) {
        return false;
    }
    for (int i = 1; i < segments->size; i++) {
        if (segments->data[i] < segments->data[i - 1]) {
            return false;
        }
    }
    for (int i = 0; i < positions->size; i++) {
        if (positions->data[i] < 0 || positions->data[i] >= level->size) {
            return false;
        }
    }
    return true;
}

// Reads one level behind `tree->leaves` paths, and counts those behind it.
static bool read_level(struct tree *tree, struct level *level,
                       const struct tfl_dim_metadata *metadata) {
    if (metadata->format == TFL_DIM_DENSE) {
        level->segments = level->positions = NULL;
        return metadata->dense_size == level->size && lc_multiply(&tree->leaves, level->size) &&
               tree->leaves <= tree->elements;
    }
    level->segments = metadata->array_segments;
    level->positions = metadata->array_indices;
    if (metadata->format != TFL_DIM_SPARSE_CSR || !is_compressed(level, tree->leaves)) {
        return false;
    }
    tree->leaves = (size_t)level->positions->size;
    return tree->leaves <= tree->elements;
}

static bool read_tree(struct tree *tree, const struct tfl_tensor *tensor) {
    const struct tfl_sparsity *sparsity = tensor->sparsity;
    const struct tfl_ints *dims = tensor->dims;
    if (!sparsity || !dims || dims->size < 1 || dims->size > MAX_RANK ||
        !lc_has_rank(tensor, dims->size) || !sparsity->traversal_order || !sparsity->dim_metadata ||
        !lc_count_elements(dims, &tree->elements) || tree->elements > INT32_MAX) {
        return false;
    }
    int rank = dims->size, blocked = sparsity->block_map ? sparsity->block_map->size : 0;
    struct axes axes;
    tree->count = rank + blocked;
    tree->leaves = 1;
    if (blocked > rank || sparsity->traversal_order->size != tree->count ||
        sparsity->dim_metadata_size != tree->count ||
        !read_axes(&axes, sparsity, dims->data, rank, blocked)) {
        return false;
    }
    for (int i = 0; i < tree->count; i++) {
        int axis = axes.axis[i], block = axes.block_size[axis];
        struct level *level = &tree->levels[i];
        level->size = i < rank ? dims->data[axis] / block : block;
        level->step = i < rank ? (size_t)block : 1;
        for (int inner = axis + 1; inner < rank; inner++) {
            level->step *= (size_t)dims->data[inner];
        }
        if (!read_level(tree, level, &sparsity->dim_metadata[i])) {
            return false;
        }
    }
    return true;
}

bool lc_is_sparse_constant(const struct tfl_tensor *tensor, size_t element_bytes) {
    struct tree tree;
    return read_tree(&tree, tensor) && tensor->bytes / element_bytes >= tree.leaves;
}

// What is on the way to the leaves.
struct walk {
    const struct tree *tree;
    const char *next; // the next stored element
    char *dense;
    size_t element_bytes;
};

// Places all elements under the `path`-th path to level `number`, whose first element is `place`.
static void place_elements(struct walk *walk, int number, size_t path, size_t place) {
    if (number == walk->tree->count) {
        memcpy(walk->dense + place * walk->element_bytes, walk->next, walk->element_bytes);
        walk->next += walk->element_bytes;
        return;
    }
    const struct level *level = &walk->tree->levels[number];
    if (!level->segments) {
        for (int i = 0; i < level->size; i++) {
            place_elements(walk, number + 1, path * (size_t)level->size + (size_t)i,
                           place + (size_t)i * level->step);
        }
        return;
    }
    for (int i = level->segments->data[path]; i < level->segments->data[path + 1]; i++) {
        place_elements(walk, number + 1, (size_t)i,
                       place + (size_t)level->positions->data[i] * level->step);
    }
}

void *lc_densify(const struct tfl_tensor *tensor, size_t element_bytes) {
    struct tree tree;
    if (!read_tree(&tree, tensor)) {
        return NULL;
    }
    struct walk walk = {
        .tree = &tree,
        .next = tensor->data,
        .dense = calloc(tree.elements, element_bytes),
        .element_bytes = element_bytes,
    };
    if (walk.dense) {
        place_elements(&walk, 0, 0, 0);
    }
    return walk.dense;
}

bool lc_is_float_constant(const struct tfl_tensor *tensor) {
    bool is_half = tensor->type == TFL_FLOAT16;
    size_t bytes, element_bytes = is_half ? sizeof(uint16_t) : sizeof(float);
    if (!lc_is_constant(tensor) || !tensor->data || (!is_half && tensor->type != TFL_FLOAT32)) {
        return false;
    }
    if (tensor->sparsity) {
        return lc_is_sparse_constant(tensor, element_bytes);
    }
    return lc_count_elements(tensor->dims, &bytes) && lc_multiply(&bytes, (int64_t)element_bytes) &&
           tensor->bytes >= bytes;
}
