// SPDX-License-Identifier: Apache-2.0

#include "kernels/weights.h"

#include <stdlib.h>
#include <string.h>

#include "host/checked.h"
#include "kernels/geometry.h"
#include "kernels/halves.h"
#include "kernels/hybrid/channel_constants.h"
#include "kernels/winograd/blocks.h"
#include "kernels/winograd/transformed.h"

// How the packed weights of one call are made of the model's: for each point of the transform's
// domain (one, without a transform) a matrix [panels][depth][panel]. LC_ROWS has panels of one
// channel, LC_TAPS one panel of all.
struct layout {
    const struct lc_geometry *geometry;
    const struct lc_transform *transform;
    size_t out_channels, panel, panels; // of one call
    size_t taps, channels;         // of the model's weights: K_h K_w, or K_d K_h K_w; C of a group
    size_t tap_step, channel_step; // panels from one of them to the next; without a transform
    size_t points;
    size_t depth;  // of a matrix: C, without a transform K_h K_w C
    size_t matrix; // elements, or words
    size_t run;    // of LC_WORDS: weights that are filled up to whole words
    size_t word;   // likewise: weights of a word
    size_t bytes;  // of the packed weights
};

// The last perhaps filled up.
static size_t words_of_run(const struct layout *layout) {
    return (layout->run + layout->word - 1) / layout->word;
}

// Bytes of a weight as a kernel reads it.
static size_t element_bytes(const struct lc_geometry *g) {
    return g->half_weights                          ? sizeof(uint16_t)
           : lc_sums_integers(g) || g->byte_weights ? sizeof(int8_t)
                                                    : sizeof(float);
}

// False if the kernel's numbers make no sense or are too large.
static bool layout_of(struct layout *layout, const struct lc_kernel *kernel, int32_t number) {
    const struct lc_geometry *g = &kernel->layers[number];
    const struct lc_part *part = &kernel->parts[number];
    const struct lc_transform *transform = part->transform;
    if (kernel->calls < 1 || g->groups < 1 || g->in_channels % g->groups ||
        g->out_channels % g->groups || (kernel->calls > 1 && kernel->calls != g->groups) ||
        g->in_channels < 1 || g->out_channels < 1 || g->kernel_height < 1 || g->kernel_width < 1 ||
        lc_kernel_rows(g) < 1 || (g->in_depth && lc_packs_narrow(g)) || part->panel < 1 ||
        (transform && (transform->rows < 1 || transform->columns < 1))) {
        return false;
    }
    size_t out_channels = (size_t)(g->out_channels / kernel->calls);
    bool by_channel = part->layout == LC_CHANNELS;
    bool in_words = part->layout == LC_WORDS;
    bool in_blocks = part->layout == LC_BLOCKS;
    bool is_filled_up = part->layout == LC_PANELS || by_channel || in_words || in_blocks;
    bool is_plain = g->groups == 1 && !g->in_depth && !g->element && !lc_packs_narrow(g);
    if ((in_blocks && !g->domain && !is_plain) ||
        (g->domain && (transform || kernel->calls > 1 || g->groups > 1 || g->element ||
                       (!in_blocks && part->layout != LC_PANELS)))) {
        return false;
    }
    if (in_words != (lc_sums_integers(g) && is_filled_up && !transform) ||
        (transform && g->dynamic) || part->bias_elements < out_channels ||
        (!is_filled_up && (transform || part->panel > 1 || part->bias_elements > out_channels)) ||
        (part->layout == LC_TAPS && g->in_channels > g->groups) || (by_channel && transform)) {
        return false;
    }
    size_t panel = part->layout == LC_TAPS ? out_channels : (size_t)part->panel;
    *layout = (struct layout){
        .geometry = g,
        .transform = transform,
        .out_channels = out_channels,
        .panel = panel,
        .panels = (out_channels + panel - 1) / panel,
        .taps = (size_t)lc_kernel_rows(g),
        .channels = (size_t)(g->in_channels / g->groups),
        .points = 1,
    };
    if (!lc_multiply(&layout->taps, g->kernel_width) ||
        (transform && (!lc_multiply(&layout->points, transform->rows) ||
                       !lc_multiply(&layout->points, transform->columns)))) {
        return false;
    }
    layout->tap_step = by_channel ? 1 : layout->channels;
    layout->channel_step = by_channel ? layout->taps : 1;
    layout->depth = layout->channels;
    if (!transform && !lc_multiply(&layout->depth, (int64_t)layout->taps)) {
        return false;
    }
    if (g->domain) {
        layout->taps = 1;
        layout->points = lc_points(g);
        layout->depth = layout->channels;
    }
    if (in_blocks) {
        layout->bytes = lc_blocks_bytes(part, g);
        return layout->bytes == part->packed_bytes;
    }
    if (in_words) {
        if (part->run < 1 || layout->depth % (size_t)part->run || !lc_is_word(part->word)) {
            return false;
        }
        layout->run = (size_t)part->run;
        layout->word = (size_t)part->word;
        layout->depth = layout->depth / layout->run * words_of_run(layout);
    }
    layout->matrix = layout->depth;
    if (!lc_multiply(&layout->matrix, (int64_t)layout->panels) ||
        !lc_multiply(&layout->matrix, (int64_t)layout->panel)) {
        return false;
    }
    layout->bytes = in_words                           ? layout->word
                    : g->domain                        ? sizeof(float)
                    : transform && lc_sums_integers(g) ? sizeof(int16_t)
                                                       : element_bytes(g);
    return lc_multiply(&layout->bytes, (int64_t)layout->matrix) &&
           lc_multiply(&layout->bytes, (int64_t)layout->points) &&
           layout->bytes == part->packed_bytes;
}

