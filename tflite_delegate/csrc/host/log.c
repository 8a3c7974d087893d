// SPDX-License-Identifier: Apache-2.0

#include "host/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void lc_log(const char *format, ...) {
    // One write for the whole line, so that lines of several threads do not mix. The descriptor
    // and not `stderr`, which is not a symbol in older versions of Android's C library.
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length >= 0) {
        dprintf(STDERR_FILENO, "leanconv: %s\n", line);
    }
}
