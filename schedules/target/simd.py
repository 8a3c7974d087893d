"""What a schedule must know of a target: lanes, registers, caches, cores, features.

A :class:`Simd` is made from a preset name, from ``host``, or from any TVM target (a dict, a JSON
string, a tag such as ``raspberry-pi/4b-aarch64``, or the ``llvm -mtriple=… -mcpu=…`` strings of old
TVM). Nothing else in the package looks at a target.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.layer.workload import DTYPE_BYTES
from schedules.target import llvm_names, tvm_target

KIB = 1024
#: Threads that share a layer at most.
MAX_THREADS = tvm_target.MAX_CORES
ANDROID_SUFFIX = "-android"
#: Android's triple needs all four parts: with three, LLVM uses x18, which the platform reserves.
TRIPLES = {
    ("x86_64", False): "x86_64-unknown-linux-gnu",
    ("x86_64", True): "x86_64-unknown-linux-android24",
    ("aarch64", False): "aarch64-unknown-linux-gnu",
    ("aarch64", True): "aarch64-unknown-linux-android24",
}

_X86_V3 = frozenset({"avx2", "fma", "f16c"})
_X86_V4 = _X86_V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_ARMV8_0 = frozenset({"neon"})
_ARMV8_2 = _ARMV8_0 | {"dotprod", "fullfp16"}


@dataclass(frozen=True)
class Simd:
    """The vector unit and memory hierarchy of one core, and how to compile for it.

    Parameters
    ----------
    name : str
        Preset name, or a short name of the target it was made from.
    arch : {"x86_64", "aarch64"}
        Instruction set.
    mcpu : str
        LLVM's name of the processor.
    vector_bytes, vector_registers : int
        Width and number of the vector registers.
    l1_bytes, l2_bytes : int
        Data caches that one core can count on.
    cores : int
        Cores that share work well (the big cluster of a phone).
    features : frozenset of str
        Instruction-set extensions that compiled kernels may use; the delegate checks them.
    loads_per_fma : int
        Vector or scalar loads that issue in the time of one multiply-add.
    in_order : bool
        Whether the core issues in program order, so that code must load ahead of use.
    android : bool
        Compile for Android's ABI.
    mattr : tuple of str
        Further LLVM attributes, e.g. ``"+dotprod"``.
    """

    name: str
    arch: str
    mcpu: str
    vector_bytes: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    cores: int
    features: frozenset[str]
    loads_per_fma: int = 1
    in_order: bool = False
    android: bool = False
    mattr: tuple[str, ...] = ()

    def lanes(self, dtype: str) -> int:
        """Elements of ``dtype`` in one vector register."""
        return self.vector_bytes // DTYPE_BYTES[dtype]

    @property
    def fma_by_element(self) -> bool:
        """Whether a multiply-add can take one lane of a register as its scalar (NEON ``v.s[i]``).

        Such targets load the image as vectors along the channels; the others broadcast scalars
        from memory.
        """
        return self.arch == "aarch64"

    @property
    def triple(self) -> str:
        """LLVM target triple."""
        return TRIPLES[self.arch, self.android]

    @cached_property
    def target(self) -> dict[str, Any]:
        """The target as TVM takes it."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu}
        if self.mattr:
            target["mattr"] = list(self.mattr)
        return target

    @classmethod
    def named(cls, name: str) -> Simd:
        """The target that a user names: ``host``, a preset, JSON, a tag of TVM, ``llvm -mcpu=…``.

        Raises
        ------
        LeanconvError
            If nothing is known by that name.
        """
        if name == "host":
            return _host()
        if name in PRESETS:
            return PRESETS[name]
        target = tvm_target.parse(name)
        if target is not None:
            return cls.from_target(target)
        raise LeanconvError(
            f"unknown target {name!r}: host, {', '.join(PRESETS)}, a tag of TVM such as "
            "raspberry-pi/4b-aarch64, a JSON target, or 'llvm -mcpu=…'"
        )

    @classmethod
    def from_target(cls, target: Mapping[str, Any]) -> Simd:
        """A :class:`Simd` for a TVM target given as a dict.

        Processors without a preset get the caches of the plainest core with the same registers.
        Without a processor and a triple it is this machine.

        Raises
        ------
        LeanconvError
            If the target is not an llvm target for x86-64 or aarch64 Linux or Android.
        """
        kind = target.get("kind")
        if kind != "llvm":
            raise LeanconvError(f"target kind {kind!r} is not supported: only llvm")
        mtriple, mcpu = (tvm_target.string(target, name) for name in ("mtriple", "mcpu"))
        arch = _arch(mtriple, mcpu)
        tvm_target.check_names(target)
        mattr = tvm_target.features(target)
        if not mtriple and not mcpu:
            base = _host()
        elif arch == "x86_64":
            wide = "+avx512" in "".join(mattr) or mcpu in _AVX512_CPUS
            base = PRESETS["x86-64-v4" if wide else "x86-64-v3"]
        elif mcpu:
            base = PRESETS.get(mcpu, PRESETS["cortex-a53"])
            if base.arch != arch:
                raise LeanconvError(f"processor {mcpu!r} is not an {arch} processor")
        else:
            base = replace(PRESETS["cortex-a53"], mcpu="generic")
        triple = TRIPLES[arch, "android" in mtriple]
        if mcpu and mcpu not in PRESETS:
            llvm_names.check_processor(mcpu, triple, TRIPLES.values())
        if mattr:
            llvm_names.check_features(mattr, triple)
        extra = frozenset(attribute[1:] for attribute in mattr if attribute.startswith("+"))
        return replace(
            base,
            name=mcpu or base.name,
            mcpu=mcpu or base.mcpu,
            mattr=mattr,
            features=base.features | (extra & _ARMV8_2),
            android="android" in mtriple,
            cores=tvm_target.cores(target, base.cores),
        )


