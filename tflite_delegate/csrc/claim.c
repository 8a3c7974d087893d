// SPDX-License-Identifier: Apache-2.0

#include "claim.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "log.h"
#include "node.h"
#include "operators.h"

// What is known of a graph while its layers are claimed.
struct graph {
    struct tfl_context *context;
    struct lc_delegate *delegate;
    struct tfl_ints *plan;    // copy of the execution plan
    int *half_sources;        // tensor -> the float16 constant that is dequantized into it, or -1
    int *readers;             // tensor -> nodes that read it
    struct tfl_ints *claimed; // node indices
    const struct lc_kernel **kernels; // of the claimed nodes
    bool *ours;                       // tensor -> whether a claimed node computes it
    struct tfl_ints *unread;          // DEQUANTIZE nodes that nobody reads any more
    int32_t unknown;
};

static struct tfl_ints *ints_with_room(int room) {
    struct tfl_ints *ints = malloc(sizeof *ints + (size_t)room * sizeof(int));
    if (ints) {
        ints->size = 0;
    }
    return ints;
}

static void graph_free(struct graph *graph) {
    free(graph->plan);
    free(graph->half_sources);
    free(graph->readers);
    free(graph->ours);
    free(graph->claimed);
    free(graph->kernels);
    free(graph->unread);
}

// False if memory cannot be had. To be freed in either case.
static bool graph_allocate(struct graph *graph, const struct tfl_ints *plan, size_t tensor_count) {
    size_t nodes = (size_t)plan->size;
    graph->plan = ints_with_room(plan->size);
    graph->claimed = ints_with_room(plan->size);
    graph->unread = ints_with_room(plan->size);
    graph->kernels = calloc(nodes + 1, sizeof *graph->kernels);
    graph->half_sources = malloc((tensor_count + 1) * sizeof *graph->half_sources);
    graph->readers = calloc(tensor_count + 1, sizeof *graph->readers);
    graph->ours = calloc(tensor_count + 1, sizeof *graph->ours);
    if (!graph->ours || !graph->plan || !graph->claimed || !graph->unread || !graph->kernels ||
        !graph->half_sources || !graph->readers) {
        return false;
    }
    // TFLite reuses its array at the next call.
    graph->plan->size = plan->size;
    memcpy(graph->plan->data, plan->data, nodes * sizeof(int));
    for (size_t i = 0; i < tensor_count; i++) {
        graph->half_sources[i] = -1;
    }
    return true;
}

// The output of a node that dequantizes a float16 constant, or -1.
static int dequantized_constant(const struct graph *graph, const struct tfl_node *node,
                                const struct tfl_registration *registration) {
    if (registration->builtin_code != TFL_BUILTIN_DEQUANTIZE || node->inputs->size != 1 ||
        node->outputs->size != 1) {
        return -1;
    }
    const struct tfl_tensor *source = lc_tensor(graph->context, node->inputs->data[0]);
    const struct tfl_tensor *output = lc_tensor(graph->context, node->outputs->data[0]);
    bool matches = source && output && source->type == TFL_FLOAT16 && lc_is_constant(source) &&
                   output->type == TFL_FLOAT32;
    return matches ? node->outputs->data[0] : -1;
}

static int survey(struct graph *graph) {
    for (int i = 0; i < graph->plan->size; i++) {
        struct tfl_node *node;
        struct tfl_registration *registration;
        int status = graph->context->GetNodeAndRegistration(graph->context, graph->plan->data[i],
                                                            &node, &registration);
        if (status != TFL_OK) {
            return status;
        }
        for (int j = 0; j < node->inputs->size; j++) {
            if (lc_tensor(graph->context, node->inputs->data[j])) {
                graph->readers[node->inputs->data[j]]++;
            }
        }
        int output = dequantized_constant(graph, node, registration);
        if (output >= 0) {
            graph->half_sources[output] = node->inputs->data[0];
        }
    }
    return TFL_OK;
}

// Has a claimed node read float16 constants themselves instead of their dequantized copies.
static void read_in_place(struct graph *graph, struct tfl_node *node) {
    for (int j = 1; j < node->inputs->size; j++) {
        int tensor = node->inputs->data[j];
        if (tensor >= 0 && graph->half_sources[tensor] >= 0) {
            graph->readers[tensor]--;
            node->inputs->data[j] = graph->half_sources[tensor];
        }
    }
}

