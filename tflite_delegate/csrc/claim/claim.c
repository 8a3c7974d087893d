// SPDX-License-Identifier: Apache-2.0

#include "claim/claim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claim/candidate.h"
#include "claim/coverage.h"
#include "claim/halving.h"
#include "claim/limit.h"
#include "claim/misstated.h"
#include "claim/operator_claim.h"
#include "host/checked.h"
#include "host/cpu.h"
#include "host/log.h"
#include "host/tensor.h"
#include "kernels/embedded/embedded.h"
#include "kernels/geometry.h"
#include "kernels/kernels.h"
#include "operation/inplace.h"
#include "run/copies/halved.h"
#include "run/network.h"
#include "run/node.h"
#include "run/pages.h"
#include "run/replace.h"

struct claims {
    struct lc_graph graph;
    struct lc_delegate *delegate;
    struct lc_replacement *replacements; // by the place in the plan of a core or operator
    int32_t layers, unknown;             // float layers with a kernel, and without
    size_t packed_bytes;                 // that these take in memory
    struct lc_claim claim;
    struct lc_coverage coverage;
};

// Layers

// Bytes of what its weights are packed to.
static size_t packed_bytes(const struct lc_graph *graph, const struct lc_candidate *candidate) {
    const struct lc_chain *chain = &candidate->chain;
    struct lc_constants constants[LC_MAX_LAYERS];
    struct lc_packed packed;
    size_t bias[LC_MAX_LAYERS];
    for (int32_t i = 0; i < chain->layer_count; i++) {
        constants[i] = lc_layer_constants(&chain->layers[i], graph->context);
    }
    return lc_packed_places(&packed, bias, candidate->kernel, constants) ? packed.bytes : 0;
}

static void log_claimed(const struct lc_candidate *candidate, size_t bytes) {
    const struct lc_chain *chain = &candidate->chain;
    const struct lc_kernel *kernel = candidate->kernel;
    char nodes[16 * LC_MAX_NODES];
    size_t length = 0;
    for (int32_t i = 0; i < chain->node_count; i++) {
        length += (size_t)snprintf(nodes + length, sizeof nodes - length, "%s%d", i ? " + " : "",
                                   chain->nodes[i]);
    }
    lc_log("node %s: %s: %zu bytes of packed weights, %llu + %llu a thread of workspace", nodes,
           kernel->name, bytes, (unsigned long long)kernel->shared_bytes,
           (unsigned long long)kernel->thread_bytes);
}

// The tensor in whose place the chain's output may lie, or TFL_OPTIONAL_TENSOR.
static int overwritten(const struct lc_graph *graph, const struct lc_candidate *candidate) {
    const struct lc_chain *chain = &candidate->chain;
    const int input = lc_chain_input(chain), residual = lc_chain_residual(chain);
    const struct tfl_tensor *output = lc_tensor(graph->context, lc_chain_output(chain));
    const int32_t overwrites = candidate->kernel->overwrites;
    const bool is_input = overwrites == LC_INPUT;
    const int tensor = is_input ? input : residual;
    bool may = overwrites != LC_NOTHING && (is_input || residual != input) &&
               lc_tensor(graph->context, tensor) && output->type != TFL_FLOAT16 &&
               !chain->layers[0].upsampling.rows;
    return may && lc_may_overwrite(graph, tensor) ? tensor : TFL_OPTIONAL_TENSOR;
}

static void claim_chain(struct claims *claims, int place, const struct lc_candidate *candidate) {
    const struct lc_chain *chain = &candidate->chain;
    struct lc_replacement *replacement = &claims->replacements[place];
    replacement->registration = lc_node_registration(candidate->kernel);
    replacement->node_count = chain->node_count;
    replacement->first_input = overwritten(&claims->graph, candidate);
    if (replacement->first_input != TFL_OPTIONAL_TENSOR) {
        replacement->registration.inplace_operator = TFL_INPLACE_INPUT_0;
    }
    replacement->computes_halves = candidate->kernel->layers->element == LC_FLOAT16;
    memcpy(replacement->nodes, chain->nodes, sizeof replacement->nodes);
    for (int i = 0; i < claims->graph.plan->size; i++) {
        for (int32_t j = 0; j < chain->node_count; j++) {
            claims->graph.claimed[i] |= claims->graph.plan->data[i] == chain->nodes[j];
        }
    }
    claims->layers += chain->layer_count;
    size_t bytes = packed_bytes(&claims->graph, candidate);
    if (claims->delegate->options.verbose >= 1) {
        log_claimed(candidate, bytes);
    }
    if (!candidate->is_embedded && lc_round_up(&bytes)) {
        claims->packed_bytes += bytes;
    }
}

// Whether there were a kernel for the layer if pairs of products with its weights did not pass 16
// bits.
static bool overflows_pairs(const struct lc_geometry *geometry, const char *algorithm) {
    struct lc_geometry other = *geometry;
    other.pairs = 1;
    return lc_sums_integers(geometry) && !geometry->pairs && lc_find_kernel(&other, 1, algorithm);
}

// A core that stays with TFLite: counts it if its layer could have a kernel.
static void leave(struct claims *claims, int index, int32_t builtin_code) {
    struct tfl_context *context = claims->graph.context;
    struct lc_chain chain = {0};
    struct lc_geometry geometry;
    int32_t batch;
    const char *reason = lc_chain_append(&chain, context, index, claims->graph.sources);
    if (!reason) {
        reason = lc_chain_geometry(&chain, context, &geometry, &batch);
    }
    if (!reason && overflows_pairs(&geometry, claims->delegate->options.algorithm)) {
        reason = "sums of pairs of products with its weights of -128 pass 16 bits";
    }
    claims->unknown += !reason;
    if (claims->delegate->options.verbose >= 2) {
        char name[128];
        if (reason) {
            snprintf(name, sizeof name, "%s", lc_core_name(builtin_code));
        } else {
            lc_geometry_describe(&geometry, name, sizeof name);
        }
        lc_log("node %d: %s stays with TFLite: %s", index, name, reason ? reason : "no kernel");
    }
}

