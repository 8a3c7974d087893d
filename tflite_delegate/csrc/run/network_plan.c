// SPDX-License-Identifier: Apache-2.0
//
// The memory of a network: how long every tensor inside is in use, which of them share their memory
// because a step works in place, and where they lie.

#include <stdlib.h>

#include "host/arena.h"
#include "host/tensor.h"
#include "run/network.h"
#include "run/placement.h"

struct plan {
    const struct lc_network *network;
    const struct tfl_tensor *tensors;
    const struct tfl_ints *outputs; // of the network: TFLite keeps them
    struct lc_view *views;          // of every tensor so far
    struct lc_slot *slots;          // of each view; of no bytes if that has another one's
    int32_t count;
    int32_t *numbers; // of each tensor: 1 + that of its view, 0 if it has none
};

static const struct lc_view *find_view(const struct plan *plan, int tensor) {
    int32_t number = lc_tensor(plan->network->context, tensor) ? plan->numbers[tensor] : 0;
    return number > 0 ? &plan->views[number - 1] : NULL;
}

// Working in place

// Whether a step behind `index` reads a tensor that lies in the slot of `owner`.
static bool is_read_later(const struct plan *plan, int32_t owner, int32_t index) {
    for (int32_t i = index + 1; i < plan->network->step_count; i++) {
        const struct tfl_ints *inputs = plan->network->steps[i].node.inputs;
        for (int j = 0; j < inputs->size; j++) {
            const struct lc_view *view = find_view(plan, inputs->data[j]);
            if (view && view->owner == owner) {
                return true;
            }
        }
    }
    return false;
}

static int count_owned(const struct plan *plan, const struct tfl_ints *inputs, int32_t owner) {
    int count = 0;
    for (int i = 0; i < inputs->size; i++) {
        const struct lc_view *view = find_view(plan, inputs->data[i]);
        count += view && view->owner == owner;
    }
    return count;
}

// The view whose slot a step's output may take over, or -1: what TFLite's planner allows for a
// node of its own (an input of the network stays as it is), and nothing that another operand of the
// step lies in too.
static int32_t owner_in_place(const struct plan *plan, int32_t index, int output) {
    const struct lc_step *step = &plan->network->steps[index];
    const uint64_t flags = step->registration.inplace_operator;
    static const uint64_t shared[] = {TFL_INPLACE_INPUT_0, TFL_INPLACE_INPUT_1};
    const struct tfl_ints *inputs = step->node.inputs;
    for (int i = 0; i < inputs->size && i < 2; i++) {
        const struct lc_view *view = find_view(plan, inputs->data[i]);
        if (!view || !(flags & shared[i]) ||
            plan->tensors[view->tensor].bytes != plan->tensors[output].bytes) {
            continue;
        }
        if ((flags & TFL_INPLACE_DATA_UNMODIFIED) ||
            (!is_read_later(plan, view->owner, index) &&
             count_owned(plan, inputs, view->owner) == 1)) {
            return view->owner;
        }
    }
    return -1;
}

// Lives

static void add_tensor(struct plan *plan, int32_t index, int tensor, int32_t owner) {
    int32_t number = plan->count++;
    plan->numbers[tensor] = number + 1;
    plan->views[number] = (struct lc_view){
        .tensor = tensor,
        .owner = owner < 0 ? number : owner,
    };
    plan->slots[number] = (struct lc_slot){
        .id = number,
        .bytes = owner < 0 ? plan->tensors[tensor].bytes : 0,
        .first = index,
        .last = index,
    };
}

static void add_step(struct plan *plan, int32_t index) {
    const struct tfl_node *node = &plan->network->steps[index].node;
    for (int i = 0; i < node->inputs->size; i++) {
        const struct lc_view *view = find_view(plan, node->inputs->data[i]);
        if (view) {
            plan->slots[view->owner].last = index;
        }
    }
    for (int i = 0; i < node->outputs->size; i++) {
        int output = node->outputs->data[i];
        const struct tfl_tensor *tensor = lc_tensor(plan->network->context, output);
        if (tensor && tensor->allocation_type == TFL_ARENA_RW &&
            !lc_ints_contain(plan->outputs, output)) {
            add_tensor(plan, index, output, i == 0 ? owner_in_place(plan, index, output) : -1);
        }
    }
    for (int i = 0; i < node->temporaries->size; i++) {
        add_tensor(plan, index, node->temporaries->data[i], -1);
    }
}

static size_t count_tensors(const struct lc_network *network) {
    size_t count = 1;
    for (int32_t i = 0; i < network->step_count; i++) {
        const struct tfl_node *node = &network->steps[i].node;
        count += (size_t)node->outputs->size + (size_t)node->temporaries->size;
    }
    return count;
}

// False without memory, or where sizes overflow.
static bool place(struct plan *plan, size_t *bytes) {
    for (int32_t i = 0; i < plan->network->step_count; i++) {
        add_step(plan, i);
    }
    if (!lc_place_slots(plan->slots, plan->count, bytes)) {
        return false;
    }
    for (int32_t i = 0; i < plan->count; i++) {
        plan->views[plan->slots[i].id].offset = plan->slots[i].offset;
    }
    for (int32_t i = 0; i < plan->count; i++) {
        plan->views[i].offset = plan->views[plan->views[i].owner].offset;
    }
    return true;
}

int lc_network_plan(struct lc_network *network, struct tfl_node *tfl_node) {
    struct tfl_context *context = network->context;
    size_t count = count_tensors(network), bytes = 0;
    struct plan plan = {
        .network = network,
        .tensors = context->tensors,
        .outputs = tfl_node->outputs,
        .views = calloc(count, sizeof *plan.views),
        .slots = calloc(count, sizeof *plan.slots),
        .numbers = calloc(context->tensors_size + 1, sizeof *plan.numbers),
    };
    bool good =
        plan.views && plan.slots && plan.numbers && place(&plan, &bytes) &&
        (bytes == 0 ? lc_set_temporaries(tfl_node, NULL, 0)
                    : lc_arena_request(context, &network->arena, "leanconv/network", bytes) &&
                          lc_set_temporaries(tfl_node, &network->arena, 1));
    free(plan.slots);
    free(plan.numbers);
    free(network->views);
    network->views = plan.views;
    network->view_count = good ? plan.count : 0;
    network->arena_bytes = bytes;
    if (!good) {
        context->ReportError(context, "leanconv: out of memory");
        return TFL_ERROR;
    }
    return TFL_OK;
}
