"""Kernels from the store: only where nothing that decides about them differs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import schedules
from schedules.algorithms import REGISTRY
from schedules.algorithms.indirect import Indirect
from schedules.layer.block import Block
from schedules.layer.sparsity import ZEROS
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.lower.kernel import KernelObject
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import APART, compile_plans, kernel_key, sources_digest
from schedules.store import SWITCH
from schedules.target.simd import PRESETS, Simd

LAYER = Conv2dWorkload(6, 6, 8, 8, 3, 3)
SIMD = PRESETS["x86-64-v3"]
PLAN = plan_kernel(LAYER, SIMD, "indirect")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(SWITCH, raising=False)
    return tmp_path / "leanconv" / "store"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the kernels of each compilation."""
    calls: list[list[str]] = []
    compile_schedules = c_abi.compile_schedules

    def count(schedules: Any, simd: Simd) -> KernelObject:
        calls.append(list(schedules))
        return compile_schedules(schedules, simd)

    monkeypatch.setattr(c_abi, "compile_schedules", count)
    return calls


def test_compiled_once(compiled: list[list[str]]) -> None:
    plans = {"one": PLAN, "two": plan_kernel(LAYER, SIMD, "kn2row_as")}
    first, second = (compile_plans(plans, SIMD) for _ in range(2))
    assert compiled == [["one", "two"]]
    assert second == first
    assert first.kernels["two"].buffers


def test_a_damaged_entry_is_compiled_again(own_store: Path, compiled: list[list[str]]) -> None:
    first = compile_plans({"one": PLAN}, SIMD)
    (entry,) = (path for path in own_store.rglob("*") if path.is_file())
    entry.write_bytes(entry.read_bytes()[:-1])
    assert compile_plans({"one": PLAN}, SIMD) == first
    assert compile_plans({"one": PLAN}, SIMD) == first
    assert len(compiled) == 2


def test_bypassed(
    own_store: Path, compiled: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "off")
    assert compile_plans({"one": PLAN}, SIMD) == compile_plans({"one": PLAN}, SIMD)
    assert len(compiled) == 2
    assert not own_store.exists()


def test_whatever_decides_is_in_the_key() -> None:
    block = plan_kernel(Block((LAYER_1X1, DEPTHWISE, LAYER_1X1)), SIMD)
    other_block = plan_kernel(Block((DEPTHWISE, LAYER_1X1)), SIMD)
    plans = [
        PLAN,
        plan_kernel(LAYER, SIMD, "im2col"),
        *(plan_kernel(LAYER, SIMD, f"winograd:outputs={outputs}") for outputs in (2, 4)),
        *(replace(PLAN, knobs={**PLAN.knobs, name: "other"}) for name in PLAN.knobs),
        *(replace(PLAN, workload=other) for other in changed(LAYER)),
        block,
        other_block,
        replace(block, knobs={**block.knobs, next(iter(block.knobs)): "other"}),
    ]
    keys = [kernel_key({"k": plan}, SIMD) for plan in plans]
    keys += [kernel_key({"k": PLAN}, simd) for simd in targets(SIMD)]
    keys += [kernel_key({"other": PLAN}, SIMD), kernel_key({"k": PLAN, "other": PLAN}, SIMD)]
    assert len(set(keys)) == len(keys)


SOURCES = Path(schedules.__file__).parent
LAYER_1X1 = Conv2dWorkload(6, 6, 8, 8, 1, 1)
DEPTHWISE = Conv2dWorkload(
    6, 6, 8, 8, 3, 3, groups=8, pad_top=1, pad_bottom=1, pad_left=1, pad_right=1
)


def changed(layer: Conv2dWorkload) -> list[Conv2dWorkload]:
    """``layer`` with each of its fields changed by itself."""
    others: dict[str, Any] = {
        name: value + 1
        for name, value in asdict(layer).items()
        if type(value) is int and name not in ("groups", "zeros")
    }
    found = [replace(layer, **{name: value}) for name, value in others.items()]
    found += [
        replace(layer, groups=2),
        replace(layer, zeros=ZEROS[-1]),
        replace(layer, activation="relu"),
    ]
    found += [replace(layer, residual=True)]
    return [*found, replace(layer, residual=True, output_activation="relu")]


def targets(simd: Simd) -> list[Simd]:
    """``simd`` with each of its fields changed by itself."""
    values: dict[str, Any] = {
        "features": frozenset({"avx2"}),
        "mattr": ("+fma",),
        "android": True,
        "in_order": True,
    }
    for name, value in vars(simd).items():
        if type(value) in (int, str):
            values[name] = value * 2 or 1
    return [replace(simd, **{name: value}) for name, value in values.items()]


def test_what_does_not_decide_is_not_in_the_key() -> None:
    key = kernel_key({"k": PLAN}, SIMD)
    assert SIMD.target  # is computed once, and kept in it
    reordered = dict(reversed(list(PLAN.knobs.items())))
    assert kernel_key({"k": replace(PLAN, knobs=reordered, why="asked for")}, SIMD) == key


def test_sources_are_in_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "schedules"
    shutil.copytree(SOURCES, folder)
    before = sources_digest(folder)
    for name in ("select/report.py", "tuning/search/space.py", "relax/transform.py"):
        (folder / name).write_text("other")
    assert sources_digest(folder) == before
    seen = {before}
    for name in ("lower/c_abi.py", "algorithms/mec.py", "new.py"):
        with (folder / name).open("a") as file:
            file.write("# changed\n")
        seen.add(sources_digest(folder))
    (folder / "new.py").rename(folder / "newer.py")
    seen.add(sources_digest(folder))
    assert len(seen) == 5


def test_no_kernel_depends_on_what_is_left_out() -> None:
    ask = (
        "import sys, schedules.plan.stored_kernels; "
        "print(*(m.__file__ for n, m in sys.modules.items() if "
    )
    command = [sys.executable, "-c", ask + "n.split('.')[0] == 'schedules'))"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = set(map(Path, said.split()))
    assert SOURCES / "lower" / "c_abi.py" in loaded
    assert not loaded & {path for pattern in APART for path in SOURCES.glob(pattern)}


class Elsewhere(Indirect):
    """An algorithm whose sources are not in the key."""

    name = "elsewhere"


class Faulty(Plan):
    """A plan that is scheduled in another way."""


def test_what_comes_from_elsewhere_is_not_kept(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGISTRY, "_algorithms", dict(REGISTRY._algorithms))
    REGISTRY.add(Elsewhere())
    compile_plans({"k": plan_kernel(LAYER, SIMD, "elsewhere")}, SIMD)
    compile_plans({"k": Faulty(**vars(PLAN))}, SIMD)
    assert not own_store.exists()
