// SPDX-License-Identifier: Apache-2.0
//
// The threads of the library: one small pool, shared by all delegates of the process.
//
// Threads start when they are first needed and end with the last delegate. One job runs at a
// time; a caller that finds the pool busy computes its whole job itself.

#pragma once

#include <stdbool.h>
#include <stdint.h>

// Computes work items [begin, end) as thread number `thread` of the job. False on failure.
typedef bool (*lc_pool_task)(void *argument, int32_t thread, int32_t begin, int32_t end);

// Counts the delegates that may use the pool. Releasing the last one joins the threads.
void lc_pool_retain(void);
void lc_pool_release(void);

// Runs `task` over [0, extent) on at most `threads` threads, the calling one being number 0, and
// returns when all of it is done. Each thread has the same part of every extent, in the order of
// items. It computes that in several calls, so that others can help it, unless that costs too much:
// then as a `whole`. False if any call of `task` failed.
bool lc_pool_run(int32_t threads, int32_t extent, bool whole, lc_pool_task task, void *argument);
