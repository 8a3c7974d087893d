// SPDX-License-Identifier: Apache-2.0
//
// QUANTIZE: numbers to codes, or codes to codes of another scale or type. DEQUANTIZE: codes to
// numbers.

#include <math.h>
#include <string.h>

#include "codes/codes.h"
#include "codes/tables.h"
#include "host/tensor.h"
#include "kernels/quantised/fixed_point.h"
#include "operation/vector.h"

enum {
    CHUNK = 4096,     // elements that are one item of work
    TFLITE_LANES = 8, // of TFLite's loop over numbers
    TABLE_LANES = 16  // of TFLite's loop over codes
};

// Between numbers and codes; whichever way.
struct conversion {
    struct lc_codes codes;
    size_t count; // of elements
    const void *x;
    void *y;
};

static const char *same_shape(const struct lc_operation *operation, struct lc_shape *output) {
    *output = lc_input_shape(operation, 0);
    return NULL;
}

static int type_of(const struct lc_operation *operation, const struct tfl_ints *operands) {
    return lc_tensor(operation->context, operands->data[0])->type;
}

static bool has_one_scale(const struct tfl_tensor *tensor) {
    struct lc_quantization read;
    return lc_read_quantization(tensor, &read) && read.count == 1;
}

static void convert(const struct lc_operation *operation, struct conversion *self,
                    lc_pool_task run) {
    const struct lc_shape shape = lc_output_shape(operation, 0);
    const int32_t count = lc_count(&shape, 0, shape.rank);
    self->count = (size_t)count;
    self->x = lc_input_data(operation, 0);
    self->y = lc_output_data(operation, 0);
    lc_operation_run(operation, count / CHUNK + (count % CHUNK != 0), count, run, self);
}

// The elements of some chunks.
static size_t find_chunks(const struct conversion *self, int32_t begin, int32_t end,
                          size_t *first) {
    const size_t last = (size_t)end * CHUNK;
    *first = (size_t)begin * CHUNK;
    return (last < self->count ? last : self->count) - *first;
}

// QUANTIZE of numbers

// Codes of a vector, from the zero point on; those beyond the ends are these. Rounded to the
// nearest integers, ties to even ones or, as the reference kernels do it, away from zero.
LC_INLINE lc_mask nearest(lc_vector x, lc_vector least, lc_vector most, bool ties_away) {
    const float shift = 0x1.8p23f; // adding it leaves the integer in the low bits
    const lc_vector v = lc_larger(least, lc_smaller(x, most)); // most, if it is no number
    const lc_vector shifted = v + shift;
    const lc_mask even = (lc_mask)shifted - 0x4b400000;
    const lc_vector rest = v - (shifted - shift);
    if (!ties_away) {
        return even;
    }
    return even - ((rest == 0.5f) & (v > 0.0f)) + ((rest == -0.5f) & (v < 0.0f));
}

// How numbers become codes.
struct quantizing {
    lc_vector least, most; // codes, from the zero point on
    float scale, inverse;
    int32_t zero;
};

LC_INLINE lc_bytes quantized(const struct quantizing *by, lc_vector x, bool is_reference) {
    const lc_vector scaled = is_reference ? x / by->scale : x * by->inverse;
    return __builtin_convertvector(nearest(scaled, by->least, by->most, is_reference) + by->zero,
                                   lc_bytes);
}

LC_INLINE void quantize_vectors(const struct conversion *self, const float *x, uint8_t *y,
                                size_t count, bool is_reference) {
    const struct lc_codes *codes = &self->codes;
    const struct quantizing by = {
        .least = lc_splat((float)(codes->least - codes->zero)),
        .most = lc_splat((float)(codes->most - codes->zero)),
        .scale = codes->scale,
        .inverse = 1.0f / codes->scale,
        .zero = codes->zero,
    };
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES, y += LC_LANES) {
        const lc_bytes bytes = quantized(&by, lc_load(x), is_reference);
        memcpy(y, &bytes, sizeof bytes);
    }
    if (count > 0) {
        const lc_bytes bytes = quantized(&by, lc_load_some(x, (int32_t)count, 0.0f), is_reference);
        lc_copy_bytes(y, &bytes, count);
    }
}

