// SPDX-License-Identifier: Apache-2.0
//
// Activations of one code: tables that are made once.

#include <math.h>

#include "codes/coded.h"
#include "codes/tables.h"
#include "kernels/geometry.h"
#include "kernels/quantised/fixed_point.h"

struct function {
    struct lc_codes x, y;
    float alpha;
    int32_t least, most;
    struct lc_multiplier above, below; // of codes beyond the zero point, and before it
    bool ties_up;
};

static struct function function_of(const struct lc_operation *operation) {
    return (struct function){.x = lc_input_codes(operation, 0), .y = lc_output_codes(operation)};
}

static void fill(void *state, const struct function *self, lc_code_function function) {
    struct lc_tables *tables = state;
    lc_tables_start(tables, 1);
    lc_table_fill(tables->whole, &self->x, &self->y, function, self);
}

// LOGISTIC: XNNPACK computes it in double precision, TFLite in single.

static int64_t logistic_xnnpack(const void *argument, int32_t code) {
    const struct function *self = argument;
    const float x = (float)(code - self->x.zero) * self->x.scale;
    const float y = (float)(1.0 / (1.0 + exp(-(double)x)));
    return lrintf(y * (1.0f / self->y.scale) + (float)self->y.zero);
}

static int64_t logistic_builtin(const void *argument, int32_t code) {
    const struct function *self = argument;
    const float x = (float)(code - self->x.zero) * self->x.scale;
    const float y = 1.0f / (1.0f + expf(-x));
    return lroundf(y * (1.0f / self->y.scale)) + self->y.zero;
}

static const char *logistic_refuses(const struct lc_operation *operation) {
    const struct lc_codes y = lc_output_codes(operation);
    return y.scale != 1.0f / 256.0f || y.zero != y.least ? "the output's scale is not 1/256" : NULL;
}

static void logistic_start(const struct lc_operation *operation, void *state) {
    struct function self = function_of(operation);
    fill(state, &self, lc_follows_xnnpack() ? logistic_xnnpack : logistic_builtin);
}

const struct lc_coded lc_coded_LOGISTIC = {
    .refuses = logistic_refuses,
    .state_bytes = sizeof(struct lc_tables),
    .start = logistic_start,
    .compute = lc_tables_compute,
};

// LEAKY_RELU: XNNPACK has multipliers of 8 binary digits, and only those that these can tell.

static int64_t leaky_relu_xnnpack(const void *argument, int32_t code) {
    const struct function *self = argument;
    const float ratio = self->x.scale / self->y.scale;
    const int32_t x = code - self->x.zero;
    const float factor = x > 0 ? ratio : ratio * self->alpha;
    return ((x * (int32_t)lrintf(256.0f * factor) + 128) >> 8) + self->y.zero;
}

static int64_t leaky_relu_builtin(const void *argument, int32_t code) {
    const struct function *self = argument;
    const int32_t x = code - self->x.zero;
    const int32_t below = lc_scale_away(x, self->below);
    return self->y.zero + (x >= 0            ? lc_scale_away(x, self->above)
                           : self->alpha > 0 ? below
                                             : -below);
}

static void leaky_relu_start(const struct lc_operation *operation, void *state) {
    struct function self = function_of(operation);
    self.alpha = ((const struct tfl_leaky_relu_params *)operation->params)->alpha;
    const float above = self.x.scale / self.y.scale, below = above * self.alpha;
    const bool fits = above >= 0x1p-8f && above <= 0x1p7f && fabsf(below) >= 0x1p-8f &&
                      below >= -0x1.fffcp6f && below <= 0x1p7f;
    self.above = lc_multiplier_of((double)above);
    self.below = lc_multiplier_of(fabs((double)(self.x.scale * self.alpha / self.y.scale)));
    fill(state, &self, lc_follows_xnnpack() && fits ? leaky_relu_xnnpack : leaky_relu_builtin);
}

static const char *leaky_relu_refuses(const struct lc_operation *operation) {
    const float alpha = ((const struct tfl_leaky_relu_params *)operation->params)->alpha;
    return isfinite(alpha) ? NULL : "the slope is not a number";
}

