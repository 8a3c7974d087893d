// SPDX-License-Identifier: Apache-2.0

#include "operation/elementwise/halves.h"

#if LC_HALVES

#include "operation/elementwise/elementwise.h"
#include "operation/halves/vector.h"

typedef lc_half element;
typedef lc_halves elements;
#define LC_OF(name) lc_half_##name
#define ROWS_TARGET LC_HALF_VECTOR
#include "operation/elementwise/rows.h"

lc_rows_function *lc_half_rows_for(int32_t builtin_code) { return rows_for(builtin_code); }

#else

// Nothing asks for it.
lc_rows_function *lc_half_rows_for(int32_t builtin_code) {
    (void)builtin_code;
    return NULL;
}

#endif
