// SPDX-License-Identifier: Apache-2.0
//
// What a delegate library exports beside TFLite's tflite_plugin_create_delegate and
// tflite_plugin_destroy_delegate. Load the library as an external delegate; resolve these with
// dlsym.

#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct TfLiteDelegate;

// The version of leanconv that compiled the library, e.g. "0.1.0".
const char *leanconv_version(void);

// Writes a report on the delegate and on every layer of the interpreters that use it now, as JSON.
//
// At most `size` bytes are written, the terminating zero included; the return value is the length
// of the whole text without it, as with snprintf. `buffer` may be NULL when `size` is 0.
// `delegate` may be NULL, for the delegate that was created last and is not destroyed; if there is
// none, the report only describes the library.
size_t leanconv_report(const struct TfLiteDelegate *delegate, char *buffer, size_t size);

// Writes what the interpreters that use a delegate hold in memory, as the report's "memory" has it;
// arguments and result are those of leanconv_report. Without a delegate, "{}". All are bytes:
//
// memory_limit            the option; 0 if it was not given
// promised_arena_bytes    TFLite's arena, as it was promised at compile time for as many threads;
//                         0 if the graph is not that which the library was compiled for. Of a
//                         node for each layer: with one_node it is another
// promised_packed_bytes   likewise the packed weights
// promised_own_bytes      likewise own_bytes, of one interpreter: no more than this. The option is
//                         compared with the sum of these three
// arena_bytes             TFLite's arena, of the interpreter that ran first after it was prepared
//                         last: tensors and workspace; 0 before a run
// workspace_bytes         what the layer with the most workspace has in there
// packed_bytes            packed weights and biases on the heap
// embedded_bytes          those that are read-only data of the library
// own_bytes               data of the delegate, of its nodes and of its operators, on the heap
size_t leanconv_memory(const struct TfLiteDelegate *delegate, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif
