// SPDX-License-Identifier: Apache-2.0

#include "layer/constants/filters.h"

#include <stdlib.h>

#include "kernels/geometry.h"
#include "kernels/kernels.h"
#include "kernels/reference_conv.h"

// As schedules/plan/filters.py: the kernel has so many filters, or a multiple.
enum { VECTOR = 16 };

static bool is_zero(const struct lc_constants *constants, const struct lc_geometry *g, size_t m) {
    const size_t taps = (size_t)g->kernel_height * (size_t)g->kernel_width;
    for (size_t tap = 0; tap < taps; tap++) {
        for (size_t c = 0; c < (size_t)g->in_channels; c++) {
            float scratch;
            if (!(*lc_weights_read(constants, g, m, tap, c, 1, &scratch) == 0.0f)) {
                return false;
            }
        }
    }
    return true;
}

// Those that the kernel has: all that are not zero, filled up.
static size_t count_kept(const struct lc_constants *constants, const struct lc_geometry *g) {
    size_t all = (size_t)g->out_channels, kept = 0;
    for (size_t m = 0; m < all; m++) {
        kept += !is_zero(constants, g, m);
    }
    kept = (kept + VECTOR - 1) / VECTOR * VECTOR;
    kept = kept ? kept : VECTOR;
    return kept < all ? kept : all;
}

static bool may_be_narrower(const struct lc_chain *chain, const struct lc_geometry *g) {
    const struct lc_layer *layer = chain->layers;
    return chain->layer_count == 1 && layer->source == LC_ROWS && g->element == LC_FLOAT32 &&
           g->groups == 1 && !g->residual && !g->pool && !layer->is_hybrid &&
           !layer->byte_weights && !layer->upsampling.rows;
}

// Whether the kernel writes its output where it is told to, and reads packed weights and biases.
static bool is_served(const struct lc_kernel *kernel) {
    return kernel && kernel->overwrites == LC_NOTHING && kernel->parts->layout != LC_ROWS &&
           kernel->layers->element == LC_FLOAT32;
}

bool lc_filters_narrow(const struct lc_chain *chain, const struct tfl_context *context,
                       int32_t graph_nodes, int32_t plan, struct lc_geometry *layers,
                       const char *algorithm) {
    const int32_t core = chain->layers->core;
    // Reading what is zero takes all pages of the model's weights.
    if (!may_be_narrower(chain, layers) || !lc_has_narrower(layers, algorithm) ||
        lc_place_at(graph_nodes, core, plan, layers, 1, algorithm)) {
        return false;
    }
    const struct lc_constants constants = lc_layer_constants(chain->layers, context);
    if (!constants.weights.data || constants.weights.is_copy) {
        return false;
    }
    struct lc_geometry narrower = *layers;
    narrower.out_channels = (int32_t)count_kept(&constants, layers);
    const struct lc_place *place = lc_place_at(graph_nodes, core, plan, &narrower, 1, algorithm);
    const struct lc_kernel *kernel = place ? place->kernel
                                     : lc_find_kernel(layers, 1, algorithm)
                                         ? NULL
                                         : lc_find_kernel(&narrower, 1, algorithm);
    bool good = narrower.out_channels < layers->out_channels && is_served(kernel);
    *layers = good ? narrower : *layers;
    return good;
}

static size_t bytes_of(size_t all, size_t count) {
    return sizeof(struct lc_filters) + all * sizeof(int32_t) + (all - count) * sizeof(float);
}

size_t lc_filters_bytes(const struct lc_filters *filters) {
    return filters ? bytes_of(filters->all, filters->count) : 0;
}

struct lc_filters *lc_filters_new(const struct lc_layer *layer, const struct tfl_context *context,
                                  const struct lc_geometry *geometry,
                                  const struct lc_kernel *kernel) {
    const size_t all = (size_t)geometry->out_channels;
    const size_t count = (size_t)kernel->layers->out_channels;
    const struct lc_constants constants = lc_layer_constants(layer, context);
    struct lc_filters *filters = malloc(bytes_of(all, count));
    if (!filters) {
        return NULL;
    }
    filters->count = count;
    filters->all = all;
    filters->others = (float *)(void *)(filters->of_layer + all);
    size_t zeros = count; // that are among those of the kernel
    for (size_t m = 0; m < all; m++) {
        zeros -= !is_zero(&constants, geometry, m);
    }
    size_t kept = 0, other = 0;
    for (size_t m = 0; m < all; m++) {
        bool is_other = is_zero(&constants, geometry, m) && !zeros;
        if (is_other) {
            filters->others[other] = lc_bias_read(&constants, m);
            filters->of_layer[count + other++] = (int32_t)m;
        } else {
            zeros -= is_zero(&constants, geometry, m);
            filters->of_layer[kept++] = (int32_t)m;
        }
    }
    lc_activate(geometry->activation, filters->others, all - count);
    return filters;
}

void lc_filters_spread(const struct lc_filters *filters, float *y, size_t pixels) {
    const size_t all = filters->all, count = filters->count, rest = all - count;
    const int32_t *own = filters->of_layer, *others = filters->of_layer + count;
    const float *from = y + pixels * rest;
    // No element is overwritten before it was read: as many are still to be left out behind it as
    // pixels follow, and channels ascend.
    for (size_t pixel = 0; pixel < pixels; pixel++, from += count, y += all) {
        for (size_t i = 0; i < count; i++) {
            y[own[i]] = from[i];
        }
        for (size_t i = 0; i < rest; i++) {
            y[others[i]] = filters->others[i];
        }
    }
}
