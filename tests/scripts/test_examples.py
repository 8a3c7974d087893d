"""The examples, run as their readers run them; and what they compute, beyond what they print."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import make_models
from schedules.algorithms import REGISTRY
from schedules.planner import plan_layer
from schedules.simd import Simd
from schedules.workload import Conv2dWorkload
from tests.support.kernels import Case, HostKernel

EXAMPLES = Path(make_models.__file__).parent / "examples"
OWN_ALGORITHM = EXAMPLES / "own_algorithm.py"
HOST = Simd.named("host")


def test_own_algorithm_runs(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(OWN_ALGORITHM)], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    memory, difference = run.stdout.splitlines()
    assert memory == f"padded: {58 * 58 * 64 * 4} bytes of workspace"
    found = re.fullmatch(r"largest difference to TFLite's built-in kernel: (\S+)", difference)
    assert found and 0 < float(found[1]) < 1e-5


def test_own_algorithm_is_short() -> None:
    assert len(OWN_ALGORITHM.read_text(encoding="utf-8").splitlines()) < 60


@pytest.fixture
def own_algorithm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, which registers an algorithm as it is imported, and no trace of it afterwards."""
    monkeypatch.setattr(REGISTRY, "_algorithms", dict(REGISTRY._algorithms))
    monkeypatch.syspath_prepend(EXAMPLES)
    yield importlib.import_module(OWN_ALGORITHM.stem)
    del sys.modules[OWN_ALGORITHM.stem]


@pytest.mark.parametrize(
    ("padding", "geometry"),
    [
        ("SAME", {"in_channels": 17, "batch": 2}),
        ("SAME", {"in_channels": 3, "stride_height": 2, "stride_width": 3}),
        ("SAME", {"in_channels": 8, "dilation_height": 2, "dilation_width": 2}),
        ("SAME", {"in_channels": 5, "kernel_width": 1, "stride_width": 2}),
        ("VALID", {"in_channels": 9}),
        ("SAME", {"in_channels": 24, "kernel_height": 1, "kernel_width": 1}),
    ],
)
def test_own_algorithm_agrees_with_float64(
    padding: str, geometry: dict[str, Any], own_algorithm: ModuleType, tmp_path: Path
) -> None:
    base = {"in_height": 12, "in_width": 15, "out_channels": 20}
    base |= {"kernel_height": 3, "kernel_width": 3}
    workload = Conv2dWorkload.with_padding(padding, **base | geometry)
    kernel = HostKernel(plan_layer(workload, HOST, "padded"), HOST, tmp_path)
    case = Case.random(workload)
    whole = kernel(case)
    case.check(whole, kernel.plan)
    assert (kernel(case, threads=2, pieces=3) == whole).all()
    assert kernel.kernel.workspace_bytes == kernel.plan.workspace_bytes
