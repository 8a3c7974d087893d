// SPDX-License-Identifier: Apache-2.0

// Counts what a process has on its heap, and the peak of it. Preloaded (LD_PRELOAD) into a program
// on glibc, it stands in for malloc and its kin, and for mmap, which runtimes call for their
// arenas.
//
// On the heap are the blocks of malloc, at the size that they really take (malloc_usable_size), and
// private anonymous memory that was mapped for writing. What glibc maps for itself (large blocks,
// thread stacks) does not pass here: large blocks are counted as blocks, stacks are not counted.
// A block that realloc moves counts twice for a moment, as it does while glibc copies it.

#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static atomic_size_t live_bytes, peak_bytes;

static void grow(size_t bytes) {
    size_t live = atomic_fetch_add(&live_bytes, bytes) + bytes;
    size_t peak = atomic_load(&peak_bytes);
    while (live > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, live)) {
    }
}

static void shrink(size_t bytes) { atomic_fetch_sub(&live_bytes, bytes); }

size_t heap_live(void) { return atomic_load(&live_bytes); }

size_t heap_peak(void) { return atomic_load(&peak_bytes); }

// Forget earlier peaks.
void heap_peak_reset(void) { atomic_store(&peak_bytes, atomic_load(&live_bytes)); }

// Blocks

static void *counted(void *block) {
    grow(block ? malloc_usable_size(block) : 0);
    return block;
}

void *malloc(size_t size) { return counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }

void *memalign(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

void *valloc(size_t size) { return memalign((size_t)sysconf(_SC_PAGESIZE), size); }

void *pvalloc(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return memalign(page, (size + page - 1) / page * page);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) {
        return EINVAL;
    }
    void *aligned = memalign(alignment, size);
    if (!aligned) {
        return ENOMEM;
    }
    *block = aligned;
    return 0;
}

void free(void *block) {
    shrink(block ? malloc_usable_size(block) : 0);
    __libc_free(block);
}

void *realloc(void *block, size_t size) {
    size_t before = block ? malloc_usable_size(block) : 0;
    void *after = __libc_realloc(block, size);
    bool released = after || size == 0; // else nothing has happened
    if (after == block) {               // in place: there never were two
        shrink(released ? before : 0);
        return counted(after);
    }
    counted(after);
    shrink(released ? before : 0);
    return after;
}

void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

// Mappings. A part of one may be unmapped, so they are kept as spans of addresses.

enum { MAX_SPANS = 1 << 14 };

static struct span {
    uintptr_t start, end;
} spans[MAX_SPANS];
static size_t span_count;
static atomic_flag spans_busy = ATOMIC_FLAG_INIT;

static void lock(void) {
    while (atomic_flag_test_and_set(&spans_busy)) {
    }
}

static void unlock(void) { atomic_flag_clear(&spans_busy); }

static void insert(uintptr_t start, uintptr_t end) {
    if (start >= end) {
        return;
    }
    if (span_count == MAX_SPANS) { // better no figure than a wrong one
        static const char message[] = "heap_peak: too many mappings\n";
        (void)!write(STDERR_FILENO, message, sizeof message - 1);
        abort();
    }
    spans[span_count++] = (struct span){start, end};
}

// Take `bytes` from `start` out of the spans; returns how many of them were in.
static size_t cut(uintptr_t start, size_t bytes) {
    uintptr_t end = start + bytes;
    size_t found = 0;
    for (size_t i = span_count; i-- > 0;) {
        struct span span = spans[i];
        uintptr_t from = span.start > start ? span.start : start;
        uintptr_t to = span.end < end ? span.end : end;
        if (from < to) {
            spans[i] = spans[--span_count];
            insert(span.start, from);
            insert(to, span.end);
            found += to - from;
        }
    }
    return found;
}

static size_t whole_pages(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

// The pages at `start` are new. MAP_FIXED replaces what was there. Under the lock.
static void renew(void *start, size_t bytes, bool is_heap) {
    shrink(cut((uintptr_t)start, bytes));
    if (is_heap) {
        insert((uintptr_t)start, (uintptr_t)start + bytes);
        grow(bytes);
    }
}

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
    bool is_heap = (flags & MAP_ANONYMOUS) && (flags & MAP_PRIVATE) && (protection & PROT_WRITE);
    lock();
    void *start = (void *)syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
    if (start != MAP_FAILED) {
        renew(start, whole_pages(bytes), is_heap);
    }
    unlock();
    return start;
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
    return mmap(address, bytes, protection, flags, file, offset);
}

int munmap(void *start, size_t bytes) {
    lock();
    int status = (int)syscall(SYS_munmap, start, bytes);
    if (status == 0) {
        shrink(cut((uintptr_t)start, whole_pages(bytes)));
    }
    unlock();
    return status;
}

void *mremap(void *address, size_t before, size_t after, int flags, ...) {
    va_list more;
    va_start(more, flags);
    void *wanted = flags & MREMAP_FIXED ? va_arg(more, void *) : NULL;
    va_end(more);
    lock();
    void *start = (void *)syscall(SYS_mremap, address, before, after, flags, wanted);
    if (start != MAP_FAILED) {
        size_t moved = cut((uintptr_t)address, whole_pages(before));
        shrink(moved);
        renew(start, whole_pages(after), moved > 0);
    }
    unlock();
    return start;
}
