"""A kernel for one thread, and another one on the same packed weights for several."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.plan.plan import Plan
from schedules.plan.planner import Limits, plan_kernel
from schedules.target.simd import PRESETS
from tests.support.kernels import error_bound
from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, single_conv
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.build import Report, build
from tvmc.running.probe import Probe

SIMD = PRESETS["x86-64-v3"]
#: Strassen's algorithm is for x86-64.
HOSTS = [SIMD] if platform.machine() == "x86_64" else []
INPUT, LAYER = (1, 28, 28, 128), Conv(256, (1, 1), activation="relu6")
MODEL = single_conv(INPUT, LAYER)
ONE, TWO = "strassen", "indirect"


@pytest.fixture(scope="module", params=HOSTS)
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("threads")
    (folder / "model.tflite").write_bytes(MODEL)
    return folder / "lib.so", build(folder / "model.tflite", folder / "lib.so", SIMD)


def opened(
    litert: InterpreterApi, library: Path, threads: int, **options: Any
) -> tuple[dict[str, Any], int]:
    """What the delegate reports of a run, and bytes of the arena; the output is right."""
    delegate = litert.load_delegate(str(library), options)
    interpreter = litert.open(MODEL, delegate, num_threads=threads)
    (x,) = random_inputs(interpreter)
    (y,) = run(interpreter, [x])
    report = read_report(library, delegate)
    check(x, y, plan_kernel(LAYER.workload(INPUT), SIMD, report["layers"][0]["algorithm"]))
    return report, Probe(interpreter).arena_bytes()


def check(x: np.ndarray, y: np.ndarray, plan: Plan) -> None:
    """``y`` is within the error bound of the algorithm."""
    weights, bias = LAYER.constants(INPUT[-1])
    weights = weights.reshape(plan.layer.weight_shape)
    exact, direct = conv2d(plan.layer, x, weights, bias, None)
    bound = error_bound(plan, plan.layer, x, weights, bias, direct, None)
    assert (abs(y - exact) <= bound).all()


def test_several_threads_run_another_kernel(
    built: tuple[Path, Report], litert: InterpreterApi
) -> None:
    """Each is promised what it takes, and what it takes is within a limit of that."""
    library, report = built
    (layer,) = report.layers
    assert layer.algorithm == ONE
    assert layer.why is not None
    assert layer.why.endswith(f"several threads run {TWO}")
    assert report.algorithms == (ONE, TWO)
    arenas = {}
    for threads, algorithm in ((1, ONE), (2, TWO), (8, TWO)):
        told, arenas[threads] = opened(litert, library, threads)
        assert [layer["algorithm"] for layer in told["layers"]] == [algorithm]
        assert told["memory"]["arena_bytes"] == arenas[threads]
        assert told["memory"]["promised_arena_bytes"] == arenas[threads]
    planned = plan_kernel(LAYER.workload(INPUT), SIMD)
    assert arenas[1] - planned.workspace_bytes == arenas[2] == arenas[8]


def test_who_names_an_algorithm_gets_it(built: tuple[Path, Report], litert: InterpreterApi) -> None:
    for algorithm in (ONE, TWO):
        for threads in (1, 2):
            told, _ = opened(litert, built[0], threads, algorithm=algorithm)
            assert [layer["algorithm"] for layer in told["layers"]] == [algorithm]


def test_a_limit_holds_for_one_thread_too(
    built: tuple[Path, Report], litert: InterpreterApi, capfd: pytest.CaptureFixture[str]
) -> None:
    """An interpreter may get fewer threads later on."""
    library = built[0]
    told, _ = opened(litert, library, 1)
    need = sum(told["memory"][f"promised_{kind}_bytes"] for kind in ("arena", "packed", "own"))
    for threads, algorithm in ((1, ONE), (2, TWO)):
        told, _ = opened(litert, library, threads, memory_limit=need)
        assert (told["claimed"], told["threads"]) == (1, threads)
        assert told["layers"][0]["algorithm"] == algorithm
    delegate = litert.load_delegate(str(library), {"memory_limit": need - 1})
    litert.open(MODEL, delegate, num_threads=2)
    assert read_report(library, delegate)["claimed"] == 0
    assert f"{need} bytes are needed with 2 threads, {need} at least" in capfd.readouterr().err


@pytest.mark.parametrize("simd", HOSTS)
def test_plans_for_several_threads_have_that_kernel_alone(simd: Any) -> None:
    plan = plan_kernel(LAYER.workload(INPUT), simd, limits=Limits(threads=2))
    assert (plan.algorithm, plan.shared(simd)) == (TWO, None)
