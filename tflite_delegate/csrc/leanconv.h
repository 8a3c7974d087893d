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
// `delegate` may be NULL: the report then only describes the library.
size_t leanconv_report(const struct TfLiteDelegate *delegate, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif
