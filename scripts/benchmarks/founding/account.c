/* Counts what a program takes from the heap; preloaded, or a part of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>

/* The C library's own, by names that this file does not replace. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

static atomic_long held, most;

static void *taken(void *block) {
    if (!block)
        return NULL;
    long now =
        atomic_fetch_add(&held, (long)malloc_usable_size(block)) + (long)malloc_usable_size(block);
    long peak = atomic_load(&most);
    while (now > peak && !atomic_compare_exchange_weak(&most, &peak, now))
        ;
    return block;
}

static void given_back(void *block) {
    if (block)
        atomic_fetch_sub(&held, (long)malloc_usable_size(block));
}

void *malloc(size_t size) { return taken(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return taken(__libc_calloc(count, size)); }

void *realloc(void *block, size_t size) {
    given_back(block);
    void *moved = __libc_realloc(block, size);
    if (!moved && size)
        taken(block); /* It failed: the block is still there. */
    return taken(moved);
}

void *memalign(size_t alignment, size_t size) { return taken(__libc_memalign(alignment, size)); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = memalign(alignment, size);
    return *block ? 0 : ENOMEM;
}

void free(void *block) {
    given_back(block);
    __libc_free(block);
}

/* Bytes on the heap now, and the most there were since the start or since account_restart. */
long account_held(void) { return atomic_load(&held); }

long account_most(void) { return atomic_load(&most); }

void account_restart(void) { atomic_store(&most, atomic_load(&held)); }
