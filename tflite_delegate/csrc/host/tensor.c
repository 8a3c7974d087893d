// SPDX-License-Identifier: Apache-2.0

#include "host/tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/checked.h"

bool lc_is_constant(const struct tfl_tensor *tensor) {
    return tensor->allocation_type == TFL_MMAP_RO || tensor->allocation_type == TFL_PERSISTENT_RO;
}

bool lc_is_kept(const struct tfl_tensor *tensor) {
    return lc_is_constant(tensor) || tensor->is_variable;
}

bool lc_holds_floats(const struct tfl_tensor *tensor) {
    return tensor->type == TFL_FLOAT32 || tensor->type == TFL_FLOAT16;
}

int lc_element_size(int type) {
    switch (type) {
    case TFL_FLOAT16:
        return 2;
    case TFL_INT8:
    case TFL_UINT8:
        return 1;
    default:
        return 4;
    }
}

bool lc_has_rank(const struct tfl_tensor *tensor, int rank) {
    if (!tensor->dims || tensor->dims->size != rank) {
        return false;
    }
    for (int i = 0; i < rank; i++) {
        if (tensor->dims->data[i] < 1) {
            return false;
        }
    }
    return true;
}

bool lc_ints_contain(const struct tfl_ints *ints, int value) {
    for (int i = 0; i < ints->size; i++) {
        if (ints->data[i] == value) {
            return true;
        }
    }
    return false;
}

bool lc_same_dims(const struct tfl_ints *a, const struct tfl_ints *b) {
    return a && b && a->size == b->size &&
           memcmp(a->data, b->data, (size_t)a->size * sizeof(int)) == 0;
}

bool lc_count_elements(const struct tfl_ints *dims, size_t *elements) {
    *elements = 1;
    for (int i = 0; dims && i < dims->size; i++) {
        if (!lc_multiply(elements, dims->data[i])) {
            return false;
        }
    }
    return dims;
}

static bool is_scale(float scale) { return isfinite(scale) && scale > 0.0f; }

static bool is_code(int type, int code) {
    return type == TFL_INT8 ? code >= INT8_MIN && code <= INT8_MAX : code >= 0 && code <= UINT8_MAX;
}

bool lc_read_quantization(const struct tfl_tensor *tensor, struct lc_quantization *quantization) {
    const struct tfl_affine_quantization *params = tensor->quantization.params;
    if ((tensor->type != TFL_INT8 && tensor->type != TFL_UINT8) || !tensor->dims || !params ||
        tensor->quantization.type != TFL_AFFINE_QUANTIZATION || !params->scale ||
        !params->zero_point) {
        return false;
    }
    const int count = params->scale->size, zeros = params->zero_point->size;
    const int axis = count == 1 ? 0 : params->quantized_dimension;
    if (count < 1 || (zeros != 1 && zeros != count) ||
        (count > 1 &&
         (axis < 0 || axis >= tensor->dims->size || tensor->dims->data[axis] != count))) {
        return false;
    }
    bool fits = true;
    for (int i = 0; i < count; i++) {
        fits &= is_scale(params->scale->data[i]);
    }
    for (int i = 0; i < zeros; i++) {
        fits &= is_code(tensor->type, params->zero_point->data[i]);
    }
    *quantization = (struct lc_quantization){
        .type = tensor->type,
        .count = count,
        .axis = axis,
        .scales = params->scale->data,
        .zero_points = params->zero_point->data,
        .zero_step = zeros > 1,
    };
    return fits;
}

struct tfl_ints *lc_new_ints(int size) {
    struct tfl_ints *ints = malloc(sizeof *ints + (size_t)size * sizeof(int));
    if (ints) {
        ints->size = size;
    }
    return ints;
}

int lc_resize(struct tfl_context *context, int tensor, struct tfl_ints *dims) {
    if (!dims) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    if (lc_same_dims(context->tensors[tensor].dims, dims)) {
        free(dims);
        return TFL_OK;
    }
    return context->ResizeTensor(context, &context->tensors[tensor], dims);
}
