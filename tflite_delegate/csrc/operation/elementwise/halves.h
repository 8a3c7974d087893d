// SPDX-License-Identifier: Apache-2.0
//
// Rows of elements of float16, on targets that compute with them.

#pragma once

#include "operation/broadcast.h"

// What computes rows of an operator on elements.
lc_rows_function *lc_half_rows_for(int32_t builtin_code);
