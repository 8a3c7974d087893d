// SPDX-License-Identifier: Apache-2.0

#include "claim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "candidate.h"
#include "cpu.h"
#include "geometry.h"
#include "log.h"
#include "node.h"
#include "operators.h"
#include "tensor.h"

// Nodes that become one.
struct replacement {
    struct tfl_registration registration;
    int node_count; // 0: there is none
    int nodes[LC_MAX_NODES];
};

struct claims {
    struct lc_graph graph;
    struct lc_delegate *delegate;
    struct replacement *replacements; // by the place in the plan of a core or operator
    struct tfl_ints *unread;          // DEQUANTIZE nodes that nobody reads any more
    int32_t layers, unknown;          // float layers with a kernel, and without
};

// Layers

static void log_claimed(const struct lc_graph *graph, const struct lc_candidate *candidate) {
    const struct lc_chain *chain = &candidate->chain;
    const struct lc_kernel *kernel = candidate->kernel;
    struct lc_constants constants[LC_MAX_LAYERS];
    char nodes[16 * LC_MAX_NODES];
    size_t length = 0;
    for (int32_t i = 0; i < chain->layer_count; i++) {
        constants[i] = lc_layer_constants(&chain->layers[i], graph->context);
    }
    for (int32_t i = 0; i < chain->node_count; i++) {
        length += (size_t)snprintf(nodes + length, sizeof nodes - length, "%s%d", i ? " + " : "",
                                   chain->nodes[i]);
    }
    lc_log("node %s: %s: %zu bytes of packed weights, %llu + %llu a thread of workspace", nodes,
           kernel->name, lc_packed_bytes(kernel, constants),
           (unsigned long long)kernel->shared_bytes, (unsigned long long)kernel->thread_bytes);
}

static void claim_chain(struct claims *claims, int place, const struct lc_candidate *candidate) {
    const struct lc_chain *chain = &candidate->chain;
    struct replacement *replacement = &claims->replacements[place];
    replacement->registration = lc_node_registration(candidate->kernel);
    replacement->node_count = chain->node_count;
    memcpy(replacement->nodes, chain->nodes, sizeof replacement->nodes);
    for (int i = 0; i < claims->graph.plan->size; i++) {
        for (int32_t j = 0; j < chain->node_count; j++) {
            claims->graph.claimed[i] |= claims->graph.plan->data[i] == chain->nodes[j];
        }
    }
    claims->graph.uses[lc_chain_output(chain)].is_ours = true;
    claims->layers += chain->layer_count;
    if (claims->delegate->options.verbose >= 1) {
        log_claimed(&claims->graph, candidate);
    }
}

// A core that stays with TFLite: counts it if its layer could have a kernel.
static void leave(struct claims *claims, int index) {
    struct tfl_context *context = claims->graph.context;
    struct lc_chain chain = {0};
    struct lc_geometry geometry;
    int32_t batch;
    const char *reason = lc_chain_append(&chain, context, index, claims->graph.half_sources);
    if (!reason) {
        reason = lc_chain_geometry(&chain, context, &geometry, &batch);
    }
    claims->unknown += !reason;
    if (claims->delegate->options.verbose >= 2) {
        char name[128] = "a layer";
        if (!reason) {
            lc_geometry_describe(&geometry, name, sizeof name);
        }
        lc_log("node %d: %s stays with TFLite: %s", index, name, reason ? reason : "no kernel");
    }
}

static int claim_layers(struct claims *claims) {
    struct lc_graph *graph = &claims->graph;
    for (int place = 0; place < graph->plan->size; place++) {
        struct tfl_node *node;
        struct tfl_registration *registration;
        struct lc_candidate candidate;
        int index = graph->plan->data[place];
        int status =
            graph->context->GetNodeAndRegistration(graph->context, index, &node, &registration);
        if (status != TFL_OK) {
            return status;
        }
        if (!lc_is_core(registration->builtin_code) || node->delegate || graph->claimed[place]) {
            continue;
        }
        if (lc_candidate_find(&candidate, graph, place, claims->delegate->options.algorithm)) {
            claim_chain(claims, place, &candidate);
        } else {
            leave(claims, index);
        }
    }
    return TFL_OK;
}

// Operators

// Whether a node reads what another claimed node computes.
static bool follows(const struct lc_graph *graph, const struct tfl_node *node) {
    for (int i = 0; i < node->inputs->size; i++) {
        if (lc_tensor(graph->context, node->inputs->data[i]) &&
            graph->uses[node->inputs->data[i]].is_ours) {
            return true;
        }
    }
    return false;
}

