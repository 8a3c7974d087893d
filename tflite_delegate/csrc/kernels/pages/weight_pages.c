// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE // madvise

#include "kernels/pages/weight_pages.h"

#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21 // Linux 5.4
#endif
#ifndef MADV_HUGEPAGE
#define MADV_HUGEPAGE 14 // Linux 2.6.38
#endif

// Advises on the whole pages of `size` bytes inside of a block.
static void advise(const void *data, size_t bytes, uintptr_t size, int advice) {
    uintptr_t address = (uintptr_t)data;
    if (size == 0 || !data) {
        return;
    }
    uintptr_t begin = (address + size - 1) / size * size, end = (address + bytes) / size * size;
    if (begin < end) {
        madvise((char *)data + (begin - address), end - begin, advice);
    }
}

void lc_page_out(const void *data, size_t bytes) {
    advise(data, bytes, getauxval(AT_PAGESZ), MADV_PAGEOUT);
}

void lc_use_huge_pages(const void *data, size_t bytes) {
    advise(data, bytes, LC_HUGE_PAGE, MADV_HUGEPAGE);
}
