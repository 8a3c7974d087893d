// SPDX-License-Identifier: Apache-2.0

#include "kernels/embedded/embedded.h"

#include <stdlib.h>
#include <string.h>

#include "host/checked.h"
#include "kernels/geometry.h"
#include "kernels/hybrid/channel_constants.h"
#include "kernels/pages/weight_pages.h"

// As in tflite_delegate/embedding/hashes.py.
#define PLACE_FACTOR UINT64_C(0x9E3779B97F4A7C15)
#define WORD_FACTOR UINT64_C(0xBF58476D1CE4E5B9)
#define SUM_FACTOR UINT64_C(0x94D049BB133111EB)
enum { SAMPLES = 4, SAMPLE_BYTES = 64 };

// Of the words of `data` that begin at bytes [begin, end); the last is filled up with zeros.
static uint64_t hash_words(const unsigned char *data, size_t bytes, size_t begin, size_t end) {
    uint64_t sum = 0;
    for (size_t i = begin; i < end; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, data + i, bytes - i < sizeof word ? bytes - i : sizeof word);
        word = (word ^ (i / sizeof word + 1) * PLACE_FACTOR) * WORD_FACTOR;
        sum += (word ^ word >> 32) * SUM_FACTOR;
    }
    return sum;
}

// Of all bytes, or of samples as far apart as they can be.
static uint64_t hash_of(const unsigned char *data, size_t bytes, bool whole) {
    if (whole || bytes <= SAMPLES * SAMPLE_BYTES) {
        return hash_words(data, bytes, 0, bytes);
    }
    uint64_t sum = 0;
    size_t step = (bytes - SAMPLE_BYTES) / (SAMPLES - 1) / sizeof(uint64_t) * sizeof(uint64_t);
    for (size_t i = 0; i < SAMPLES; i++) {
        sum += hash_words(data, bytes, i * step, i * step + SAMPLE_BYTES);
    }
    return sum;
}

void lc_expect_embedded(void) {
    const unsigned char *begin = NULL, *end = NULL;
    for (size_t i = 0; i < lc_library.place_count; i++) {
        const struct lc_place *place = &lc_library.places[i];
        if (place->packed) {
            const unsigned char *own_end = place->packed + place->packed_bytes;
            begin = begin && begin < place->packed ? begin : place->packed;
            end = end && end > own_end ? end : own_end;
        }
    }
    if (begin) {
        lc_use_huge_pages(begin, (size_t)(end - begin));
    }
}

// Bytes of a layer's weights as the model has them; 0 if that is no number.
static size_t weight_bytes(const struct lc_constants *layer, const struct lc_geometry *g) {
    size_t bytes = layer->weights.is_half                             ? sizeof(uint16_t)
                   : layer->weights.scales || layer->quantised.scales ? sizeof(int8_t)
                                                                      : sizeof(float);
    const size_t filters = layer->filters ? layer->filter_count : (size_t)g->out_channels;
    bool fits = lc_multiply(&bytes, (int64_t)filters) && lc_multiply(&bytes, g->kernel_height) &&
                lc_multiply(&bytes, g->kernel_width) &&
                lc_multiply(&bytes, g->in_channels / g->groups);
    return fits ? bytes : 0;
}

static bool has_weights(const struct lc_place *place, const struct lc_constants *layers,
                        bool whole) {
    uint64_t sum = 0;
    for (int32_t i = 0; i < place->kernel->layer_count; i++) {
        const struct lc_geometry *g = &place->kernel->layers[i];
        const struct lc_constant *weights = &layers[i].weights;
        if (weights->is_copy || layers[i].upsampling.rows) {
            return false;
        }
        sum = sum * SUM_FACTOR + hash_of(weights->data, weight_bytes(&layers[i], g), whole);
        // Biases of integers are packed less sums of weights, and scales may be a part of these.
        const void *exact = g->rule ? layers[i].bias.data : weights->scales;
        if (exact) {
            const size_t count = g->rule || weights->scale_step ? (size_t)g->out_channels : 1;
            sum = sum * SUM_FACTOR + hash_of(exact, count * sizeof(float), true);
        }
    }
    return sum == (whole ? place->whole_hash : place->sample_hash);
}

// Whether `packed` is what is behind the weights of a layer in one call, but for what is made of
// sums of these. False without memory.
static bool has_constants(const unsigned char *packed, const struct lc_kernel *kernel, int32_t i,
                          const struct lc_constants *layer, size_t call) {
    const struct lc_geometry *g = &kernel->layers[i];
    const struct lc_part *part = &kernel->parts[i];
    const size_t channels = (size_t)(g->out_channels / kernel->calls);
    size_t line = part->bias_elements * sizeof(float), bytes = line;
    if (!lc_add_constants(g, &bytes)) {
        return false;
    }
    lc_round_up(&line);
    struct lc_constants weightless = *layer;
    weightless.weights.data = NULL;
    char *expected = calloc(1, bytes);
    if (expected) {
        lc_write_constants(expected, part, g, &weightless, call * channels, channels);
    }
    const size_t begin = g->rule ? line : 0, end = g->dynamic ? 2 * line : bytes;
    bool good = expected && memcmp(expected + begin, packed + begin, end - begin) == 0;
    free(expected);
    return good;
}

// `bias`: where each layer's begin in what is packed for the first group.
static bool has_all_constants(const struct lc_place *place, const struct lc_constants *layers,
                              const size_t *bias, size_t group_pitch) {
    bool good = true;
    for (int32_t i = 0; i < place->kernel->layer_count; i++) {
        for (size_t call = 0; call < (size_t)place->kernel->calls && good; call++) {
            const unsigned char *packed = place->packed + call * group_pitch + bias[i];
            good = has_constants(packed, place->kernel, i, &layers[i], call);
        }
    }
    return good;
}

bool lc_take_embedded(struct lc_packed *packed, const struct lc_place *place,
                      const struct lc_constants *layers, bool whole) {
    size_t bias[LC_MAX_LAYERS];
    struct lc_packed found;
    if (!place->packed || place->kernel->layers->element == LC_FLOAT16 ||
        !lc_packed_places(&found, bias, place->kernel, layers) || found.weights_in_place ||
        found.bytes != place->packed_bytes ||
        !has_all_constants(place, layers, bias, found.group_pitch) ||
        !has_weights(place, layers, whole)) {
        return false;
    }
    // Nobody writes what is packed.
    char *block = (char *)(uintptr_t)place->packed;
    found.weights = block;
    found.bias = block + bias[0];
    found.embedded_bytes = found.bytes;
    found.bytes = 0;
    *packed = found;
    return true;
}
