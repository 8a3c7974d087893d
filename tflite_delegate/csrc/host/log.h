// SPDX-License-Identifier: Apache-2.0

#ifndef LEANCONV_LOG_H
#define LEANCONV_LOG_H

// Prints one line, "leanconv: …", to standard error.
__attribute__((format(printf, 1, 2))) void lc_log(const char *format, ...);

#endif // LEANCONV_LOG_H