const struct lc_coded lc_coded_LEAKY_RELU = {
    .refuses = leaky_relu_refuses,
    .state_bytes = sizeof(struct lc_tables),
    .start = leaky_relu_start,
    .compute = lc_tables_compute,
};

// RELU and its kind, as nodes: never XNNPACK's.

static int64_t relu(const void *argument, int32_t code) {
    const struct function *self = argument;
    int32_t y = lc_scale_away(code - self->x.zero, self->above) + self->y.zero;
    return lc_clamp_code(y, self->least, self->most);
}

static void relu_start(const struct lc_operation *operation, void *state) {
    struct function self = function_of(operation);
    const int32_t activation = lc_activation_of_node(operation->builtin_code);
    self.above = lc_multiplier_of((double)(self.x.scale / self.y.scale));
    lc_coded_activation(&self.y, activation, false, &self.least, &self.most);
    fill(state, &self, relu);
}

const struct lc_coded lc_coded_RELU = {
    .state_bytes = sizeof(struct lc_tables),
    .start = relu_start,
    .compute = lc_tables_compute,
};

// HARD_SWISH: never XNNPACK's; fixed point of 16 bits. On Arm, vectors of 8 round other ways.

enum { HARD_SWISH_LANES = 8 };

static int32_t saturate16(int64_t v) {
    return (int32_t)(v < INT16_MIN ? INT16_MIN : v > INT16_MAX ? INT16_MAX : v);
}

static struct lc_multiplier multiplier16_of(double real) {
    struct lc_multiplier by = lc_multiplier_of(real);
    bool is_last = by.mantissa >= INT32_MAX - (1 << 15);
    by.mantissa = is_last ? INT16_MAX : (by.mantissa + (1 << 15)) >> 16;
    return by;
}

static int32_t high_product16(int32_t a, int32_t b) {
    return saturate16(((int64_t)a * b + (1 << 14)) >> 15);
}

static int32_t shift_right(const struct function *self, int32_t v, int32_t n) {
    return self->ties_up ? lc_shift_up(v, n) : lc_shift_away(v, n);
}

static int64_t hard_swish(const void *argument, int32_t code) {
    const struct function *self = argument;
    const int32_t x = (code - self->x.zero) * (1 << 7), shift = self->below.shift;
    const int32_t scaled = high_product16(x, self->above.mantissa);
    // Every code but the zero point itself is saturated by a shift of 16.
    const int32_t left = shift > 16 ? 16 : shift - 1;
    int32_t gate = shift > 0 ? saturate16((int64_t)x * (1 << left)) : x;
    gate = high_product16(gate, self->below.mantissa);
    gate = shift > 0 ? saturate16((int64_t)gate * 2) : shift_right(self, gate, -shift);
    gate = (gate + (1 << 15)) >> 1;
    const int32_t product = gate * scaled;
    const int32_t high = self->ties_up || product >= 0 ? product >> 15 : -(-product >> 15);
    return shift_right(self, high, -self->above.shift) + self->y.zero;
}

static void hard_swish_start(const struct lc_operation *operation, void *state) {
    struct function self = function_of(operation);
    struct lc_tables *tables = state;
    const float fine = (1.0f / 128.0f) * self.x.scale;
    self.above = multiplier16_of((double)(fine / self.y.scale));
    self.below = multiplier16_of((double)(fine / (3.0f / 32768.0f)));
#if defined(__aarch64__)
    self.ties_up = !lc_follows_reference();
#endif
    fill(state, &self, hard_swish);
    if (self.ties_up) {
        self.ties_up = false;
        tables->lanes = HARD_SWISH_LANES;
        lc_table_fill(tables->rest, &self.x, &self.y, hard_swish, &self);
    }
}

static const char *hard_swish_refuses(const struct lc_operation *operation) {
    const struct lc_codes x = lc_input_codes(operation, 0), y = lc_output_codes(operation);
    const struct lc_multiplier by = multiplier16_of((double)(x.scale / 128.0f / y.scale));
    return by.shift > 0 ? "the output's scale is too small" : NULL;
}

const struct lc_coded lc_coded_HARD_SWISH = {
    .refuses = hard_swish_refuses,
    .state_bytes = sizeof(struct lc_tables),
    .start = hard_swish_start,
    .compute = lc_tables_compute,
};
