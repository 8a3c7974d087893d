// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <stddef.h>
#include <stdint.h>

// The features, LC_CPU_*, that this processor and its operating system offer.
uint32_t lc_cpu_features(void);

// Writes the names of `features` into `text`, separated by ", ".
void lc_cpu_feature_names(uint32_t features, char *text, size_t size);
