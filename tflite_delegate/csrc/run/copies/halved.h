// SPDX-License-Identifier: Apache-2.0
//
// Tensors of the model that are float16 while our nodes are there, as all that read or write them
// do so in float16. They are float32 again once the nodes go away.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "run/node.h"

// The tensors of one graph.
struct lc_halved {
    const struct tfl_context *context;
    struct lc_halved *next;
    int count;
    int tensors[];
};

// Its bytes on the heap.
size_t lc_halved_bytes(const struct lc_halved *halved);

// Makes the `count` tensors float16. False, and nothing has changed, without memory.
bool lc_halve(struct lc_delegate *delegate, struct tfl_context *context, const int *tensors,
              int count);

// Makes those of a graph float32 again, if there are any.
void lc_restore_halved(struct lc_delegate *delegate, struct tfl_context *context);

// Forgets those of all graphs, which are no more.
void lc_forget_halved(struct lc_delegate *delegate);
