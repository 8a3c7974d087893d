// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stddef.h>

enum { LC_HUGE_PAGE = 2 << 20 };

// Advice to the system on the pages of a block of memory. It loses nothing, whatever the memory is,
// and a system that does not know it leaves all as it is.

// That the pages inside of the block are not needed soon: they go back to where they came from.
void lc_page_out(const void *data, size_t bytes);

// That the block will be read again and again: pages of 2 MiB inside of it take fewer entries of
// the table that translates addresses. No byte more becomes resident once the block is written.
void lc_use_huge_pages(const void *data, size_t bytes);
