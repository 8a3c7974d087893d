// SPDX-License-Identifier: Apache-2.0

#include "run/report.h"

#include <stdarg.h>
#include <stdio.h>

#include "kernels/geometry.h"
#include "operation/operators.h"
#include "run/account/account.h"

// Text that goes on counting when it no longer fits.
struct text {
    char *buffer;
    size_t size;
    size_t length;
};

static void put_char(struct text *text, char character) {
    if (text->length + 1 < text->size) {
        text->buffer[text->length] = character;
        text->buffer[text->length + 1] = '\0';
    }
    text->length++;
}

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...) {
    char piece[192]; // enough for the formats of this file, which have numbers only
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    for (const char *c = piece; *c; c++) {
        put_char(text, *c);
    }
}

static void put_string(struct text *text, const char *string) {
    put_char(text, '"');
    for (const char *c = string; *c; c++) {
        if ((unsigned char)*c < 0x20) {
            put(text, "\\u%04x", (unsigned)(unsigned char)*c);
            continue;
        }
        if (*c == '"' || *c == '\\') {
            put_char(text, '\\');
        }
        put_char(text, *c);
    }
    put_char(text, '"');
}

static void put_indices(struct text *text, const struct lc_node *node) {
    for (int32_t i = 0; i < node->node_count; i++) {
        put(text, "%s%d", i ? ", " : "", node->nodes[i]);
    }
}

static void put_geometries(struct text *text, const struct lc_node *node) {
    for (int32_t i = 0; i < node->chain.layer_count; i++) {
        char name[160];
        lc_geometry_describe(&node->layers[i], name, sizeof name);
        put(text, i ? ", " : "");
        put_string(text, name);
    }
}

static void put_node(struct text *text, struct lc_node *node) {
    put(text, "{\"node\": %d, \"nodes\": [", node->chain.layers[0].core);
    put_indices(text, node);
    put(text, "], \"layers\": [");
    put_geometries(text, node);
    put(text, "], \"algorithm\": ");
    put_string(text, node->kernel ? node->kernel->algorithm : "generic");
    put(text, ", \"name\": ");
    put_string(text, node->name);
    put(text, ", \"workspace_bytes\": %zu, \"packed_bytes\": %zu, \"embedded_bytes\": %zu",
        node->workspace_bytes, node->packed.bytes, node->packed.embedded_bytes);
    put(text, ", \"calls\": %llu, \"generic_calls\": %llu}", atomic_load(&node->calls),
        atomic_load(&node->generic_calls));
}

static void put_layers(struct text *text, struct lc_delegate *delegate) {
    // New nodes are put in front of the list: the report is in the order of the graph.
    struct lc_node *node = delegate->nodes;
    while (node && node->next) {
        node = node->next;
    }
    for (; node; node = node->previous) {
        put_node(text, node);
        put(text, node->previous ? ", " : "");
    }
}

static void put_operators(struct text *text, struct lc_delegate *delegate) {
    struct lc_operator_node *node = delegate->operators;
    while (node && node->next) {
        node = node->next;
    }
    for (; node; node = node->previous) {
        put(text, "{\"node\": %d, \"name\": ", node->index);
        put_string(text, node->name);
        put(text, ", \"calls\": %llu}%s", atomic_load(&node->calls), node->previous ? ", " : "");
    }
}

static int32_t count_layers(const struct lc_delegate *delegate) {
    int32_t count = 0;
    for (const struct lc_node *node = delegate->nodes; node; node = node->next) {
        count++;
    }
    return count;
}

static int32_t threads_of(const struct lc_delegate *delegate) {
    int32_t threads = delegate->options.num_threads ? delegate->options.num_threads : 1;
    for (const struct lc_node *node = delegate->nodes; node; node = node->next) {
        threads = node->threads > threads ? node->threads : threads;
    }
    return threads;
}

static void put_account(struct text *text, const struct lc_delegate *delegate) {
    const struct lc_account account = lc_account_of(delegate);
    const struct {
        const char *name;
        uint64_t bytes;
    } figures[] = {
        {"memory_limit", delegate->options.memory_limit},
        {"promised_arena_bytes", account.promised_arena_bytes},
        {"promised_packed_bytes", account.promise ? account.promise->packed_bytes : 0},
        {"promised_own_bytes", account.promise ? account.promise->own_bytes : 0},
        {"arena_bytes", account.arena_bytes},
        {"workspace_bytes", account.workspace_bytes},
        {"packed_bytes", account.packed_bytes},
        {"embedded_bytes", account.embedded_bytes},
        {"own_bytes", account.own_bytes},
    };
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        put(text, "%s\"%s\": %llu", i ? ", " : "{", figures[i].name,
            (unsigned long long)figures[i].bytes);
    }
    put(text, "}");
}

static struct text begin(char *buffer, size_t size) {
    struct text text = {.buffer = buffer, .size = buffer ? size : 0};
    if (text.size) {
        buffer[0] = '\0';
    }
    return text;
}

size_t lc_memory(struct lc_delegate *delegate, char *buffer, size_t size) {
    struct text text = begin(buffer, size);
    if (delegate) {
        lc_lock(&delegate->lock);
        put_account(&text, delegate);
        lc_unlock(&delegate->lock);
    } else {
        put(&text, "{}");
    }
    return text.length;
}

size_t lc_report(struct lc_delegate *delegate, char *buffer, size_t size) {
    struct text text = begin(buffer, size);
    put(&text, "{\"leanconv\": ");
    put_string(&text, lc_library.version);
    put(&text, ", \"target\": ");
    put_string(&text, lc_library.target);
    put(&text, ", \"model\": ");
    put_string(&text, lc_library.model);
    put(&text, ", \"kernels\": %zu", lc_library.kernel_count);
    if (delegate) {
        lc_lock(&delegate->lock);
        put(&text, ", \"threads\": %d, \"claimed\": %d, \"unknown\": %d, \"live_bytes\": %zu",
            (int)threads_of(delegate), (int)count_layers(delegate), (int)delegate->unknown,
            delegate->live_bytes);
        put(&text, ", \"layers\": [");
        put_layers(&text, delegate);
        put(&text, "], \"operators\": [");
        put_operators(&text, delegate);
        put(&text, "], \"memory\": ");
        put_account(&text, delegate);
        lc_unlock(&delegate->lock);
    }
    put(&text, "}");
    return text.length;
}
