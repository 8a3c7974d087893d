// SPDX-License-Identifier: Apache-2.0

#include "operation/operation.h"

// Elements that a thread handles in about the time that it takes to start one.
enum { ELEMENTS_PER_THREAD = 16384 };

static bool is_coded(const struct tfl_context *context, const struct tfl_ints *tensors) {
    for (int i = 0; i < tensors->size; i++) {
        const struct tfl_tensor *tensor = lc_tensor(context, tensors->data[i]);
        if (tensor && (tensor->type == TFL_INT8 || tensor->type == TFL_UINT8)) {
            return true;
        }
    }
    return false;
}

struct lc_operation lc_operation_of(struct tfl_context *context, const struct tfl_node *node,
                                    int32_t builtin_code) {
    const struct tfl_tensor *output = lc_tensor(context, node->outputs->data[0]);
    return (struct lc_operation){
        .context = context,
        .inputs = node->inputs,
        .outputs = node->outputs,
        .params = node->builtin_data,
        .builtin_code = builtin_code,
        .is_coded = is_coded(context, node->inputs) || is_coded(context, node->outputs),
        .is_half = output && output->type == TFL_FLOAT16,
        .element_bytes = output ? lc_element_size(output->type) : (int32_t)sizeof(float),
    };
}

struct lc_shape lc_input_shape(const struct lc_operation *operation, int i) {
    struct lc_shape shape = {0};
    lc_read_shape(lc_input(operation, i), &shape);
    return shape;
}

struct lc_shape lc_output_shape(const struct lc_operation *operation, int i) {
    struct lc_shape shape = {0};
    lc_read_shape(lc_tensor(operation->context, operation->outputs->data[i]), &shape);
    return shape;
}

bool lc_is_wide_constant(const struct lc_operation *operation, int i) {
    const struct tfl_tensor *input = lc_input(operation, i);
    return input->type == TFL_FLOAT32 && input->allocation_type == TFL_MMAP_RO && input->data;
}

int lc_half_source(const struct lc_operation *operation, int i, const int *sources) {
    const int index = operation->inputs->data[i], source = sources ? sources[index] : -1;
    const struct tfl_tensor *tensor = lc_tensor(operation->context, source);
    const bool is_half = tensor && tensor->type == TFL_FLOAT16 && lc_is_constant(tensor) &&
                         lc_same_dims(tensor->dims, lc_input(operation, i)->dims);
    return is_half && lc_input(operation, i)->type == TFL_FLOAT32 ? source : -1;
}

const int32_t *lc_integers(const struct lc_operation *operation, int i, int32_t *count) {
    struct lc_shape shape = lc_input_shape(operation, i);
    *count = lc_count(&shape, 0, shape.rank);
    return lc_input(operation, i)->data;
}

bool lc_read_shape(const struct tfl_tensor *tensor, struct lc_shape *shape) {
    if (!tensor->dims || tensor->dims->size > LC_MAX_RANK) {
        return false;
    }
    *shape = (struct lc_shape){.rank = tensor->dims->size};
    int32_t elements = 1;
    for (int i = 0; i < shape->rank; i++) {
        int32_t size = shape->dims[i] = tensor->dims->data[i];
        if (size < 0 || (size > 0 && __builtin_mul_overflow(elements, size, &elements))) {
            return false;
        }
    }
    return true;
}

int32_t lc_count(const struct lc_shape *shape, int32_t begin, int32_t end) {
    int32_t elements = 1;
    for (int32_t i = begin; i < end; i++) {
        elements *= shape->dims[i];
    }
    return elements;
}

bool lc_find_axis(int32_t rank, int32_t *axis) {
    *axis += *axis < 0 ? rank : 0;
    return *axis >= 0 && *axis < rank;
}

int32_t lc_operation_threads(const struct lc_operation *operation, int64_t elements) {
    int64_t worth = elements / ELEMENTS_PER_THREAD + 1;
    return operation->threads < worth ? operation->threads : (int32_t)worth;
}

void lc_operation_run(const struct lc_operation *operation, int32_t items, int64_t elements,
                      lc_pool_task task, void *argument) {
    int32_t threads = lc_operation_threads(operation, elements);
    if (threads == 1) {
        if (items > 0) {
            task(argument, 0, 0, items);
        }
        return;
    }
    lc_pool_run(threads, items, false, task, argument);
}