// What does not fill TFLite's vectors.
static void quantize_rest(const struct conversion *self, const float *x, uint8_t *y, size_t count) {
    const struct lc_codes *codes = &self->codes;
    for (size_t i = 0; i < count; i++) {
        const double v = round((double)x[i] / (double)codes->scale) + codes->zero;
        const double least = codes->least, most = codes->most;
        y[i] = (uint8_t)(int32_t)(v < least ? least : v <= most ? v : most);
    }
}

LC_VECTOR static bool run_quantize(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct conversion *self = argument;
    size_t first, count = find_chunks(self, begin, end, &first);
    const float *x = (const float *)self->x + first;
    uint8_t *y = (uint8_t *)self->y + first;
    if (lc_follows_reference()) {
        quantize_vectors(self, x, y, count, true);
    } else if (lc_follows_xnnpack()) {
        quantize_vectors(self, x, y, count, false);
    } else {
        const size_t whole = count - count % TFLITE_LANES;
        quantize_vectors(self, x, y, whole, false);
        quantize_rest(self, x + whole, y + whole, count - whole);
    }
    return true;
}

// QUANTIZE of codes

struct recoding {
    struct lc_codes x, y;
    struct lc_multiplier by;
};

static int64_t recode_xnnpack(const void *argument, int32_t code) {
    const struct recoding *self = argument;
    const int32_t factor = (int32_t)lrintf(256.0f * (self->x.scale / self->y.scale));
    return (((code - self->x.zero) * factor + 128) >> 8) + self->y.zero;
}

static int64_t recode_up(const void *argument, int32_t code) {
    const struct recoding *self = argument;
    return lc_scale_up(code - self->x.zero, self->by) + self->y.zero;
}

static int64_t recode_away(const void *argument, int32_t code) {
    const struct recoding *self = argument;
    return lc_scale_away(code - self->x.zero, self->by) + self->y.zero;
}

static void recoding_start(const struct lc_operation *operation, struct lc_tables *tables) {
    struct recoding self = {.x = lc_input_codes(operation, 0), .y = lc_output_codes(operation)};
    const float ratio = self.x.scale / self.y.scale;
    const bool fits = self.x.is_signed == self.y.is_signed && ratio >= 0x1p-8f && ratio <= 0x1p7f;
    self.by = lc_multiplier_of((double)ratio);
    lc_tables_start(tables, 1);
    if (lc_follows_xnnpack() && fits) {
        lc_table_fill(tables->whole, &self.x, &self.y, recode_xnnpack, &self);
    } else if (lc_follows_reference()) {
        lc_table_fill(tables->whole, &self.x, &self.y, recode_away, &self);
    } else {
        tables->lanes = TABLE_LANES;
        lc_table_fill(tables->whole, &self.x, &self.y, recode_up, &self);
        lc_table_fill(tables->rest, &self.x, &self.y, recode_away, &self);
    }
}

static const char *quantize_refuses(const struct lc_operation *operation) {
    const struct tfl_tensor *x = lc_input(operation, 0);
    const struct tfl_tensor *y = lc_tensor(operation->context, operation->outputs->data[0]);
    bool fits = has_one_scale(y) && (x->type == TFL_FLOAT32 || has_one_scale(x));
    return fits ? NULL : "types or quantisations are not supported";
}

static void quantize_start(const struct lc_operation *operation, void *state) {
    if (type_of(operation, operation->inputs) != TFL_FLOAT32) {
        recoding_start(operation, state);
    }
}

