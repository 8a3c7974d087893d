// SPDX-License-Identifier: Apache-2.0

#include "host/cpu.h"

#include <stdio.h>

#include "host/kernel_table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static const struct {
    uint32_t feature;
    const char *name;
} feature_names[] = {
    {LC_CPU_AVX2, "avx2"},
    {LC_CPU_FMA, "fma"},
    {LC_CPU_F16C, "f16c"},
    {LC_CPU_AVX512F, "avx512f"},
    {LC_CPU_AVX512BW, "avx512bw"},
    {LC_CPU_AVX512CD, "avx512cd"},
    {LC_CPU_AVX512DQ, "avx512dq"},
    {LC_CPU_AVX512VL, "avx512vl"},
    {LC_CPU_NEON, "neon"},
    {LC_CPU_DOTPROD, "dotprod"},
    {LC_CPU_FULLFP16, "fullfp16"},
    {LC_CPU_AVX512VNNI, "avx512vnni"},
    {LC_CPU_AVX512VBMI, "avx512vbmi"},
    {LC_CPU_I8MM, "i8mm"},
    {LC_CPU_AVXVNNI, "avxvnni"},
};

#if defined(__x86_64__)

// Register state that the operating system saves: bits of XCR0.
static uint32_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

uint32_t lc_cpu_features(void) {
    const uint32_t ymm_state = 0x06, zmm_state = 0xe6;
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & (1u << 27))) { // osxsave
        return 0;
    }
    uint32_t state = saved_state();
    if ((state & ymm_state) != ymm_state) {
        return 0;
    }
    uint32_t features = 0;
    features |= ecx & (1u << 12) ? LC_CPU_FMA : 0;
    features |= ecx & (1u << 29) ? LC_CPU_F16C : 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        return features;
    }
    features |= ebx & (1u << 5) ? LC_CPU_AVX2 : 0;
    if ((state & zmm_state) == zmm_state) {
        features |= ebx & (1u << 16) ? LC_CPU_AVX512F : 0;
        features |= ebx & (1u << 17) ? LC_CPU_AVX512DQ : 0;
        features |= ebx & (1u << 28) ? LC_CPU_AVX512CD : 0;
        features |= ebx & (1u << 30) ? LC_CPU_AVX512BW : 0;
        features |= ebx & (1u << 31) ? LC_CPU_AVX512VL : 0;
        features |= ecx & (1u << 11) ? LC_CPU_AVX512VNNI : 0;
        features |= ecx & (1u << 1) ? LC_CPU_AVX512VBMI : 0;
    }
    if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) {
        features |= eax & (1u << 4) ? LC_CPU_AVXVNNI : 0;
    }
    return features;
}

#elif defined(__aarch64__)

uint32_t lc_cpu_features(void) {
    // Bits of AT_HWCAP and AT_HWCAP2 in the Linux ABI; older headers do not name them all.
    enum { AUXV_HWCAP = 16, AUXV_HWCAP2 = 26 };
    const unsigned long asimd = 1ul << 1, fphp = 1ul << 9, asimdhp = 1ul << 10, asimddp = 1ul << 20;
    const unsigned long i8mm = 1ul << 13;
    unsigned long capabilities = getauxval(AUXV_HWCAP);
    uint32_t features = 0;
    features |= capabilities & asimd ? LC_CPU_NEON : 0;
    features |= capabilities & asimddp ? LC_CPU_DOTPROD : 0;
    features |= capabilities & fphp && capabilities & asimdhp ? LC_CPU_FULLFP16 : 0;
    features |= getauxval(AUXV_HWCAP2) & i8mm ? LC_CPU_I8MM : 0;
    return features;
}

#else
#error "only x86-64 and aarch64 are supported"
#endif

void lc_cpu_feature_names(uint32_t features, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof feature_names / sizeof *feature_names; i++) {
        if (features & feature_names[i].feature && length < size) {
            length += (size_t)snprintf(text + length, size - length, "%s%s", length ? ", " : "",
                                       feature_names[i].name);
        }
    }
}
