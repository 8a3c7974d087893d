// SPDX-License-Identifier: Apache-2.0
//
// Part of vector.h: the instructions of NEON, two registers a vector.

#include <arm_neon.h>

struct lc_registers {
    float32x4_t low, high;
};

LC_INLINE struct lc_registers lc_split(lc_vector v) {
    struct lc_registers registers;
    memcpy(&registers, &v, sizeof v);
    return registers;
}

LC_INLINE lc_vector lc_join(float32x4_t low, float32x4_t high) {
    struct lc_registers registers = {low, high};
    lc_vector v;
    memcpy(&v, &registers, sizeof v);
    return v;
}

LC_INLINE lc_vector lc_splat(float x) { return lc_join(vdupq_n_f32(x), vdupq_n_f32(x)); }

LC_INLINE lc_vector lc_larger(lc_vector a, lc_vector b) {
    struct lc_registers x = lc_split(a), y = lc_split(b);
    return lc_join(vmaxq_f32(x.low, y.low), vmaxq_f32(x.high, y.high));
}

LC_INLINE lc_vector lc_smaller(lc_vector a, lc_vector b) {
    struct lc_registers x = lc_split(a), y = lc_split(b);
    return lc_join(vminq_f32(x.low, y.low), vminq_f32(x.high, y.high));
}

LC_INLINE lc_vector lc_larger_number(lc_vector a, lc_vector b) {
    struct lc_registers x = lc_split(a), y = lc_split(b);
    return lc_join(vmaxnmq_f32(x.low, y.low), vmaxnmq_f32(x.high, y.high));
}

LC_INLINE lc_vector lc_sqrt(lc_vector v) {
    struct lc_registers x = lc_split(v);
    return lc_join(vsqrtq_f32(x.low), vsqrtq_f32(x.high));
}

// c + a b, rounded once.
LC_INLINE lc_vector lc_fused(lc_vector a, lc_vector b, lc_vector c) {
    struct lc_registers x = lc_split(a), y = lc_split(b), sum = lc_split(c);
    return lc_join(vfmaq_f32(sum.low, x.low, y.low), vfmaq_f32(sum.high, x.high, y.high));
}

// Up to three elements.
LC_INLINE float32x4_t lc_load_few(const float *x, int32_t count, float32x4_t v) {
    if (count & 2) {
        v = vcombine_f32(vld1_f32(x), vget_high_f32(v));
        return count & 1 ? vld1q_lane_f32(x + 2, v, 2) : v;
    }
    return count & 1 ? vld1q_lane_f32(x, v, 0) : v;
}

LC_INLINE lc_vector lc_load_some(const float *x, int32_t count, float filler) {
    float32x4_t fillers = vdupq_n_f32(filler);
    if (count & 4) {
        return lc_join(vld1q_f32(x), lc_load_few(x + 4, count, fillers));
    }
    return lc_join(lc_load_few(x, count, fillers), fillers);
}

// Up to three elements.
LC_INLINE void lc_store_few(float *y, float32x4_t v, int32_t count) {
    if (count & 2) {
        vst1_f32(y, vget_low_f32(v));
        v = vcombine_f32(vget_high_f32(v), vget_high_f32(v));
        y += 2;
    }
    if (count & 1) {
        vst1q_lane_f32(y, v, 0);
    }
}

LC_INLINE void lc_store_some(float *y, lc_vector v, int32_t count) {
    if (count & 4) {
        vst1q_f32(y, lc_split(v).low);
        lc_store_few(y + 4, lc_split(v).high, count);
    } else {
        lc_store_few(y, lc_split(v).low, count);
    }
}