// Where output channel `m` of the matrix of one point begins: its elements lie a panel apart.
static size_t column_of(const struct layout *layout, size_t point, size_t m) {
    return point * layout->matrix + m / layout->panel * layout->panel * layout->depth +
           m % layout->panel;
}

// Weights that are in hand at once.
enum { CHUNK = 64 };
static size_t chunk(size_t rest) { return rest < CHUNK ? rest : CHUNK; }

// In what follows, `first` is the layer's output channel that is the first of the call.

static void pack_matrix(void *packed, const struct layout *layout,
                        const struct lc_constants *constants, size_t first) {
    float scratch[CHUNK];
    for (size_t m = 0; m < layout->out_channels; m++) {
        size_t column = column_of(layout, 0, m);
        for (size_t tap = 0; tap < layout->taps; tap++) {
            for (size_t c = 0; c < layout->channels; c += CHUNK) {
                size_t count = chunk(layout->channels - c);
                const float *row =
                    lc_weights_read(constants, layout->geometry, first + m, tap, c, count, scratch);
                for (size_t i = 0; i < count; i++) {
                    size_t step = tap * layout->tap_step + (c + i) * layout->channel_step;
                    lc_store_float(packed, column + step * layout->panel, row[i],
                                   layout->geometry->half_weights);
                }
            }
        }
    }
}

// Float16 or int8 as the model has it.
static void pack_narrow(char *packed, const struct layout *layout,
                        const struct lc_constants *constants, size_t first) {
    const char *weights = constants->weights.data;
    const size_t bytes = element_bytes(layout->geometry);
    for (size_t m = 0; m < layout->out_channels; m++) {
        char *column = packed + bytes * column_of(layout, 0, m);
        for (size_t tap = 0; tap < layout->taps; tap++) {
            size_t index = lc_weights_index(constants, layout->geometry, first + m, tap);
            for (size_t c = 0; c < layout->channels && index != SIZE_MAX; c++) {
                size_t step = tap * layout->tap_step + c * layout->channel_step;
                memcpy(column + bytes * step * layout->panel, weights + bytes * (index + c), bytes);
            }
        }
    }
}

// Words of int8 or uint8, zero points where there is no weight; in LC_TAPS as they are.
static void pack_words(char *packed, const struct layout *layout,
                       const struct lc_constants *constants, size_t first) {
    const int8_t *weights = constants->weights.data;
    int offset = layout->geometry->element == LC_UINT8 ? lc_library.weight_offset : 0;
    if (!layout->run) {
        memcpy(packed, weights, layout->bytes);
        return;
    }
    for (size_t m = 0; m < layout->out_channels; m++) {
        char *column = packed + layout->word * column_of(layout, 0, m);
        for (size_t i = 0, tap = 0; tap < layout->taps; tap++) {
            size_t index = lc_weights_index(constants, layout->geometry, first + m, tap);
            for (size_t c = 0; c < layout->channels; c++, i++) {
                size_t in_run = i % layout->run;
                size_t step = i / layout->run * words_of_run(layout) + in_run / layout->word;
                int weight =
                    index == SIZE_MAX ? constants->quantised.weight_zero : weights[index + c];
                size_t place = step * layout->panel * layout->word + in_run % layout->word;
                column[place] = (char)(weight + offset);
            }
        }
    }
}

// Where everything is in the block, in bytes.
struct places {
    size_t weights[LC_MAX_LAYERS], bias[LC_MAX_LAYERS];
    size_t group_pitch, bytes;
};

// Puts `bytes` on the next cache line behind *end. False on overflow.
static bool place(size_t *end, size_t *begin, size_t bytes) {
    bool good = lc_round_up(end);
    *begin = *end;
    return lc_add(end, bytes) && good;
}

static bool reads_in_place(const struct lc_kernel *kernel, const struct lc_constants *constants) {
    return kernel->layer_count == 1 && kernel->calls == 1 &&
           constants->weights.is_half == (kernel->layers->half_weights == 1) &&
           (constants->weights.scales && !kernel->layers->dynamic) ==
               (kernel->layers->byte_weights == 1) &&
           !constants->weights.is_copy && !constants->upsampling.rows && !constants->filters &&
           kernel->parts->layout != LC_PANELS && kernel->parts->layout != LC_WORDS &&
           kernel->parts->layout == (int)constants->layout;
}

