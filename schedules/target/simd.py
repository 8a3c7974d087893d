"""What a schedule must know of a target: lanes, registers, caches, cores, features.

A :class:`Simd` is made from a preset name, from ``host``, or from any TVM target (a dict, a JSON
string, a tag such as ``raspberry-pi/4b-aarch64``, or the ``llvm -mtriple=… -mcpu=…`` strings of old
TVM). Nothing else in the package looks at a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from schedules.errors import LeanconvError, nearest
from schedules.layer.workload import DTYPE_BYTES
from schedules.target import llvm_names, tvm_target
from schedules.target.cores import AVX_VNNI, CORES, I8MM, KIB, VNNI, Core
from schedules.target.host import machine, this_host

#: Threads that share a layer at most.
MAX_THREADS = tvm_target.MAX_CORES
ANDROID_SUFFIX = "-android"
#: The name of this machine.
HOST = "host"
#: The clock of a core that was not calibrated.
NOMINAL_HZ = 2e9
#: Android's triple needs all four parts: with three, LLVM uses x18, which the platform reserves.
TRIPLES = {
    ("x86_64", False): "x86_64-unknown-linux-gnu",
    ("x86_64", True): "x86_64-unknown-linux-android24",
    ("aarch64", False): "aarch64-unknown-linux-gnu",
    ("aarch64", True): "aarch64-unknown-linux-android24",
}


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
    l1_bytes, l2_bytes, l3_bytes : int
        Data caches that one core can count on; of a shared one its share, 0 if there is none.
    cores : int
        Cores that share work well (the big cluster of a phone).
    features : frozenset of str
        Instruction-set extensions that compiled kernels may use; the delegate checks them.
    fmas : float
        Vector multiply-adds a cycle.
    l3_bandwidth, memory_bandwidth : float
        Bytes a cycle that one core reads from the third cache, and from memory.
    memory_cores : float
        How many cores the memory serves at a time with so many bytes each.
    barrier_cycles : float
        Cycles from the last thread's arrival where threads meet until all go on.
    clock_hz : float
        Cycles a second.
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
    l3_bytes: int
    cores: int
    features: frozenset[str]
    fmas: float = 1.0
    l3_bandwidth: float = 8.0
    memory_bandwidth: float = 4.0
    memory_cores: float = 2.0
    barrier_cycles: float = 500.0
    clock_hz: float = NOMINAL_HZ
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
    def converts_float16(self) -> bool:
        """Whether vectors of float16 become float32 in one instruction."""
        return self.arch == "aarch64" or "f16c" in self.features

    @property
    def computes_float16(self) -> bool:
        """Whether vectors of float16 are multiplied and added."""
        return "fullfp16" in self.features

    @property
    def triple(self) -> str:
        """LLVM target triple."""
        return TRIPLES[self.arch, self.android]

    @cached_property
    def target(self) -> dict[str, Any]:
        """The target as TVM takes it."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu}
        # The processors that stand for others do not have them.
        named = {attribute[1:] for attribute in self.mattr}
        more = [f"+{f}" for f in (VNNI, AVX_VNNI, I8MM) if f in self.features and f not in named]
        if self.mattr or more:
            target["mattr"] = [*self.mattr, *more]
        return target

    @classmethod
    def named(cls, name: str) -> Simd:
        """The target that a user names: ``host``, a preset, JSON, a tag of TVM, ``llvm -mcpu=…``.

        Raises
        ------
        LeanconvError
            If nothing is known by that name.
        """
        if name == HOST:
            return _host()
        if name in PRESETS:
            return PRESETS[name]
        target = tvm_target.parse(name)
        if target is not None:
            return cls.from_target(target)
        raise LeanconvError(
            f"unknown target {name!r}{nearest(name, PRESETS)}; known are those of `tvmc targets`, "
            "tags of TVM such as raspberry-pi/4b-aarch64, JSON, and 'llvm -mcpu=…'"
        )

    @classmethod
    def from_target(cls, target: Mapping[str, Any]) -> Simd:
        """A :class:`Simd` for a TVM target given as a dict.

        Processors without a preset get the caches of the plainest core with the same registers;
        those with one are compiled for no more than the features that the delegate checks.
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
            wide = "+avx512" in "".join(mattr)
            base = PRESETS.get(mcpu, PRESETS["x86-64-v4" if wide else "x86-64-v3"])
        elif mcpu:
            base = PRESETS.get(mcpu, PRESETS["cortex-a53"])
        else:
            base = replace(PRESETS["cortex-a53"], mcpu="generic")
        if base.arch != arch:
            triple = TRIPLES[base.arch, False]
            raise LeanconvError(f"{mcpu!r} is another kind of processor: add -mtriple={triple}")
        triple = TRIPLES[arch, "android" in mtriple]
        if mcpu and mcpu not in PRESETS:
            llvm_names.check_processor(mcpu, triple, TRIPLES.values())
        if mattr:
            llvm_names.check_features(mattr, triple)
        extra = frozenset(attribute[1:] for attribute in mattr if attribute.startswith("+"))
        return replace(
            base,
            name=mcpu or base.name,
            mcpu=base.mcpu if mcpu in PRESETS else mcpu or base.mcpu,
            mattr=mattr,
            features=base.features | (extra & _MORE_FEATURES),
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
        arch = machine()
    arch = arch.replace("arm64", "aarch64")
    if (arch, False) not in TRIPLES:
        raise LeanconvError(f"architecture {arch!r} is not supported: x86_64 or aarch64")
    return arch


#: What a target may have beyond its processor's.
_MORE_FEATURES = frozenset({"neon", "dotprod", "fullfp16", I8MM, VNNI, AVX_VNNI})


def _preset(core: Core, android: bool) -> Simd:
    """A target of a core; four of them share work."""
    return Simd(
        name=core.name + (ANDROID_SUFFIX if android else ""),
        arch=core.arch,
        mcpu=core.mcpu,
        vector_bytes=core.vector_bytes,
        vector_registers=core.vector_registers,
        l1_bytes=core.l1_kib * KIB,
        l2_bytes=core.l2_kib * KIB,
        l3_bytes=core.l3_kib * KIB,
        cores=4,
        features=core.features,
        fmas=core.fmas,
        l3_bandwidth=core.l3_bandwidth,
        memory_bandwidth=core.memory_bandwidth,
        loads_per_fma=core.loads_per_fma,
        in_order=core.in_order,
        android=android,
    )


#: Every named target but ``host``.
PRESETS: Mapping[str, Simd] = {
    preset.name: preset
    for preset in (_preset(core, android) for android in (False, True) for core in CORES)
}


def _host() -> Simd:
    """This machine: the preset of its core, with its real caches and cores."""
    host = this_host()
    return replace(
        PRESETS[host.core.name],
        name=HOST,
        l1_bytes=host.l1_bytes,
        l2_bytes=host.l2_bytes,
        l3_bytes=host.l3_bytes,
        cores=len(host.numbers),
    )
