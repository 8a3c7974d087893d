// SPDX-License-Identifier: Apache-2.0

#include "kernels/embedded/embedded.h"

#include <string.h>

#include "host/checked.h"
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

// Bytes of the weights as the model has them; 0 if that is no number.
static size_t weight_bytes(const struct lc_constant *weights, const struct lc_geometry *g) {
    size_t bytes = weights->is_half ? sizeof(uint16_t) : sizeof(float);
    bool fits = lc_multiply(&bytes, g->out_channels) && lc_multiply(&bytes, g->kernel_height) &&
                lc_multiply(&bytes, g->kernel_width) &&
                lc_multiply(&bytes, g->in_channels / g->groups);
    return fits ? bytes : 0;
}

static bool has_weights(const struct lc_place *place, const struct lc_constants *layers,
                        bool whole) {
    uint64_t sum = 0;
    for (int32_t i = 0; i < place->kernel->layer_count; i++) {
        const struct lc_constant *weights = &layers[i].weights;
        if (weights->is_copy || weights->scales || layers[i].upsampling.rows || layers[i].filters) {
            return false;
        }
        size_t bytes = weight_bytes(weights, &place->kernel->layers[i]);
        sum = sum * SUM_FACTOR + hash_of(weights->data, bytes, whole);
    }
    return sum == (whole ? place->whole_hash : place->sample_hash);
}

// `bias`: where each layer's begin in what is packed for the first group.
static bool has_biases(const struct lc_place *place, const struct lc_constants *layers,
                       const size_t *bias, size_t group_pitch) {
    const struct lc_kernel *kernel = place->kernel;
    for (int32_t i = 0; i < kernel->layer_count; i++) {
        size_t channels = (size_t)(kernel->layers[i].out_channels / kernel->calls);
        for (size_t m = 0; m < channels * (size_t)kernel->calls; m++) {
            const unsigned char *group = place->packed + m / channels * group_pitch;
            float value = lc_bias_read(&layers[i], m);
            if (memcmp(group + bias[i] + m % channels * sizeof value, &value, sizeof value) != 0) {
                return false;
            }
        }
    }
    return true;
}

bool lc_take_embedded(struct lc_packed *packed, const struct lc_place *place,
                      const struct lc_constants *layers, bool whole) {
    size_t bias[LC_MAX_LAYERS];
    struct lc_packed found;
    if (!place->packed || place->kernel->layers->element != LC_FLOAT32 ||
        !lc_packed_places(&found, bias, place->kernel, layers) || found.weights_in_place ||
        found.bytes != place->packed_bytes || !has_biases(place, layers, bias, found.group_pitch) ||
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
