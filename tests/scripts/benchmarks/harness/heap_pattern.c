// SPDX-License-Identifier: Apache-2.0

// Takes and releases memory in known ways; prints for each what the preloaded library counts and
// what it must count: "name live peak expected-live expected-peak", all since the pattern began.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, MIB = 1 << 20 };

static size_t (*heap_live)(void), (*heap_peak)(void);
static void (*heap_peak_reset)(void);
static size_t before;

static void begin(void) {
    heap_peak_reset();
    before = heap_live();
}

static void end(const char *name, size_t live, size_t peak) {
    size_t counted_live = heap_live() - before, counted_peak = heap_peak() - before;
    printf("%s %zu %zu %zu %zu\n", name, counted_live, counted_peak, live, peak);
}

// Not inlined, so that the compiler cannot leave out blocks that nobody uses.
static void *volatile block[4];

static size_t take(int i, void *memory) {
    block[i] = memory;
    return malloc_usable_size(memory);
}

static void release(int i) {
    free(block[i]);
    block[i] = NULL;
}

static pthread_barrier_t all_hold;

// Many small blocks, then one large one that all threads hold at the same time.
static void *take_and_release(void *usable) {
    for (int i = 0; i < 100000; i++) {
        void *volatile small = malloc((size_t)(64 + i % 1000));
        free(small);
    }
    void *large = malloc(MIB);
    *(size_t *)usable = malloc_usable_size(large);
    pthread_barrier_wait(&all_hold);
    free(large);
    return NULL;
}

static size_t run_threads(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    size_t usable[THREADS], sum = 0;
    pthread_barrier_init(&all_hold, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, take_and_release, &usable[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += usable[i];
    }
    return sum;
}

int main(void) {
    void *library = dlopen(NULL, RTLD_NOW);
    *(void **)&heap_live = dlsym(library, "heap_live");
    *(void **)&heap_peak = dlsym(library, "heap_peak");
    *(void **)&heap_peak_reset = dlsym(library, "heap_peak_reset");
    if (!heap_live || !heap_peak || !heap_peak_reset) {
        return 3; // not preloaded
    }
    static char output[MIB];
    setvbuf(stdout, output, _IOFBF, sizeof output);

    begin();
    size_t a = take(0, malloc(1000));
    size_t b = take(1, malloc(8 * MIB));
    release(1);
    size_t c = take(2, calloc(30, 100));
    end("freed_before_the_end", a + c, a + b);
    release(0);
    release(2);
    end("all_freed", 0, a + b);

    begin();
    a = take(0, malloc(100));
    b = take(1, malloc(100)); // is in the way
    c = take(2, realloc(block[0], 5000));
    end("realloc_moves", b + c, a + b + c);
    size_t d = take(0, realloc(block[2], 4000));
    end("realloc_shrinks", b + d, a + b + c);
    release(0);
    release(1);

    begin();
    a = take(0, realloc(NULL, 300));
    block[1] = realloc(block[0], 0);
    end("realloc_as_malloc_and_free", 0, a);

    begin();
    void *aligned;
    int status = posix_memalign(&aligned, 64, 10000);
    a = take(0, status == 0 ? aligned : NULL);
    b = take(1, aligned_alloc(4096, 8192));
    c = take(2, memalign(256, 77));
    d = take(3, reallocarray(NULL, 10, 20));
    end("aligned", a + b + c + d, a + b + c + d);
    for (int i = 0; i < 4; i++) {
        release(i);
    }

    begin();
    block[0] = malloc((size_t)-1 / 4);
    block[1] = reallocarray(NULL, (size_t)-1 / 2, 4);
    end("refused", 0, 0);

    begin();
    char *mapped =
        mmap(NULL, 10 * PAGE + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(mapped + 2 * PAGE, 3 * PAGE);
    end("mapping_with_a_hole", 8 * PAGE, 11 * PAGE);
    munmap(mapped, 11 * PAGE);
    end("mapping_gone", 0, 11 * PAGE);

    begin();
    mapped = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mapped = mremap(mapped, 4 * PAGE, 9 * PAGE, MREMAP_MAYMOVE);
    end("mapping_grows", 9 * PAGE, 9 * PAGE);
    mmap(mapped, 9 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    end("mapping_replaced", 0, 9 * PAGE);
    munmap(mapped, 9 * PAGE);

    begin();
    FILE *file = tmpfile();
    size_t of_file = heap_live() - before; // its buffer
    mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);
    void *reserved = mmap(NULL, MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    end("files_and_reservations_are_no_heap", of_file, of_file);
    munmap(mapped, PAGE);
    munmap(reserved, MIB);
    fclose(file);

    run_threads(); // glibc keeps the threads' own blocks for the next ones
    begin();
    size_t large = run_threads();
    end("threads", 0, large);
    return 0;
}
