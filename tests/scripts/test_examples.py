"""The examples, run as their readers run them; and what they compute, beyond what they print."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from schedules.algorithms import REGISTRY
from schedules.layer.block import workload_from_text
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.space import Space
from scripts.processes import ROOT, module_command, module_environment
from tests.support.kernels import Case, HostKernel
from tests.support.trials import record

EXAMPLES = ROOT / "scripts" / "examples"
OWN_ALGORITHM = "scripts.examples.own_algorithm"
HOST = Simd.named("host")


def run(example: str, folder: Path) -> list[str]:
    """The lines that an example prints; it leaves nothing in the current folder."""
    command = module_command(f"scripts.examples.{example}")
    environment = module_environment()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return done.stdout.splitlines()


def difference(line: str, label: str) -> float:
    """The figure behind ``label``."""
    found = re.fullmatch(rf"{re.escape(label)}:? (\S+)", line)
    assert found, line
    return float(found[1])


def test_own_algorithm_runs(tmp_path: Path) -> None:
    (line,) = run("own_algorithm", tmp_path)
    assert 0 < difference(line, f"padded: {58 * 58 * 64 * 4} bytes; off XNNPACK by") < 1e-5


def test_kernel_in_tvm_runs(tmp_path: Path) -> None:
    in_tvm, tvm_difference, in_c, c_difference = run("kernel_in_tvm", tmp_path)
    assert in_tvm.startswith("TVM: X [1, 28, 896], W [")
    assert re.fullmatch(r"C: strips_stage0; [1-9]\d* bytes", in_c)
    for line in (tvm_difference, c_difference):
        # The sums of 288 products of -1 to 1 are about 10.
        assert 0 < difference(line, "largest difference to float64") < 1e-4


def test_relax_pipeline_runs(tmp_path: Path) -> None:
    before, *left, after, first, middle, last, compared = run("relax_pipeline", tmp_path)
    assert (before, after) == ("as it is:", "in NHWC:")
    reason = "layout NCHW: only NHWC; relax.transform.ConvertLayout makes it so"
    assert left == [f"  relax.nn.conv2d is left to TVM: {reason}"] * 3
    geometries = [
        "conv3x3 s2 64x64x3->32 relu",
        "conv3x3 32x32x32->32 relu +",
        "conv1x1 32x32x32->10",
    ]
    for line, geometry in zip((first, middle, last), geometries, strict=True):
        taken, algorithm = line.strip().split(": ")
        assert taken == geometry
        assert algorithm in REGISTRY.names()
    assert difference(compared, "largest difference to TVM's own") < 1e-5


def test_tvmc_from_python_runs(tmp_path: Path) -> None:
    taken, compiled, time, kernel, trials, tuned = run("tvmc_from_python", tmp_path)
    assert taken == "conv3x3 56x56x64->64 relu: leanconv takes it"
    found = re.fullmatch(r"compiled: (\w+), since .+", compiled)
    assert found and found[1] in REGISTRY.names()
    assert re.fullmatch(r"TVM on this machine: \d+\.\d\d ms", time)
    assert re.fullmatch(rf"  main_\w+: {found[1]}, \d+ bytes", kernel)
    assert re.fullmatch(r"2 trials on this-machine: \w+", trials)
    assert difference(tuned, "compiled: tuned; largest difference") < 1e-4


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples_are_short(example: str) -> None:
    lines = (EXAMPLES / example).read_text(encoding="utf-8").splitlines()
    assert len(lines) < (60 if example == "own_algorithm.py" else 80)


@pytest.fixture
def own_algorithm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, which registers an algorithm as it is imported, and no trace of it afterwards."""
    monkeypatch.setattr(REGISTRY, "_algorithms", dict(REGISTRY._algorithms))
    yield importlib.import_module(OWN_ALGORITHM)
    del sys.modules[OWN_ALGORITHM]


@pytest.mark.usefixtures("own_algorithm")
def test_the_tuner_tries_the_own_knob_and_learns_from_it() -> None:
    space, random = Space(workload_from_text("12x14x8->16 k3x3 p1,1,1,1"), HOST), Random(0)
    samples = dict.fromkeys(space.sample(random) for _ in range(1000))
    own = [candidate for candidate in samples if candidate.algorithm == "padded"]
    pixels = np.array([candidate.knobs["pixels"] for candidate in own])
    assert {*pixels} == {1, 2, 4}
    # As if nothing else mattered.
    model = CostModel(HOST)
    model.fit(record(space.workload, HOST, c, 4.0 / c.knobs["pixels"]) for c in own)
    times = model.predict([space.plan(candidate) for candidate in own])
    assert times[pixels == 4].max() < times[pixels == 2].min()
    assert times[pixels == 2].max() < times[pixels == 1].min()


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
@pytest.mark.usefixtures("own_algorithm")
def test_own_algorithm_agrees_with_float64(
    padding: str, geometry: dict[str, Any], tmp_path: Path
) -> None:
    base = {"in_height": 12, "in_width": 15, "out_channels": 20}
    base |= {"kernel_height": 3, "kernel_width": 3}
    workload = Conv2dWorkload.with_padding(padding, **base | geometry)
    kernel = HostKernel(plan_kernel(workload, HOST, "padded"), HOST, tmp_path)
    case = Case.random(workload)
    whole = kernel(case)
    case.check(whole, kernel.plan)
    assert (kernel(case, threads=2, pieces=3) == whole).all()
    assert kernel.kernel.workspace_bytes == kernel.plan.workspace_bytes