static void quantize_compute(const struct lc_operation *operation) {
    if (type_of(operation, operation->inputs) != TFL_FLOAT32) {
        lc_tables_compute(operation);
        return;
    }
    struct conversion self = {.codes = lc_output_codes(operation)};
    convert(operation, &self, run_quantize);
}

LC_DEFINE_OPERATOR(QUANTIZE, 1, 1, .infer = same_shape,
                   .coded = &(const struct lc_coded){
                       .converts = true,
                       .refuses = quantize_refuses,
                       .state_bytes = sizeof(struct lc_tables),
                       .start = quantize_start,
                       .compute = quantize_compute,
                   });

// DEQUANTIZE

// TFLite's vectors on processors have the zero point's product added to the code's, on Arm at once.
LC_INLINE lc_vector number(lc_vector code, const struct lc_codes *codes, bool in_two) {
    if (!in_two) {
        return (code - (float)codes->zero) * codes->scale;
    }
    const float offset = (float)(-codes->zero * (double)codes->scale);
#if defined(__aarch64__)
    return lc_fused(code, lc_splat(codes->scale), lc_splat(offset));
#else
    lc_vector product = code * codes->scale;
    LC_APART(product);
    return product + offset;
#endif
}

LC_INLINE lc_vector dequantized(bool is_signed, const struct lc_codes *codes, lc_bytes bytes,
                                bool in_two) {
    return number(is_signed ? __builtin_convertvector((lc_signed_bytes)bytes, lc_vector)
                            : __builtin_convertvector(bytes, lc_vector),
                  codes, in_two);
}

LC_INLINE void dequantize_vectors(bool is_signed, const struct conversion *self, const uint8_t *x,
                                  float *y, size_t count, bool in_two) {
    const struct lc_codes codes = self->codes;
    lc_bytes bytes = {0};
    for (; count >= LC_LANES; count -= LC_LANES, x += LC_LANES, y += LC_LANES) {
        memcpy(&bytes, x, sizeof bytes);
        lc_store(y, dequantized(is_signed, &codes, bytes, in_two));
    }
    if (count > 0) {
        lc_copy_bytes(&bytes, x, count);
        lc_store_some(y, dequantized(is_signed, &codes, bytes, in_two), (int32_t)count);
    }
}

LC_INLINE void dequantize(bool is_signed, const struct conversion *self, int32_t begin,
                          int32_t end) {
    size_t first, count = find_chunks(self, begin, end, &first);
    const uint8_t *x = (const uint8_t *)self->x + first;
    float *y = (float *)self->y + first;
    const bool in_two = lc_library.rounding == LC_ROUNDING_BUILTIN;
    const size_t whole = in_two ? count - count % TFLITE_LANES : 0;
    dequantize_vectors(is_signed, self, x, y, whole, true);
    dequantize_vectors(is_signed, self, x + whole, y + whole, count - whole, false);
}

LC_VECTOR static bool run_dequantize(void *argument, int32_t thread, int32_t begin, int32_t end) {
    (void)thread;
    const struct conversion *self = argument;
    if (self->codes.is_signed) {
        dequantize(true, self, begin, end);
    } else {
        dequantize(false, self, begin, end);
    }
    return true;
}

static const char *dequantize_refuses(const struct lc_operation *operation) {
    bool fits = has_one_scale(lc_input(operation, 0)) && !lc_is_constant(lc_input(operation, 0)) &&
                type_of(operation, operation->outputs) == TFL_FLOAT32;
    return fits ? NULL : "types or quantisations are not supported";
}

static void dequantize_compute(const struct lc_operation *operation) {
    struct conversion self = {.codes = lc_input_codes(operation, 0)};
    convert(operation, &self, run_dequantize);
}

LC_DEFINE_OPERATOR(DEQUANTIZE, 1, 1, .infer = same_shape,
                   .coded = &(const struct lc_coded){
                       .converts = true,
                       .refuses = dequantize_refuses,
                       .compute = dequantize_compute,
                   });
