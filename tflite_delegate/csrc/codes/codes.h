// SPDX-License-Identifier: Apache-2.0
//
// Codes of 8 bits that stand for numbers, and the operators that compute with them as TFLite does.

#pragma once

#include "host/kernel_table.h"
#include "operation/operation.h"

// What the codes of a tensor with one scale stand for: scale (code - zero).
struct lc_codes {
    bool is_signed;
    float scale;
    int32_t zero;
    int32_t least, most; // of all codes
};

// Codes of an operand that holds such.
struct lc_codes lc_input_codes(const struct lc_operation *operation, int i);
struct lc_codes lc_output_codes(const struct lc_operation *operation);

// Whether XNNPACK's arithmetic is asked for; it is, by default.
static inline bool lc_follows_xnnpack(void) { return lc_library.rounding == LC_ROUNDING_XNNPACK; }

// Whether that of the reference kernels is: element by element. Those for a processor compute the
// elements that fill their vectors in another way than the rest.
static inline bool lc_follows_reference(void) {
    return lc_library.rounding == LC_ROUNDING_REFERENCE;
}

// The codes of an activation's bounds, as XNNPACK rounds them or else as TFLite does.
void lc_coded_activation(const struct lc_codes *codes, int32_t activation, bool as_xnnpack,
                         int32_t *least, int32_t *most);

static inline int32_t lc_clamp_code(int64_t code, int32_t least, int32_t most) {
    int64_t smaller = code < most ? code : most;
    return (int32_t)(smaller > least ? smaller : least);
}

static inline int32_t lc_code_at(const struct lc_codes *codes, const void *data, size_t i) {
    return codes->is_signed ? ((const int8_t *)data)[i] : ((const uint8_t *)data)[i];
}