// The operators of ours that follow a claimed node.
static int claim_operators(struct claims *claims) {
    struct lc_graph *graph = &claims->graph;
    for (int place = 0; place < graph->plan->size; place++) {
        struct tfl_node *node;
        struct tfl_registration *registration;
        int index = graph->plan->data[place];
        int status =
            graph->context->GetNodeAndRegistration(graph->context, index, &node, &registration);
        if (status != TFL_OK) {
            return status;
        }
        int32_t code = registration->builtin_code;
        if (!graph->claimed[place] && !node->delegate && follows(graph, node) &&
            !lc_operator_refuses(graph->context, node, code)) {
            claims->replacements[place] = (struct replacement){
                .registration = lc_operator_registration(code),
                .node_count = 1,
                .nodes = {index},
            };
            graph->claimed[place] = true;
            graph->uses[node->outputs->data[0]].is_ours = true;
        }
    }
    return TFL_OK;
}

// Float16 constants

// The DEQUANTIZE nodes whose output only claimed layers read. They would still run, and hold a
// float32 copy of the weights, if they were left alone.
static int find_unread(struct claims *claims) {
    const struct lc_graph *graph = &claims->graph;
    for (int i = 0; i < graph->plan->size; i++) {
        struct tfl_node *node;
        struct tfl_registration *registration;
        int index = graph->plan->data[i];
        int status =
            graph->context->GetNodeAndRegistration(graph->context, index, &node, &registration);
        if (status != TFL_OK) {
            return status;
        }
        int output = lc_dequantized_constant(graph, node, registration);
        if (output >= 0 && graph->uses[output].readers == 0 &&
            !graph->uses[output].is_graph_output) {
            claims->unread->data[claims->unread->size++] = index;
        }
    }
    return TFL_OK;
}

static int do_nothing(struct tfl_context *context, struct tfl_node *node) {
    (void)context;
    (void)node;
    return TFL_OK;
}

// Replacement

static int replace(struct claims *claims, struct tfl_registration registration,
                   const struct tfl_ints *nodes) {
    struct tfl_context *context = claims->graph.context;
    struct tfl_registration_argument argument = {.registration = registration};
    return context->ReplaceNodeSubsetsWithDelegateKernels(context, argument, nodes,
                                                          &claims->delegate->base);
}

static int replace_unread(struct claims *claims) {
    const struct tfl_registration nothing = {
        .prepare = do_nothing,
        .invoke = do_nothing,
        .custom_name = "leanconv/float16 constants",
        .version = 1,
    };
    return claims->unread->size > 0 ? replace(claims, nothing, claims->unread) : TFL_OK;
}

// One call for each node of ours: in one call, neighbours would become one node. TFLite puts a new
// node behind all that do not depend on it: in the order of the plan, that order is kept.
static int replace_claimed(struct claims *claims) {
    struct {
        int size;
        int data[LC_MAX_NODES];
    } nodes;
    for (int place = 0; place < claims->graph.plan->size; place++) {
        const struct replacement *replacement = &claims->replacements[place];
        if (replacement->node_count == 0) {
            continue;
        }
        nodes.size = replacement->node_count;
        memcpy(nodes.data, replacement->nodes, sizeof nodes.data);
        int status = replace(claims, replacement->registration,
                             (const struct tfl_ints *)(const void *)&nodes);
        if (status != TFL_OK) {
            return status;
        }
    }
    return TFL_OK;
}

// The delegate's Prepare

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

static int record(struct claims *claims) {
    struct lc_delegate *delegate = claims->delegate;
    lc_lock(&delegate->lock);
    delegate->unknown = claims->unknown;
    lc_unlock(&delegate->lock);
    if (claims->unknown > 0) {
        const char *algorithm = delegate->options.algorithm;
        lc_log("%d of %d float convolutions, depthwise and fully-connected layers have no "
               "%s%skernel in this delegate (compiled for %s) and stay with TFLite",
               (int)claims->unknown, (int)(claims->layers + claims->unknown),
               algorithm ? algorithm : "", algorithm ? " " : "", lc_library.model);
    }
    return TFL_OK;
}

static void claims_free(struct claims *claims) {
    lc_graph_free(&claims->graph);
    free(claims->replacements);
    free(claims->unread);
}

// False if memory cannot be had.
static bool claims_allocate(struct claims *claims) {
    int nodes = claims->graph.plan->size;
    claims->replacements = calloc((size_t)nodes + 1, sizeof *claims->replacements);
    claims->unread = lc_new_ints(nodes);
    if (claims->unread) {
        claims->unread->size = 0;
    }
    return claims->replacements && claims->unread;
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
    struct claims claims = {.delegate = delegate};
    int status = lc_graph_read(&claims.graph, context);
    if (status == TFL_DELEGATE_ERROR || (status == TFL_OK && !claims_allocate(&claims))) {
        lc_log("out of memory: all layers stay with TFLite");
        claims_free(&claims);
        return TFL_OK;
    }
    int (*const steps[])(struct claims *) = {claim_layers,   claim_operators, find_unread,
                                             replace_unread, replace_claimed, record};
    for (size_t i = 0; status == TFL_OK && i < sizeof steps / sizeof *steps; i++) {
        status = steps[i](&claims);
    }
    claims_free(&claims);
    return status;
}
