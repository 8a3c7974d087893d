// SPDX-License-Identifier: Apache-2.0

#include "host/arena.h"

#include <stdint.h>
#include <stdlib.h>

#include "host/tensor.h"

// Memory is asked for in rows of this size, so that the number of rows fits TFLite's int.
enum { ROW = 64 };

static bool add(struct tfl_context *context, int *index, const char *name) {
    if (context->AddTensors(context, 1, index) != TFL_OK) {
        *index = -1;
        return false;
    }
    struct tfl_tensor *added = &context->tensors[*index];
    added->type = TFL_UINT8;
    added->allocation_type = TFL_ARENA_RW;
    added->name = name;
    return true;
}

bool lc_arena_request(struct tfl_context *context, int *index, const char *name, size_t bytes) {
    size_t rows = bytes / ROW + (bytes % ROW != 0);
    if (rows > INT32_MAX || (*index < 0 && !add(context, index, name))) {
        return false;
    }
    struct tfl_ints *dims = lc_new_ints(2);
    if (!dims) {
        return false;
    }
    dims->data[0] = (int)rows;
    dims->data[1] = ROW;
    return context->ResizeTensor(context, &context->tensors[*index], dims) == TFL_OK;
}

bool lc_set_temporaries(struct tfl_node *node, const int *tensors, int count) {
    if (!node->temporaries || node->temporaries->size != count) {
        struct tfl_ints *temporaries = lc_new_ints(count);
        if (!temporaries) {
            return false;
        }
        free(node->temporaries); // TFLite frees the last one
        node->temporaries = temporaries;
    }
    for (int i = 0; i < count; i++) {
        node->temporaries->data[i] = tensors[i];
    }
    return true;
}
