// SPDX-License-Identifier: Apache-2.0

#include "run/copies/halved.h"

#include <stdlib.h>
#include <string.h>

#include "host/tensor.h"

static size_t bytes_of(int count) { return sizeof(struct lc_halved) + (size_t)count * sizeof(int); }

size_t lc_halved_bytes(const struct lc_halved *halved) { return bytes_of(halved->count); }

bool lc_halve(struct lc_delegate *delegate, struct tfl_context *context, const int *tensors,
              int count) {
    struct lc_halved *halved = malloc(bytes_of(count));
    if (!halved) {
        return false;
    }
    halved->context = context;
    halved->count = count;
    memcpy(halved->tensors, tensors, (size_t)count * sizeof *tensors);
    for (int i = 0; i < count; i++) {
        struct tfl_tensor *tensor = &context->tensors[tensors[i]];
        tensor->type = TFL_FLOAT16;
        tensor->bytes /= 2;
    }
    lc_lock(&delegate->lock);
    halved->next = delegate->halved;
    delegate->halved = halved;
    lc_unlock(&delegate->lock);
    return true;
}

void lc_restore_halved(struct lc_delegate *delegate, struct tfl_context *context) {
    lc_lock(&delegate->lock);
    struct lc_halved **link = &delegate->halved;
    while (*link && (*link)->context != context) {
        link = &(*link)->next;
    }
    struct lc_halved *halved = *link;
    if (halved) {
        *link = halved->next;
    }
    lc_unlock(&delegate->lock);
    for (int i = 0; halved && i < halved->count; i++) {
        struct tfl_tensor *tensor = lc_tensor(context, halved->tensors[i]);
        if (tensor && tensor->type == TFL_FLOAT16) {
            tensor->type = TFL_FLOAT32;
            tensor->bytes *= 2;
        }
    }
    free(halved);
}

void lc_forget_halved(struct lc_delegate *delegate) {
    while (delegate->halved) {
        struct lc_halved *next = delegate->halved->next;
        free(delegate->halved);
        delegate->halved = next;
    }
}
