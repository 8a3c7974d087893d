/* QEMU plugin: executed A64 instructions by class, between `hint #100` and `hint #101`.
 *
 *   qemu-aarch64 -plugin count_instructions.so,out=FILE PROGRAM
 *
 * appends one JSON object a closed region to FILE, in the order in which the regions closed. The
 * two markers themselves are not counted. A region belongs to the thread that opened it: other
 * threads' instructions are not counted, and their stop markers do not close it. Regions do not
 * nest: a start marker inside an open region starts it afresh. */

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a64.h"
#include "qemu_plugin_api.h"

EXPORT int qemu_plugin_version = PLUGIN_INTERFACE_VERSION;

#define NO_THREAD (-1)

static atomic_int counted_thread = NO_THREAD; /* the emulator's number of the region's thread */
static uint64_t region[COUNTERS];
static FILE *output;

static void fail(const char *reason) {
    fprintf(stderr, "count_instructions: %s\n", reason);
    exit(EXIT_FAILURE);
}

/* What the emulator keeps a pointer to, until the program ends: translated code is never known to
 * be dead. */
static struct counts *keep(const struct counts *counts) {
    struct counts *kept = malloc(sizeof *kept);
    if (!kept)
        fail("out of memory");
    *kept = *counts;
    return kept;
}

static void on_executed(unsigned thread, void *userdata) {
    if ((int)thread != atomic_load_explicit(&counted_thread, memory_order_relaxed))
        return;
    const struct counts *executed = userdata;
    for (int i = 0; i < COUNTERS; i++)
        region[i] += executed->of[i];
}

static void on_start_marker(unsigned thread, void *userdata) {
    (void)userdata;
    memset(region, 0, sizeof region);
    atomic_store_explicit(&counted_thread, (int)thread, memory_order_relaxed);
}

static void on_stop_marker(unsigned thread, void *userdata) {
    (void)userdata;
    if ((int)thread != atomic_load_explicit(&counted_thread, memory_order_relaxed))
        return;
    atomic_store_explicit(&counted_thread, NO_THREAD, memory_order_relaxed);
    for (int i = 0; i < COUNTERS; i++)
        fprintf(output, "%s\"%s\": %" PRIu64, i ? ", " : "{", counter_names[i], region[i]);
    fputs("}\n", output);
    fflush(output); /* the program may end by a signal */
}

/* A block is counted in one go when it is entered, which is exact because a block without markers
 * lies either inside or outside a region as a whole. In a block with a marker every instruction is
 * counted by itself, so that what stands behind a marker is not seen by it. */
static void on_block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    const size_t instructions = qemu_plugin_tb_n_insns(tb);
    struct counts block = {{0}};
    bool has_marker = false;
    for (size_t i = 0; i < instructions; i++) {
        const uint32_t word = instruction_word(qemu_plugin_tb_get_insn(tb, i));
        has_marker |= word == START_MARKER || word == STOP_MARKER;
        add(&block, decode(word));
    }
    if (!has_marker) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_executed, QEMU_PLUGIN_CB_NO_REGS, keep(&block));
        return;
    }
    for (size_t i = 0; i < instructions; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint32_t word = instruction_word(insn);
        if (word == START_MARKER || word == STOP_MARKER) {
            qemu_plugin_register_vcpu_insn_exec_cb(
                insn, word == START_MARKER ? on_start_marker : on_stop_marker,
                QEMU_PLUGIN_CB_NO_REGS, NULL);
            continue;
        }
        struct counts one = {{0}};
        add(&one, decode(word));
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_executed, QEMU_PLUGIN_CB_NO_REGS,
                                               keep(&one));
    }
}

static void on_exit(qemu_plugin_id_t id, void *userdata) {
    (void)id;
    (void)userdata;
    fclose(output);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                               char **argv) {
    static const char out_option[] = "out=";
    if (strcmp(info->target_name, "aarch64") != 0)
        return -1;
    if (argc != 1 || strncmp(argv[0], out_option, sizeof out_option - 1) != 0) {
        fputs("count_instructions: the only argument is out=FILE\n", stderr);
        return -1;
    }
    output = fopen(argv[0] + sizeof out_option - 1, "a");
    if (!output) {
        fprintf(stderr, "count_instructions: %s: %s\n", argv[0], strerror(errno));
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block_translated);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
