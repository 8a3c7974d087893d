// SPDX-License-Identifier: Apache-2.0
//
// The processor that the C code itself may be compiled for, once the delegate has checked it.
// build.py writes this file anew for each target.

#pragma once

#define LC_AVX512 0 // of x86: avx512f, bw, cd, dq and vl
#define LC_HALVES 0 // of Arm: fullfp16, arithmetic of float16
