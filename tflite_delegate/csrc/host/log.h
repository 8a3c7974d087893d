// SPDX-License-Identifier: Apache-2.0

#pragma once

// Prints one line, "leanconv: …", to standard error.
__attribute__((format(printf, 1, 2))) void lc_log(const char *format, ...);
