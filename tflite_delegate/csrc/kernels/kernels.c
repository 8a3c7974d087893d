// SPDX-License-Identifier: Apache-2.0

#include "kernels/kernels.h"

#include <string.h>

#include "host/checked.h"

static bool reads_same_weights(const struct lc_kernel *a, const struct lc_kernel *b) {
    for (int32_t i = 0; i < a->layer_count; i++) {
        const struct lc_part *p = &a->parts[i], *q = &b->parts[i];
        if (a->layers[i].half_weights != b->layers[i].half_weights ||
            a->layers[i].byte_weights != b->layers[i].byte_weights ||
            a->layers[i].rule != b->layers[i].rule || p->layout != q->layout ||
            p->panel != q->panel || p->transform != q->transform || p->run != q->run ||
            p->word != q->word || p->rows != q->rows || p->capacity != q->capacity ||
            p->packed_bytes != q->packed_bytes || p->bias_elements != q->bias_elements) {
            return false;
        }
    }
    return a->calls == b->calls;
}

// The pixels of a residual are not spread, as those of the output are, when groups are computed one
// by one.
static bool can_run(const struct lc_kernel *kernel) {
    return kernel->calls == 1 || !kernel->layers->residual;
}

// Float32 is packed out of float16 and int8 as well, and of all of them what a kernel of float16
// reads; what may be added in pairs may be added one by one.
static bool serves_layer(const struct lc_geometry *kernel, const struct lc_geometry *layer) {
    struct lc_geometry wanted = *layer;
    wanted.half_weights = kernel->half_weights && layer->half_weights;
    wanted.byte_weights = kernel->byte_weights && layer->byte_weights;
    wanted.pairs = kernel->pairs && layer->pairs;
    if (kernel->element == LC_FLOAT16 && layer->element == LC_FLOAT32) {
        wanted.element = LC_FLOAT16;
        wanted.half_weights = kernel->half_weights;
    }
    return memcmp(kernel, &wanted, sizeof wanted) == 0;
}

static bool serves(const struct lc_kernel *kernel, const struct lc_geometry *layers,
                   int32_t layer_count, const char *algorithm) {
    if (kernel->layer_count != layer_count || !can_run(kernel) ||
        (algorithm && strcmp(algorithm, kernel->algorithm) != 0)) {
        return false;
    }
    for (int32_t i = 0; i < layer_count; i++) {
        if (!serves_layer(&kernel->layers[i], &layers[i])) {
            return false;
        }
    }
    return true;
}

const struct lc_kernel *lc_find_kernel(const struct lc_geometry *layers, int32_t layer_count,
                                       const char *algorithm) {
    for (size_t i = 0; i < lc_library.kernel_count; i++) {
        if (serves(&lc_library.kernels[i], layers, layer_count, algorithm)) {
            return &lc_library.kernels[i];
        }
    }
    return NULL;
}

const struct lc_kernel *lc_find_runnable(const struct lc_geometry *layers, int32_t layer_count,
                                         const char *algorithm, const struct lc_kernel *packed_for,
                                         int32_t images) {
    if (packed_for->images <= images && serves(packed_for, layers, layer_count, algorithm)) {
        return packed_for;
    }
    for (size_t i = 0; i < lc_library.kernel_count; i++) {
        const struct lc_kernel *kernel = &lc_library.kernels[i];
        if (kernel->images <= images && serves(kernel, layers, layer_count, algorithm) &&
            reads_same_weights(kernel, packed_for)) {
            return kernel;
        }
    }
    return NULL;
}

const struct lc_place *lc_place_at(int32_t graph_nodes, int32_t core, int32_t plan,
                                   const struct lc_geometry *layers, int32_t layer_count,
                                   const char *algorithm) {
    // Another model of as many nodes may have the same layer at this place: it is served as well.
    for (size_t i = 0; i < lc_library.place_count; i++) {
        const struct lc_place *place = &lc_library.places[i];
        if (place->graph_nodes == graph_nodes && place->core == core && place->plan == plan &&
            serves(place->kernel, layers, layer_count, algorithm)) {
            return place;
        }
    }
    return NULL;
}

bool lc_has_narrower(const struct lc_geometry *layer, const char *algorithm) {
    struct lc_geometry narrower = *layer;
    bool found = false;
    for (size_t i = 0; i < lc_library.kernel_count && !found; i++) {
        narrower.out_channels = lc_library.kernels[i].layers->out_channels;
        found = narrower.out_channels < layer->out_channels &&
                serves(&lc_library.kernels[i], &narrower, 1, algorithm);
    }
    return found;
}

bool lc_walks_rows(void) {
    bool found = false;
    for (size_t i = 0; i < lc_library.kernel_count; i++) {
        found = found || lc_library.kernels[i].walk;
    }
    return found;
}

bool lc_workspace_bytes(const struct lc_kernel *kernel, int32_t threads, size_t *bytes) {
    *bytes = kernel->thread_bytes;
    return lc_multiply(bytes, threads) && lc_add(bytes, kernel->shared_bytes);
}
