// SPDX-License-Identifier: Apache-2.0
//
// Size arithmetic that reports overflow.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// *product *= factor. False on overflow or if factor is negative.
static inline bool lc_multiply(size_t *product, int64_t factor) {
    return factor >= 0 && !__builtin_mul_overflow(*product, (size_t)factor, product);
}

// *sum += term. False on overflow.
static inline bool lc_add(size_t *sum, size_t term) {
    return !__builtin_add_overflow(*sum, term, sum);
}

enum { LC_CACHE_LINE = 64 };

// Rounds up to whole cache lines. False on overflow.
static inline bool lc_round_up(size_t *bytes) {
    bool good = lc_add(bytes, LC_CACHE_LINE - 1);
    *bytes = *bytes / LC_CACHE_LINE * LC_CACHE_LINE;
    return good;
}

// a * b + c for positive values that may each be as large as INT32_MAX.
static inline int64_t lc_multiply_add(int32_t a, int32_t b, int64_t c) {
    return (int64_t)a * b + c;
}