// The kernel for a CONV_2D node, or NULL: it stays with TFLite.
static const struct lc_kernel *kernel_for(struct graph *graph, int index,
                                          const struct tfl_node *node) {
    struct lc_layer layer;
    struct lc_geometry geometry;
    int32_t batch;
    const struct lc_kernel *kernel = NULL;
    const char *reason = lc_layer_read(&layer, graph->context, node, graph->half_sources);
    if (!reason) {
        const struct tfl_tensor *input = lc_tensor(graph->context, layer.input);
        reason = lc_layer_geometry(&layer, input->dims, &geometry, &batch);
    }
    if (!reason) {
        kernel = lc_find_kernel(&geometry, graph->delegate->options.algorithm, NULL);
        graph->unknown += !kernel;
    }
    if (kernel && graph->delegate->options.verbose >= 1) {
        lc_log("node %d: %s: %zu bytes of packed weights, %llu + %llu a thread of workspace", index,
               kernel->name, kernel->parts->packed_bytes * (size_t)geometry.groups,
               (unsigned long long)kernel->shared_bytes, (unsigned long long)kernel->thread_bytes);
    } else if (!kernel && graph->delegate->options.verbose >= 2) {
        char name[128] = "CONV_2D";
        if (!reason) {
            lc_geometry_describe(&geometry, name, sizeof name);
        }
        lc_log("node %d: %s stays with TFLite: %s", index, name, reason ? reason : "no kernel");
    }
    return kernel;
}

// Whether a node is an operator of ours that reads what another claimed node computes.
static bool follows(const struct graph *graph, const struct tfl_node *node, int32_t builtin_code) {
    if (lc_operator_refuses(graph->context, node, builtin_code)) {
        return false;
    }
    for (int j = 0; j < node->inputs->size; j++) {
        if (graph->ours[node->inputs->data[j]]) {
            return true;
        }
    }
    return false;
}

static void claim(struct graph *graph, int index, const struct tfl_node *node,
                  const struct lc_kernel *kernel) {
    graph->kernels[graph->claimed->size] = kernel;
    graph->claimed->data[graph->claimed->size++] = index;
    graph->ours[node->outputs->data[0]] = true;
}

static int choose_layers(struct graph *graph) {
    for (int i = 0; i < graph->plan->size; i++) {
        struct tfl_node *node;
        struct tfl_registration *registration;
        int index = graph->plan->data[i];
        int status =
            graph->context->GetNodeAndRegistration(graph->context, index, &node, &registration);
        if (status != TFL_OK) {
            return status;
        }
        if (node->delegate) {
            continue;
        }
        if (registration->builtin_code != TFL_BUILTIN_CONV_2D) {
            if (follows(graph, node, registration->builtin_code)) {
                claim(graph, index, node, NULL);
            }
            continue;
        }
        const struct lc_kernel *kernel = kernel_for(graph, index, node);
        if (kernel) {
            read_in_place(graph, node);
            claim(graph, index, node, kernel);
        }
    }
    return TFL_OK;
}

// The DEQUANTIZE nodes whose output only claimed layers read. They would still run, and hold a
// float32 copy of the weights, if they were left alone.
static int find_unread(struct graph *graph) {
    for (int i = 0; i < graph->plan->size; i++) {
        struct tfl_node *node;
        struct tfl_registration *registration;
        int index = graph->plan->data[i];
        int status =
            graph->context->GetNodeAndRegistration(graph->context, index, &node, &registration);
        if (status != TFL_OK) {
            return status;
        }
        int output = dequantized_constant(graph, node, registration);
        if (output >= 0 && graph->readers[output] == 0) {
            graph->unread->data[graph->unread->size++] = index;
        }
    }
    return TFL_OK;
}

// Drops a node from the unread ones if TFLite needs its output: an output of the whole graph.
static void drop_needed(struct graph *graph, const struct tfl_delegate_params *partition) {
    for (int i = 0; i < partition->nodes_to_replace->size; i++) {
        struct tfl_node *node;
        struct tfl_registration *registration;
        int index = partition->nodes_to_replace->data[i];
        bool needed = graph->context->GetNodeAndRegistration(graph->context, index, &node,
                                                             &registration) != TFL_OK;
        for (int j = 0; !needed && j < partition->output_tensors->size; j++) {
            needed = partition->output_tensors->data[j] == node->outputs->data[0];
        }
        for (int k = 0; needed && k < graph->unread->size; k++) {
            if (graph->unread->data[k] == index) {
                graph->unread->data[k] = graph->unread->data[--graph->unread->size];
            }
        }
    }
}

