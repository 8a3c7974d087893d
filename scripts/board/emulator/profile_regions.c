/* QEMU plugin: the blocks executed between `hint #100` and `hint #101`, and their cache misses.
 *
 *   qemu-aarch64 -plugin profile_regions.so,out=FILE,l1=BYTES:WAYS,l2=BYTES:WAYS PROGRAM
 *
 * appends one JSON object a closed region to FILE, in the order in which the regions closed:
 *
 *   {"l1_misses": n, "l2_misses": n, "blocks": [{"executions": n, …}, …]}
 *
 * with one entry for every block of straight-line code that was executed in the region, as the
 * emulator cuts them: its executions, instructions by class (a64.h), loads and stores of vector
 * registers in parts of at most 8 and at most 16 bytes ("v_ld_8", "v_ld_16", "v_st_8", "v_st_16"),
 * and "fma_chain" (below). The block of a marker itself belongs to the caller and is left out.
 * Programs have one thread.
 *
 * Both caches are empty at the program's start, and every load and store goes through them, inside
 * and outside regions. They are set-associative with 64-byte lines, replace what was used least
 * recently, allocate on writes, and are indexed by virtual addresses; a miss in the first is looked
 * up in the second. What is written back, prefetches and translations are not simulated. */

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a64.h"
#include "qemu_plugin_api.h"

EXPORT int qemu_plugin_version = PLUGIN_INTERFACE_VERSION;

static void fail(const char *reason) {
    fprintf(stderr, "profile_regions: %s\n", reason);
    exit(EXIT_FAILURE);
}

/* ---- caches -----------------------------------------------------------------------------------
 */

#define LOG2_LINE_BYTES 6
#define NO_LINE UINT64_MAX

struct cache {
    uint64_t
        *lines; /* [sets][ways]: numbers of lines, each set from the latest used to the first */
    size_t sets, ways;
    uint64_t misses;
};

static struct cache l1, l2;

static bool make_cache(struct cache *cache, const char *geometry) {
    size_t bytes;
    if (sscanf(geometry, "%zu:%zu", &bytes, &cache->ways) != 2 || cache->ways == 0)
        return false;
    cache->sets = (bytes >> LOG2_LINE_BYTES) / cache->ways;
    if (cache->sets == 0 || (cache->sets & (cache->sets - 1)) != 0)
        return false;
    cache->lines = malloc(cache->sets * cache->ways * sizeof *cache->lines);
    if (!cache->lines)
        return false;
    for (size_t i = 0; i < cache->sets * cache->ways; i++)
        cache->lines[i] = NO_LINE;
    return true;
}

/* Whether the line was there; afterwards it is, as the latest used of its set. */
static bool hits(struct cache *cache, uint64_t line) {
    uint64_t *set = cache->lines + (line & (cache->sets - 1)) * cache->ways;
    if (set[0] == line)
        return true;
    size_t way = 1;
    while (way < cache->ways && set[way] != line)
        way++;
    const bool hit = way < cache->ways;
    memmove(set + 1, set, (hit ? way : cache->ways - 1) * sizeof *set);
    set[0] = line;
    cache->misses += !hit;
    return hit;
}

static void touch(uint64_t line) {
    if (!hits(&l1, line))
        hits(&l2, line);
}

static void on_memory(unsigned thread, qemu_plugin_meminfo_t info, uint64_t address,
                      void *userdata) {
    (void)thread;
    (void)userdata;
    const uint64_t first = address >> LOG2_LINE_BYTES;
    const uint64_t last =
        (address + (UINT64_C(1) << qemu_plugin_mem_size_shift(info)) - 1) >> LOG2_LINE_BYTES;
    touch(first);
    if (last != first)
        touch(last);
}

/* ---- blocks -----------------------------------------------------------------------------------
 */

#define VECTOR_REGISTERS 32

struct block {
    struct block *next;
    uint64_t executions;
    uint32_t fma_chain, loads_8, loads_16, stores_8, stores_16;
    struct counts counts;
};

static struct block *blocks; /* kept until the program ends: code is never known to be dead */

/* The longest sequence of multiply-adds that each wait for the one before, also from one execution
 * of the block to the next: how often an accumulator is added to that the block does not set. */
struct chains {
    uint32_t length[VECTOR_REGISTERS];
    bool is_set[VECTOR_REGISTERS];
};

