"""Which core a machine has, by what its system tells."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from schedules.target import host as host_module
from schedules.target.cores import CORES, KIB
from schedules.target.host import Host, this_host

AVX512 = "avx2 fma f16c avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni"
ARMV8_2 = "fp asimd asimddp asimdhp"
System = Callable[..., Host]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> System:
    """Write ``/proc/cpuinfo`` and caches of a machine, and look what it is."""

    def look(arch: str, *blocks: dict[str, object], clocks: tuple[int, ...] = ()) -> Host:
        monkeypatch.setattr(host_module, "machine", lambda: arch)
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(len(blocks))))
        text = "".join(
            "".join(f"{key}\t: {value}\n" for key, value in {"processor": i, **block}.items())
            + "\n"
            for i, block in enumerate(blocks)
        )
        (tmp_path / "cpuinfo").write_text(text)
        for i, clock in enumerate(clocks):
            path = tmp_path / f"cpu{i}" / "cpufreq" / "cpuinfo_max_freq"
            path.parent.mkdir(parents=True)
            path.write_text(str(clock))
        return this_host(tmp_path / "cpuinfo", tmp_path)

    return look


def x86(vendor: str, family: int, model: int, flags: str = AVX512) -> dict[str, object]:
    return {"vendor_id": vendor, "cpu family": family, "model": model, "flags": flags,
            "model name": "Some CPU"}  # fmt: skip


def arm(part: int, implementer: int = 0x41, features: str = ARMV8_2) -> dict[str, object]:
    return {"CPU implementer": hex(implementer), "CPU part": hex(part), "Features": features}


@pytest.mark.parametrize(
    ("block", "name", "loads", "guessed"),
    [
        (x86("AuthenticAMD", 25, 17), "znver4", 2, False),
        (x86("AuthenticAMD", 25, 33, "avx2 fma f16c"), "znver3", 1, False),
        (x86("AuthenticAMD", 26, 2), "znver5", 1, False),
        (x86("GenuineIntel", 6, 143), "sapphirerapids", 1, False),
        (x86("GenuineIntel", 6, 154, "avx2 fma f16c avx_vnni"), "alderlake", 1, False),
        # What a hypervisor hides is not there.
        (x86("GenuineIntel", 6, 143, "avx2 fma f16c"), "x86-64-v3", 1, True),
        (x86("Somebody", 6, 143), "x86-64-v4", 2, True),
        ({"flags": AVX512}, "x86-64-v4", 2, True),
    ],
)
def test_x86(
    system: System, block: dict[str, object], name: str, loads: int, guessed: bool
) -> None:
    found = system("x86_64", block)
    assert (found.core.name, found.core.loads_per_fma, found.guessed) == (name, loads, guessed)


@pytest.mark.parametrize(
    ("block", "name", "guessed"),
    [
        (arm(0xD0B), "cortex-a76", False),
        (arm(0x804, 0x51), "cortex-a76", False),
        (arm(0xD03, features="fp asimd"), "cortex-a53", False),
        (arm(0xD0B, features="fp asimd"), "cortex-a53", True),
        (arm(0xD47, features=f"{ARMV8_2} ilrcpc i8mm"), "cortex-a710", False),
        (arm(0xD47, features=f"{ARMV8_2} ilrcpc"), "cortex-a76", True),
        (arm(0xFFF), "cortex-a55", True),
        (arm(0xFFF, features=f"{ARMV8_2} ilrcpc"), "cortex-a76", True),
        ({"Features": "fp asimd", "CPU part": "?"}, "cortex-a53", True),
    ],
)
def test_arm(system: System, block: dict[str, object], name: str, guessed: bool) -> None:
    found = system("aarch64", block)
    assert (found.core.name, found.guessed) == (name, guessed)
    assert found.l2_bytes == found.core.l2_kib * KIB


def test_the_fastest_cluster(system: System) -> None:
    """By what its cores can do, and their clock."""
    small, big = arm(0xD05), arm(0xD0B)
    found = system("aarch64", *4 * [small], *2 * [big])
    assert (found.core.name, found.numbers) == ("cortex-a76", (4, 5))


def test_the_clock_decides_among_equals(system: System) -> None:
    blocks = (*4 * [arm(0xD05)], arm(0xD03, features="fp asimd"))
    clocks = (*4 * [1_000_000], 3_000_000)
    found = system("aarch64", *blocks, clocks=clocks)
    assert (found.core.name, found.numbers) == ("cortex-a53", (4,))


def test_caches_of_the_system(system: System, tmp_path: Path) -> None:
    for index, (level, kind, size, shared) in enumerate(
        [(1, "Instruction", "8K", "0"), (1, "Data", "48K", "0"), (2, "Unified", "2048K", "0"),
         (3, "Unified", "32M", "0-3,8-11")]
    ):  # fmt: skip
        folder = tmp_path / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        values = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
        for name, value in values.items():
            (folder / name).write_text(f"{value}\n")
    found = system("x86_64", x86("GenuineIntel", 6, 143))
    caches = (found.l1_bytes, found.l2_bytes, found.l3_bytes)
    assert caches == (48 * KIB, 2048 * KIB, 4096 * KIB)


@pytest.mark.parametrize(
    ("arch", "block", "message"),
    [
        ("riscv64", {}, "'riscv64' is not supported"),
        ("x86_64", {"flags": "sse2"}, "lacks AVX2 and FMA"),
        ("x86_64", {"processor": 7}, "does not tell what this machine is: name a target"),
        ("x86_64", {"processor": "?"}, "does not tell what this machine is: name a target"),
    ],
)
def test_what_cannot_be_used(
    system: System, arch: str, block: dict[str, object], message: str
) -> None:
    with pytest.raises(LeanconvError, match=message):
        system(arch, block)


def test_a_part_is_one_core() -> None:
    parts = [part for core in CORES for part in core.parts]
    arm_parts = [part for part in parts if len(part) == 2]
    assert len(set(arm_parts)) == len(arm_parts)
    ranges = sorted(part for part in parts if len(part) == 4)
    for one, other in pairwise(ranges):
        assert one[:2] != other[:2] or one[3] < other[2], (one, other)