// Whether nobody needs what a node of one output computes.
static bool is_unread(const struct lc_graph *graph, const struct tfl_node *node) {
    return node->outputs->size == 1 && lc_tensor(graph->context, node->outputs->data[0]) &&
           lc_is_unread(graph, node->outputs->data[0]);
}

static int claim_layers(struct claims *claims) {
    struct lc_graph *graph = &claims->graph;
    lc_mark_misstated(graph);
    for (int place = 0; place < graph->plan->size; place++) {
        struct lc_node_view view;
        struct lc_candidate candidate;
        if (!lc_node_at(graph->context, graph->plan->data[place], &view)) {
            return TFL_ERROR;
        }
        if (!lc_core_name(view.builtin_code) || view.node->delegate || graph->claimed[place] ||
            is_unread(graph, view.node)) {
            continue;
        }
        if (lc_candidate_find(&candidate, graph, place, claims->delegate->options.algorithm)) {
            claim_chain(claims, place, &candidate);
        } else {
            leave(claims, view.index, view.builtin_code);
        }
    }
    return TFL_OK;
}

// Operators

static int claim_operators(struct claims *claims) {
    return lc_claim_operators(&claims->graph, claims->replacements);
}

static int halve_between(struct claims *claims) {
    lc_halve_between(&claims->graph, claims->delegate, claims->replacements);
    return TFL_OK;
}

// For the weights that the nodes will pack, or have embedded.
static int make_room(struct claims *claims) {
    lc_expect_embedded();
    claims->claim.region = lc_region_new(claims->packed_bytes);
    return TFL_OK;
}

// False if every node of ours is to be a node of TFLite.
static bool replace_as_one(struct claims *claims, int *status) {
    const struct lc_coverage *coverage = &claims->coverage;
    const char *reason = NULL;
    if (!claims->delegate->options.one_node || coverage->ours == 0) {
        return false;
    }
    if (claims->delegate->options.memory_limit) {
        reason = "memory_limit counts what lies between nodes";
    } else if (coverage->ours + coverage->halves == coverage->nodes) {
        reason = lc_network_replace(&claims->graph, claims->delegate, claims->replacements, status);
        if (!reason) {
            return true;
        }
    } else if (coverage->left < 0) {
        reason = "another delegate has taken a part";
    }
    lc_log_many_nodes(coverage, &claims->graph, reason);
    return false;
}

static int replace_all(struct claims *claims) {
    struct tfl_delegate *base = &claims->delegate->base;
    int status = TFL_OK;
    claims->coverage = lc_coverage_of(&claims->graph);
    if (!replace_as_one(claims, &status)) {
        status = lc_replace_unread(&claims->graph, base);
        if (status == TFL_OK) {
            status = lc_replace_claimed(&claims->graph, base, claims->replacements);
        }
    }
    if (status == TFL_OK) {
        lc_give_back_pages(&claims->graph, claims->delegate);
    }
    return status;
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
        lc_log("%d of %d convolutions, depthwise and fully-connected layers have no "
               "%s%skernel in this delegate (compiled for %s) and stay with TFLite",
               (int)claims->unknown, (int)(claims->layers + claims->unknown),
               algorithm ? algorithm : "", algorithm ? " " : "", lc_library.model);
    }
    lc_log_coverage(&claims->coverage, delegate);
    return TFL_OK;
}

static void claims_free(struct claims *claims) {
    lc_graph_free(&claims->graph);
    free(claims->replacements);
    if (claims->claim.region) { // whose other users are the nodes
        lc_region_release(claims->claim.region);
    }
}

// False if memory cannot be had.
static bool claims_allocate(struct claims *claims) {
    size_t nodes = (size_t)claims->graph.plan->size;
    claims->replacements = calloc(nodes + 1, sizeof *claims->replacements);
    return claims->replacements;
}

static void begin(struct lc_delegate *delegate, struct lc_claim *claim) {
    lc_lock(&delegate->lock);
    claim->next = delegate->claims;
    delegate->claims = claim;
    lc_unlock(&delegate->lock);
}

static void end(struct lc_delegate *delegate, const struct lc_claim *claim) {
    lc_lock(&delegate->lock);
    struct lc_claim **link = &delegate->claims;
    while (*link != claim) {
        link = &(*link)->next;
    }
    *link = claim->next;
    lc_unlock(&delegate->lock);
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
    if (status != TFL_OK || !claims_allocate(&claims)) {
        lc_log("%s: all layers stay with TFLite",
               status == TFL_ERROR ? "TFLite cannot divide the graph" : "out of memory");
        claims_free(&claims);
        return TFL_OK;
    }
    if (!lc_keep_limit(&claims.graph, delegate)) {
        claims_free(&claims);
        return TFL_OK;
    }
    claims.claim = (struct lc_claim){.context = context,
                                     .graph_nodes = claims.graph.plan->size,
                                     .plan = claims.graph.kept_plan,
                                     .sources = claims.graph.sources};
    begin(delegate, &claims.claim);
    int (*const steps[])(struct claims *) = {claim_layers, claim_operators, halve_between,
                                             make_room,    replace_all,     record};
    for (size_t i = 0; status == TFL_OK && i < sizeof steps / sizeof *steps; i++) {
        status = steps[i](&claims);
    }
    end(delegate, &claims.claim);
    if (status != TFL_OK) {
        lc_restore_halved(delegate, context);
    }
    claims_free(&claims);
    return status;
}
