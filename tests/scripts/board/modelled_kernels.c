/* What a tuner's program does with --once, with kernels whose counts are known: each is run warm
 * and then between the markers. Compiled with CRASH, it ends itself after the first; with
 * NO_MARKERS, it has none. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef NO_MARKERS
#define START "nop"
#define STOP "nop"
#else
#define START "hint #100"
#define STOP "hint #101"
#endif
#define KIB 1024
#define RUN __attribute__((noinline)) static void

static float buffer[256 * KIB] __attribute__((aligned(4096))); /* 1 MiB */

/* 8000 multiply-adds, each waiting for the one before. */
RUN one_accumulator(void) {
    __asm__ volatile("mov x9, #1000\n"
                     "1: .rept 8\n fmla v0.4s, v8.4s, v9.s[0]\n .endr\n"
                     "subs x9, x9, #1\n"
                     "b.ne 1b" ::
                         : "x9", "v0", "cc");
}

/* As many, of which eight at a time are independent. */
RUN eight_accumulators(void) {
    __asm__ volatile("mov x9, #1000\n"
                     "1: fmla v0.4s, v8.4s, v9.s[0]\n fmla v1.4s, v8.4s, v9.s[0]\n"
                     "fmla v2.4s, v8.4s, v9.s[0]\n fmla v3.4s, v8.4s, v9.s[0]\n"
                     "fmla v4.4s, v8.4s, v9.s[0]\n fmla v5.4s, v8.4s, v9.s[0]\n"
                     "fmla v6.4s, v8.4s, v9.s[0]\n fmla v7.4s, v8.4s, v9.s[0]\n"
                     "subs x9, x9, #1\n"
                     "b.ne 1b" ::
                         : "x9", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "cc");
}

/* One load of every cache line of so many bytes. */
__attribute__((noinline)) static void read_lines(size_t bytes) {
    const float *address = buffer, *end = buffer + bytes / sizeof *buffer;
    __asm__ volatile("1: ldr q0, [%0], #64\n"
                     "cmp %0, %1\n"
                     "b.ne 1b"
                     : "+r"(address)
                     : "r"(end)
                     : "v0", "cc", "memory");
}

RUN read_16_kib(void) { read_lines(16 * KIB); }
RUN read_128_kib(void) { read_lines(128 * KIB); }
RUN read_1_mib(void) { read_lines(1024 * KIB); }

static void mark(int index, void (*kernel)(void)) {
    kernel();
    __asm__ volatile(START ::: "memory");
    kernel();
    __asm__ volatile(STOP ::: "memory");
    printf("{\"kernel\": %d, \"samples_s\": [], \"error\": null}\n", index);
}

int main(int argc, char **argv) {
    if (argc != 2 || strcmp(argv[1], "--once") != 0)
        return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    memset(buffer, 0, sizeof buffer); /* before, all pages are the same zeros */
    puts("{\"board\": {\"cpu\": \"test\"}}");
    mark(0, one_accumulator);
#ifdef CRASH
    abort();
#endif
    mark(1, eight_accumulators);
    puts("{\"kernel\": 2, \"samples_s\": [], \"error\": \"wrong: off by 1\"}");
    mark(3, read_16_kib);
    mark(4, read_128_kib);
    mark(5, read_1_mib);
    puts("{\"done\": true}");
    return 0;
}
