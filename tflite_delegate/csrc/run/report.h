// SPDX-License-Identifier: Apache-2.0

#ifndef LEANCONV_REPORT_H
#define LEANCONV_REPORT_H

#include <stddef.h>

#include "run/node.h"

// leanconv_report (see leanconv.h) for a delegate of ours, or NULL.
size_t lc_report(struct lc_delegate *delegate, char *buffer, size_t size);

#endif // LEANCONV_REPORT_H