static void extend_chains(struct chains *chains, uint32_t word, enum counter class) {
    const uint32_t destination = bits(word, 4, 0);
    if (class == V_FMA)
        chains->length[destination]++;
    else if (class == V_FP || class == V_INT || class == V_MOV || class == V_LD || class == S_FP)
        chains->is_set[destination] = true;
    if (class == V_LD && matches(word, LOAD_STORE_PAIR_MASK, LOAD_STORE_PAIR))
        chains->is_set[bits(word, 14, 10)] = true;
}

static uint32_t longest(const struct chains *chains) {
    uint32_t length = 0;
    for (int i = 0; i < VECTOR_REGISTERS; i++)
        if (!chains->is_set[i] && chains->length[i] > length)
            length = chains->length[i];
    return length;
}

static void on_start_marker(unsigned thread, void *userdata) {
    (void)thread;
    (void)userdata;
    for (struct block *block = blocks; block; block = block->next)
        block->executions = 0;
    l1.misses = l2.misses = 0;
}

static FILE *output;

static void print_block(const char *separator, const struct block *block) {
    fprintf(output, "%s{\"executions\": %" PRIu64, separator, block->executions);
    for (int i = 0; i < COUNTERS; i++)
        fprintf(output, ", \"%s\": %" PRIu32, counter_names[i], block->counts.of[i]);
    fprintf(output, ", \"v_ld_8\": %" PRIu32 ", \"v_ld_16\": %" PRIu32, block->loads_8,
            block->loads_16);
    fprintf(output, ", \"v_st_8\": %" PRIu32 ", \"v_st_16\": %" PRIu32, block->stores_8,
            block->stores_16);
    fprintf(output, ", \"fma_chain\": %" PRIu32 "}", block->fma_chain);
}

static void on_stop_marker(unsigned thread, void *userdata) {
    (void)thread;
    (void)userdata;
    fprintf(output, "{\"l1_misses\": %" PRIu64 ", \"l2_misses\": %" PRIu64 ", \"blocks\": [",
            l1.misses, l2.misses);
    const char *separator = "";
    for (const struct block *block = blocks; block; block = block->next) {
        if (block->executions == 0)
            continue;
        print_block(separator, block);
        separator = ", ";
    }
    fputs("]}\n", output);
    fflush(output); /* the program may end by a signal */
}

static void add_instruction(struct block *block, struct instruction instruction) {
    const uint32_t parts_8 = (instruction.vector_bytes + 7) / 8;
    const uint32_t parts_16 = (instruction.vector_bytes + 15) / 16;
    add(&block->counts, instruction);
    if (instruction.class == V_LD) {
        block->loads_8 += parts_8;
        block->loads_16 += parts_16;
    } else if (instruction.class == V_ST) {
        block->stores_8 += parts_8;
        block->stores_16 += parts_16;
    }
}

static void on_block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        fail("out of memory");
    struct chains chains = {0};
    bool has_marker = false;
    const size_t instructions = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < instructions; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint32_t word = instruction_word(insn);
        const struct instruction instruction = decode(word);
        if (word == START_MARKER || word == STOP_MARKER) {
            has_marker = true;
            qemu_plugin_register_vcpu_insn_exec_cb(
                insn, word == START_MARKER ? on_start_marker : on_stop_marker,
                QEMU_PLUGIN_CB_NO_REGS, NULL);
        }
        add_instruction(block, instruction);
        extend_chains(&chains, word, instruction.class);
        qemu_plugin_register_vcpu_mem_cb(insn, on_memory, QEMU_PLUGIN_CB_NO_REGS,
                                         QEMU_PLUGIN_MEM_RW, NULL);
    }
    if (has_marker) {
        free(block);
        return;
    }
    block->fma_chain = longest(&chains);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->executions, 1);
}

static void on_exit(qemu_plugin_id_t id, void *userdata) {
    (void)id;
    (void)userdata;
    fclose(output);
}

/* The value of an argument `NAME=VALUE`, or NULL if the argument has another name. */
static const char *value_of(const char *name, const char *argument) {
    const size_t length = strlen(name);
    return strncmp(argument, name, length) == 0 && argument[length] == '=' ? argument + length + 1
                                                                           : NULL;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                               char **argv) {
    if (strcmp(info->target_name, "aarch64") != 0)
        return -1;
    for (int i = 0; i < argc; i++) {
        const char *value;
        if ((value = value_of("out", argv[i])))
            output = fopen(value, "a");
        else if ((value = value_of("l1", argv[i])))
            make_cache(&l1, value);
        else if ((value = value_of("l2", argv[i])))
            make_cache(&l2, value);
    }
    if (!output || !l1.lines || !l2.lines) {
        fputs("profile_regions: needs out=FILE,l1=BYTES:WAYS,l2=BYTES:WAYS with 2^n sets\n",
              stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block_translated);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
