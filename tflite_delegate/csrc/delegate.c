// SPDX-License-Identifier: Apache-2.0
//
// The entry points of the library.

#include <stdlib.h>
#include <string.h>

#include "claim/claim.h"
#include "host/log.h"
#include "host/pool.h"
#include "leanconv.h"
#include "run/copies/halved.h"
#include "run/node.h"
#include "run/report.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT struct tfl_delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                                          void (*report_error)(const char *));
EXPORT void tflite_plugin_destroy_delegate(struct tfl_delegate *base);

// The delegates that live, so that a program that has no pointer to its delegate can ask for it.
static struct {
    struct lc_lock lock;
    struct lc_delegate *last;
} living;

static void enlist(struct lc_delegate *delegate) {
    lc_lock(&living.lock);
    delegate->older = living.last;
    living.last = delegate;
    lc_unlock(&living.lock);
}

static void delist(const struct lc_delegate *delegate) {
    lc_lock(&living.lock);
    struct lc_delegate **link = &living.last;
    while (*link != delegate) {
        link = &(*link)->older;
    }
    *link = delegate->older;
    lc_unlock(&living.lock);
}

// Tells the host why the delegate is not usable. A host that listens gets no delegate; one that
// does not listen may also not look at the result, so it gets one whose Prepare fails.
static bool refuse(struct lc_delegate *delegate, void (*report_error)(const char *)) {
    if (report_error) {
        report_error(delegate->failure);
        return true;
    }
    lc_log("%s", delegate->failure + strlen("leanconv: "));
    return false;
}

struct tfl_delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                                   void (*report_error)(const char *)) {
    struct lc_delegate *delegate = calloc(1, sizeof *delegate);
    if (!delegate) {
        if (report_error) {
            report_error("leanconv: out of memory");
        }
        return NULL;
    }
    delegate->base.Prepare = lc_claim_layers;
    delegate->base.flags = TFL_DELEGATE_ALLOW_DYNAMIC_TENSORS;
    if (!lc_options_read(&delegate->options, keys, values, count, delegate->failure,
                         sizeof delegate->failure) &&
        refuse(delegate, report_error)) {
        free(delegate);
        return NULL;
    }
    lc_pool_retain();
    enlist(delegate);
    return &delegate->base;
}

void tflite_plugin_destroy_delegate(struct tfl_delegate *base) {
    if (base) {
        delist((struct lc_delegate *)base);
        lc_forget_halved((struct lc_delegate *)base);
        lc_pool_release();
        free(base);
    }
}

EXPORT const char *leanconv_version(void) { return lc_library.version; }

// What `write` tells of a delegate, or of the youngest that lives.
static size_t tell(size_t (*write)(struct lc_delegate *, char *, size_t),
                   const struct TfLiteDelegate *delegate, char *buffer, size_t size) {
    if (delegate) {
        return write((struct lc_delegate *)(void *)(uintptr_t)delegate, buffer, size);
    }
    lc_lock(&living.lock);
    size_t length = write(living.last, buffer, size);
    lc_unlock(&living.lock);
    return length;
}

EXPORT size_t leanconv_report(const struct TfLiteDelegate *delegate, char *buffer, size_t size) {
    return tell(lc_report, delegate, buffer, size);
}

EXPORT size_t leanconv_memory(const struct TfLiteDelegate *delegate, char *buffer, size_t size) {
    return tell(lc_memory, delegate, buffer, size);
}
