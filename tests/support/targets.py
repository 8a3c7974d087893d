"""Targets that differ in what is compiled, of all presets: some differ in their caches alone."""

from __future__ import annotations

from collections.abc import Mapping

from schedules.target.simd import ANDROID_SUFFIX, PRESETS, Simd

LINUX = ("x86-64-v3", "x86-64-v4", "cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76",
         "neoverse-n1", "apple-m1")  # fmt: skip
#: By name, each for both ABIs.
TARGETS: Mapping[str, Simd] = {
    name + suffix: PRESETS[name + suffix] for suffix in ("", ANDROID_SUFFIX) for name in LINUX
}
ARM = [name for name in LINUX if PRESETS[name].arch == "aarch64"]