// A context does not tell the outputs of the graph; a preview of the partitions does.
static int keep_graph_outputs(struct graph *graph) {
    struct tfl_delegate_params *partitions = NULL;
    int count = 0;
    if (graph->unread->size == 0) {
        return TFL_OK;
    }
    int status = graph->context->PreviewDelegatePartitioning(graph->context, graph->unread,
                                                             &partitions, &count);
    for (int i = 0; status == TFL_OK && i < count; i++) {
        drop_needed(graph, &partitions[i]);
    }
    return status;
}

static int do_nothing(struct tfl_context *context, struct tfl_node *node) {
    (void)context;
    (void)node;
    return TFL_OK;
}

static int replace(struct graph *graph, struct tfl_registration registration,
                   const struct tfl_ints *nodes) {
    struct tfl_registration_argument argument = {.registration = registration};
    return graph->context->ReplaceNodeSubsetsWithDelegateKernels(graph->context, argument, nodes,
                                                                 &graph->delegate->base);
}

static int replace_layers(struct graph *graph) {
    if (graph->unread->size > 0) {
        const struct tfl_registration nothing = {
            .prepare = do_nothing,
            .invoke = do_nothing,
            .custom_name = "leanconv/float16 constants",
            .version = 1,
        };
        int status = replace(graph, nothing, graph->unread);
        if (status != TFL_OK) {
            return status;
        }
    }
    // One call for each layer: in one call, neighbours would become one node.
    struct {
        int size;
        int data[1];
    } one = {.size = 1};
    for (int i = 0; i < graph->claimed->size; i++) {
        one.data[0] = graph->claimed->data[i];
        struct tfl_node *node;
        struct tfl_registration *old;
        int status =
            graph->context->GetNodeAndRegistration(graph->context, one.data[0], &node, &old);
        if (status != TFL_OK) {
            return status;
        }
        struct tfl_registration registration = graph->kernels[i]
                                                   ? lc_node_registration(graph->kernels[i])
                                                   : lc_operator_registration(old->builtin_code);
        status = replace(graph, registration, (const struct tfl_ints *)(const void *)&one);
        if (status != TFL_OK) {
            return status;
        }
    }
    return TFL_OK;
}

static bool processor_fits(void) {
    uint32_t missing = lc_library.features & ~lc_cpu_features();
    if (missing) {
        char names[160];
        lc_cpu_feature_names(missing, names, sizeof names);
        lc_log("compiled for %s, this processor lacks %s: all layers stay with TFLite",
               lc_library.target, names);
    }
    return !missing;
}

static void record(struct graph *graph) {
    struct lc_delegate *delegate = graph->delegate;
    int32_t claimed = graph->claimed->size;
    lc_lock(&delegate->lock);
    delegate->unknown = graph->unknown;
    lc_unlock(&delegate->lock);
    if (graph->unknown > 0) {
        const char *algorithm = delegate->options.algorithm;
        lc_log("%d of %d float CONV_2D layers have no %s%skernel in this delegate (compiled for "
               "%s) and stay with TFLite",
               (int)graph->unknown, (int)(claimed + graph->unknown), algorithm ? algorithm : "",
               algorithm ? " " : "", lc_library.model);
    }
}

int lc_claim_layers(struct tfl_context *context, struct tfl_delegate *base) {
    struct lc_delegate *delegate = (struct lc_delegate *)base;
    if (delegate->failure[0]) {
        context->ReportError(context, "%s", delegate->failure);
        return TFL_DELEGATE_ERROR;
    }
    if (!processor_fits()) {
        return TFL_OK;
    }
    struct tfl_ints *plan;
    int status = context->GetExecutionPlan(context, &plan);
    if (status != TFL_OK) {
        return status;
    }
    struct graph graph = {.context = context, .delegate = delegate};
    if (!graph_allocate(&graph, plan, context->tensors_size)) {
        lc_log("out of memory: all layers stay with TFLite");
        graph_free(&graph);
        return TFL_OK;
    }
    int (*const steps[])(struct graph *) = {survey, choose_layers, find_unread, keep_graph_outputs,
                                            replace_layers};
    for (size_t i = 0; status == TFL_OK && i < sizeof steps / sizeof *steps; i++) {
        status = steps[i](&graph);
    }
    if (status == TFL_OK) {
        record(&graph);
    }
    graph_free(&graph);
    return status;
}
