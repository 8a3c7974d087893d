"""Which core this machine has, as its system tells.

Of a system with cores of several kinds (big.LITTLE) it is the fastest, and only their number
counts: work that is shared evenly among fast and slow cores waits for the slow ones.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.target.cores import AVX_VNNI, BY_NAME, CORES, I8MM, KIB, VNNI, Core

CPUINFO = Path("/proc/cpuinfo")
CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Host:
    """The core of this machine.

    Parameters
    ----------
    core : Core
        The row of the table; the nearest one if the machine's is not there.
    called : str
        What the machine calls itself.
    guessed : bool
        Whether the core is only the nearest.
    numbers : tuple of int
        The cores of that kind which this process may use, as the system counts.
    l1_bytes, l2_bytes, l3_bytes : int
        Data caches as the system tells, else of ``core``; of the third one a core's share.
    """

    core: Core
    called: str
    guessed: bool
    numbers: tuple[int, ...]
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int


def machine() -> str:
    """This machine's instruction set."""
    return platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")


def this_host(cpuinfo: Path = CPUINFO, cpus: Path = CPUS) -> Host:
    """What this machine is.

    Raises
    ------
    LeanconvError
        If its processor is none that kernels can be compiled for, or it does not tell.
    """
    arch = machine()
    if arch not in ("x86_64", "aarch64"):
        raise LeanconvError(f"architecture {arch!r} is not supported: x86_64 or aarch64")
    try:
        blocks = cpuinfo.read_text(errors="replace").split("\n\n")
    except OSError as error:
        raise LeanconvError(f"cannot tell what this machine is ({error}): name a target") from None
    usable = os.sched_getaffinity(0)
    found: dict[tuple[str, bool, Core], list[int]] = {}
    for block in map(_values, blocks):
        number = _number(block.get("processor", ""))
        if number in usable:
            kind = _x86_core(block) if arch == "x86_64" else _arm_core(block)
            found.setdefault(kind, []).append(number)
    if not found:
        raise LeanconvError(f"{cpuinfo} does not tell what this machine is: name a target")
    (called, guessed, core), numbers = max(
        found.items(), key=lambda item: (_clock(cpus, item[1][0]) * item[0][2].speed, item[1])
    )
    first = cpus / f"cpu{numbers[0]}"
    return Host(
        core, called, guessed, tuple(numbers),
        _cache_bytes(first, 1)[0] or core.l1_kib * KIB,
        _cache_bytes(first, 2)[0] or core.l2_kib * KIB,
        _share(_cache_bytes(first, 3)) or core.l3_kib * KIB,
    )  # fmt: skip


def _values(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _x86_core(block: Mapping[str, str]) -> tuple[str, bool, Core]:
    """What it calls itself, whether the row is guessed, the row."""
    # Linux writes underscores that LLVM does not.
    named = block.get("flags", "").replace("avx512_vnni", VNNI).replace("avx_vnni", AVX_VNNI)
    flags = set(named.split())
    levels = [BY_NAME[name] for name in ("x86-64-v4", "x86-64-v3")]
    level = next((level for level in levels if level.features <= flags), None)
    if level is None:
        raise LeanconvError("this processor lacks AVX2 and FMA, the least that is supported")
    vendor = block.get("vendor_id", "")
    family, model = (_number(block.get(name, "")) for name in ("cpu family", "model"))
    called = f"{block.get('model name', vendor)} (family {family}, model {model})"
    for core in CORES:
        for who, its_family, first, last in (part for part in core.parts if len(part) == 4):
            same = (who, its_family) == (vendor, family) and first <= model <= last
            # A hypervisor may hide what the core could do.
            if same and core.mcpu == level.name and core.features <= flags:
                return called, False, core
    return called, True, level


def _arm_core(block: Mapping[str, str]) -> tuple[str, bool, Core]:
    implementer, part = (_number(block.get(f"CPU {name}", "")) for name in ("implementer", "part"))
    called = f"aarch64 (implementer {implementer:#04x}, part {part:#05x})"
    has = set(block.get("Features", "").split())
    modern = {"asimddp", "asimdhp"} <= has
    # An old system may hide what the core could do.
    hidden = {name for name, shown in (("dotprod", modern), (I8MM, I8MM in has)) if not shown}
    for core in CORES:
        if (implementer, part) in core.parts and not core.features & hidden:
            return called, False, core
    # Cores since Armv8.4, which nobody builds in order but for a phone's small cluster.
    name = "cortex-a76" if modern and "ilrcpc" in has else "cortex-a55" if modern else "cortex-a53"
    return called, True, BY_NAME[name]


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1


def _clock(cpus: Path, number: int) -> float:
    """The highest clock of a core, of which only ratios matter; 1 if the system does not tell."""
    try:
        return float((cpus / f"cpu{number}" / "cpufreq" / "cpuinfo_max_freq").read_text())
    except (OSError, ValueError):
        return 1.0


def _cache_bytes(cpu: Path, level: int) -> tuple[int, int]:
    """Size of a core's data cache, and how many cores share it; zeros where it is not told."""
    for index in sorted((cpu / "cache").glob("index*")):
        try:
            kind, its_level, size, shared = (
                (index / name).read_text().strip()
                for name in ("type", "level", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        if its_level == str(level) and kind != "Instruction" and size[:-1].isdigit():
            return int(size[:-1]) * {"K": KIB, "M": KIB * KIB}.get(size[-1], 0), _count(shared)
    return 0, 1


def _share(cache: tuple[int, int]) -> int:
    return cache[0] // cache[1]


def _count(cpus: str) -> int:
    """Cores in a list such as ``0-3,8``."""
    ranges = (part.partition("-") for part in cpus.split(",") if part)
    return max(1, sum(_number(last or first) - _number(first) + 1 for first, _, last in ranges))