def _arch(mtriple: str, mcpu: str) -> str:
    """The instruction set: that of the triple, or of the processor, or of this machine."""
    if mtriple:
        arch = mtriple.split("-")[0]
    elif mcpu in PRESETS:
        arch = PRESETS[mcpu].arch
    else:
        arch = "x86_64" if mcpu in _AVX512_CPUS else _machine()
    arch = arch.replace("arm64", "aarch64")
    if (arch, False) not in TRIPLES:
        raise LeanconvError(f"architecture {arch!r} is not supported: x86_64 or aarch64")
    return arch


_AVX512_CPUS = frozenset(
    ("x86-64-v4", "skylake-avx512", "cascadelake", "cooperlake", "icelake-client")
    + ("icelake-server", "tigerlake", "rocketlake", "sapphirerapids", "emeraldrapids")
    + ("graniterapids", "znver4", "znver5")
)


def _arm(
    mcpu: str, l1_kib: int, l2_kib: int, features: frozenset[str], in_order: bool = False
) -> Simd:
    """A NEON core; four of them in a cluster."""
    caches = (l1_kib * KIB, l2_kib * KIB)
    return Simd(mcpu, "aarch64", mcpu, 16, 32, *caches, 4, features, in_order=in_order)


def _presets() -> dict[str, Simd]:
    rows = (
        Simd("x86-64-v3", "x86_64", "x86-64-v3", 32, 16, 32 * KIB, 256 * KIB, 4, _X86_V3),
        Simd("x86-64-v4", "x86_64", "x86-64-v4", 64, 32, 32 * KIB, 1024 * KIB, 4, _X86_V4, 2),
        _arm("cortex-a53", 32, 128, _ARMV8_0, in_order=True),
        _arm("cortex-a55", 32, 128, _ARMV8_2, in_order=True),
        _arm("cortex-a72", 32, 512, _ARMV8_0),
        _arm("cortex-a76", 64, 256, _ARMV8_2),
        _arm("neoverse-n1", 64, 1024, _ARMV8_2),
        _arm("apple-m1", 128, 3072, _ARMV8_2),
    )
    presets = {simd.name: simd for simd in rows}
    for simd in rows:
        name = simd.name + ANDROID_SUFFIX
        presets[name] = replace(simd, name=name, android=True)
    return presets


#: Every named target but ``host``.
PRESETS: Mapping[str, Simd] = _presets()


def _host() -> Simd:
    """This machine, as the preset that it fulfils, with its real caches and cores.

    A preset instead of LLVM's name of the processor: what is compiled then needs no more than the
    features that the delegate checks before it claims a layer.
    """
    machine = _machine()
    try:
        info = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError as error:
        raise LeanconvError(f"cannot tell what this machine is ({error}): name a target") from None
    words = set(info.split())
    if machine == "x86_64":
        if not {"avx2", "fma", "f16c"} <= words:
            raise LeanconvError("this processor lacks AVX2 and FMA, the least that is supported")
        name = "x86-64-v4" if _X86_V4 <= words else "x86-64-v3"
    elif machine == "aarch64":
        name = "cortex-a55" if {"asimddp", "asimdhp"} <= words else "cortex-a53"
    else:
        raise LeanconvError(f"architecture {machine!r} is not supported: x86_64 or aarch64")
    base = PRESETS[name]
    return replace(
        base,
        name="host",
        l1_bytes=_cache_bytes(1, base.l1_bytes),
        l2_bytes=_cache_bytes(2, base.l2_bytes),
        cores=len(os.sched_getaffinity(0)),
    )


def _machine() -> str:
    """This machine's instruction set."""
    return platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")


def _cache_bytes(level: int, default: int) -> int:
    """Size of this machine's data cache, or ``default`` where the kernel does not tell."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if int((index / "level").read_text()) != level:
                continue
            if (index / "type").read_text().strip() == "Instruction":
                continue
            size = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if size.endswith("K") and size[:-1].isdigit():
            return int(size[:-1]) * KIB
    return default