static bool reads_bias_in_place(const struct lc_kernel *kernel,
                                const struct lc_constants *constants) {
    return reads_in_place(kernel, constants) && !lc_sums_integers(kernel->layers) &&
           !kernel->layers->byte_weights && constants->bias.data && !constants->bias.is_half &&
           !constants->bias.is_copy;
}

// False if the kernel does not read what this delegate writes, or it is too large.
static bool find_places(struct places *places, const struct lc_kernel *kernel,
                        const struct lc_constants *layers) {
    *places = (struct places){0};
    size_t end = 0;
    if (kernel->layer_count < 1 || kernel->layer_count > LC_MAX_LAYERS ||
        (kernel->calls > 1 && kernel->layer_count > 1)) {
        return false;
    }
    for (int32_t i = 0; i < kernel->layer_count; i++) {
        struct layout layout;
        if (!layout_of(&layout, kernel, i) ||
            (lc_packs_narrow(&kernel->layers[i]) && !layers[i].weights.is_half &&
             !layers[i].weights.scales) ||
            !place(&end, &places->weights[i], reads_in_place(kernel, layers) ? 0 : layout.bytes)) {
            return false;
        }
    }
    for (int32_t i = 0; i < kernel->layer_count; i++) {
        size_t bytes = reads_bias_in_place(kernel, layers) ? 0 : sizeof(float);
        if (!lc_multiply(&bytes, (int64_t)kernel->parts[i].bias_elements) ||
            !lc_add_constants(&kernel->layers[i], &bytes) ||
            !place(&end, &places->bias[i], bytes)) {
            return false;
        }
    }
    if (!lc_round_up(&end)) {
        return false;
    }
    places->bytes = places->group_pitch = end;
    return lc_multiply(&places->bytes, kernel->calls);
}

bool lc_packed_places(struct lc_packed *packed, size_t *bias, const struct lc_kernel *kernel,
                      const struct lc_constants *layers) {
    struct places places;
    bool is_known = find_places(&places, kernel, layers);
    *packed = (struct lc_packed){.group_pitch = places.group_pitch,
                                 .bytes = places.bytes,
                                 .weights_in_place = is_known && reads_in_place(kernel, layers)};
    memcpy(bias, places.bias, sizeof places.bias);
    return is_known;
}

// False if there are more blocks than the kernel takes.
static bool pack_weights(void *packed, const struct layout *layout, const struct lc_part *part,
                         const struct lc_constants *constants, size_t first) {
    if (part->layout == LC_BLOCKS) {
        return lc_pack_blocks(packed, part, layout->geometry, constants);
    }
    if (layout->geometry->domain) {
        lc_pack_points(packed, part, layout->geometry, constants);
    } else if (lc_sums_integers(layout->geometry) && !layout->transform) {
        pack_words(packed, layout, constants, first);
    } else if (lc_packs_narrow(layout->geometry)) {
        pack_narrow(packed, layout, constants, first);
    } else if (layout->transform) {
        lc_pack_transformed(packed, part, layout->geometry, constants, first, layout->out_channels);
    } else {
        pack_matrix(packed, layout, constants, first);
    }
    return true;
}

static bool pack_call(char *block, const struct places *places, const struct lc_kernel *kernel,
                      const struct lc_constants *layers, size_t call) {
    for (int32_t i = 0; i < kernel->layer_count; i++) {
        struct layout layout;
        layout_of(&layout, kernel, i);
        char *bias = block + places->bias[i], *weights = block + places->weights[i];
        size_t first = call * layout.out_channels;
        if (!reads_in_place(kernel, layers) &&
            !pack_weights(weights, &layout, &kernel->parts[i], &layers[i], first)) {
            return false;
        }
        lc_write_constants(bias, &kernel->parts[i], layout.geometry, &layers[i], first,
                           layout.out_channels);
    }
    return true;
}

// Memory for what is packed. False if it cannot be had.
static bool allocate(struct lc_packed *packed, struct lc_region *region) {
    packed->block = region && packed->bytes ? lc_region_take(region, packed->bytes) : NULL;
    if (packed->block) {
        packed->region = region;
    } else if (packed->bytes) {
        return posix_memalign(&packed->block, LC_CACHE_LINE, packed->bytes) == 0;
    }
    return true;
}

bool lc_pack(struct lc_packed *packed, const struct lc_kernel *kernel,
             const struct lc_constants *layers, struct lc_region *region) {
    struct places places;
    if (!lc_packed_places(packed, places.bias, kernel, layers) ||
        !find_places(&places, kernel, layers) || !allocate(packed, region)) {
        *packed = (struct lc_packed){0};
        return false;
    }
    char *block = packed->block;
    if (!block) {
        return true;
    }
    memset(block, 0, places.bytes);
    packed->weights = packed->weights_in_place ? NULL : block;
    packed->bias = block + places.bias[0];
    for (size_t call = 0; call < (size_t)kernel->calls; call++) {
        if (!pack_call(block + call * places.group_pitch, &places, kernel, layers, call)) {
            lc_packed_free(packed);
            return false;
        }
    }
    return true;
}

void lc_packed_free(struct lc_packed *packed) {
    packed->region ? lc_region_release(packed->region) : free(packed->block);
    *packed = (struct lc_packed){0};
}
