"""The same delegates, compiled for Arm, on the emulated board."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmc
from schedules.algorithms import REGISTRY
from schedules.target.simd import Simd
from scripts.benchmarks.harness.bound import network_bound
from scripts.board.board import Board
from tests.support import coded_operators, hybrid_models, hybrid_sweep, operator_models
from tests.support.hybrid_sweep import swept_layers
from tests.support.operator_models import Case, Constant, inputs_of, model
from tests.support.quantised_layers import (
    OPERATORS,
    WINOGRAD_SHAPES,
    has_rule,
    random_layers,
)
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, run
from tests.tflite_delegate.csrc import test_special_values
from tests.tflite_delegate.csrc.kernels import test_quantised
from tests.tflite_delegate.csrc.operators import operator_cases, test_movement, test_operators
from tests.tflite_delegate.csrc.run import test_quantised_rows, test_rows
from tests.tflite_delegate.csrc.test_delegate import ZOO, check_conv, served, zoo_model
from tflite_delegate.build import build
from tflite_delegate.table import ROUNDINGS
from tvmc.running.interpreter import Session, runtime

BuildDelegate = Callable[..., Path]
RunOnBoard = Callable[..., "dict[str, Outcome]"]
SCRIPT = Path(__file__).with_name("board_run.py")


@dataclass(frozen=True)
class Outcome:
    """What one run on the board gave."""

    outputs: list[np.ndarray]
    report: dict[str, Any]
    stderr: str


@pytest.fixture(scope="session")
def run_on_board(arm_board: Board, tmp_path_factory: pytest.TempPathFactory) -> RunOnBoard:
    def run_model(
        model: Path,
        delegate: Path,
        inputs: Sequence[np.ndarray],
        cpu: str = "cortex-a76",
        threads: int = 1,
        algorithms: Sequence[str] = ("",),
        plain: str = "",
        **options: Any,
    ) -> dict[str, Outcome]:
        folder = tmp_path_factory.mktemp("board")
        np.savez(folder / "inputs.npz", *inputs)
        files = [folder / name for name in ("inputs.npz", "outputs.npz", "reports.json")]
        arguments: list[str | Path] = [
            model,
            delegate,
            str(threads),
            ",".join(algorithms),
            plain,
            *files,
        ]
        result = arm_board.python(
            [SCRIPT, *arguments], cpu, capture_output=True, timeout=600, **options
        )
        assert result.returncode == 0, result.stderr
        reports = json.loads(files[2].read_text())
        with np.load(files[1]) as outputs:
            count = len(outputs.files) // len(reports)
            return {
                name: Outcome([outputs[f"{name}.{i}"] for i in range(count)], report, result.stderr)
                for name, report in reports.items()
            }

    return run_model


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "zoo.tflite"
    path.write_bytes(zoo_model())
    return path


#: Of the algorithms, those whose weights are packed differently or that take a workspace.
PACKED_DIFFERENTLY = ("dense", "indirect", "mec", "kn2row_aa", "winograd", "depthwise")


@pytest.mark.parametrize(
    ("target", "algorithms"),
    [
        ("cortex-a76", PACKED_DIFFERENTLY),
        pytest.param("cortex-a76", REGISTRY.names(), marks=pytest.mark.slow),
        pytest.param("cortex-a53", REGISTRY.names(), marks=pytest.mark.slow),
    ],
    ids=["cortex-a76-few", "cortex-a76", "cortex-a53"],
)
def test_zoo(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    litert: InterpreterApi,
    zoo: Path,
    target: str,
    algorithms: Sequence[str],
) -> None:
    """All algorithms in one process: emulated Python takes seconds to start."""
    simd = Simd.named(target)
    library = build_delegate(zoo, algorithms, target)
    inputs = random_inputs(litert.open(zoo))
    outcomes = run_on_board(zoo, library, inputs, target, 2, algorithms)
    assert list(outcomes) == list(algorithms)
    for algorithm, outcome in outcomes.items():
        names = served(algorithm, simd)
        assert outcome.report["claimed"] == len(names), algorithm
        assert {layer["algorithm"] for layer in outcome.report["layers"]} == {algorithm}
        for (name, (_, conv)), x, y in zip(ZOO.items(), inputs, outcome.outputs, strict=True):
            check_conv(conv, x, y, algorithm=algorithm if name in names else None, simd=simd)


def test_all_operators(
    run_on_board: RunOnBoard, build_delegate: BuildDelegate, litert: InterpreterApi, tmp_path: Path
) -> None:
    cases = test_operators.CASES | test_movement.CASES
    model = tmp_path / "operators.tflite"
    model.write_bytes(operator_cases.zoo_model(cases))
    alone = tmp_path / "convolutions.tflite"
    alone.write_bytes(operator_cases.convolutions())
    library = build_delegate(alone, ["auto"], "cortex-a53")
    builtin = litert.open(model)
    inputs = random_inputs(builtin)
    expected = run(builtin, inputs)
    (outcome,) = run_on_board(model, library, inputs, "cortex-a53", 2).values()
    operator_cases.check_all(cases, outcome.outputs, expected, inputs)
    calls = [entry["calls"] for entry in outcome.report["operators"]]
    assert calls == [1] * sum(case.operators for case in cases.values())


@pytest.mark.parametrize(
    ("rounding", "cpu"),
    [
        ("xnnpack", "cortex-a76"),
        ("builtin", "cortex-a53"),
        pytest.param("xnnpack", "cortex-a53", marks=pytest.mark.slow),
        pytest.param("builtin", "cortex-a76", marks=pytest.mark.slow),
    ],
)
def test_codes(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    tmp_path: Path,
    rounding: str,
    cpu: str,
) -> None:
    """Operators on codes of 8 bits are what LiteRT computes there, to the last bit."""
    cases = [
        case
        for name in coded_operators.OPERATORS
        for dtype in ("int8", "uint8")
        for case in coded_operators.random_cases(name, dtype, 12)
        if (rounding, name, dtype) != ("builtin", "RESIZE_BILINEAR", "uint8")
    ]
    model = tmp_path / "codes.tflite"
    model.write_bytes(coded_operators.model(cases))
    library = build_delegate(operator_cases.convolutions(), ["auto"], cpu, rounding)
    rng = np.random.default_rng(1)
    inputs = [value for case in cases for value in case.draw(rng)]
    outcomes = run_on_board(model, library, inputs, cpu, plain=rounding)
    ours = outcomes[""]
    calls = [entry["calls"] for entry in ours.report["operators"]]
    assert calls == [1] * sum(case.nodes for case in cases)
    wrong = [
        (case, np.count_nonzero(y != expected))
        for case, y, expected in zip(cases, ours.outputs, outcomes[rounding].outputs, strict=True)
        if not np.array_equal(y, expected)
    ]
    assert not wrong


#: Layers of each geometry by each rule: few in every run, many in the sweep.
FEW, MANY = (4, 1), (50, 4)
SWEPT = [
    pytest.param(cpu, rounding, MANY, marks=pytest.mark.slow)
    for cpu in ("cortex-a53", "cortex-a72", "cortex-a76", "cortex-a710")
    for rounding in ROUNDINGS
]


@pytest.mark.parametrize(
    ("cpu", "rounding", "layers"),
    [("cortex-a53", "builtin", FEW), *SWEPT],
)
def test_layers_by_rules(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    litert: InterpreterApi,
    tmp_path: Path,
    cpu: str,
    rounding: str,
    layers: tuple[int, int],
) -> None:
    """Layers of int8 and uint8 are what LiteRT computes there, to the last bit."""
    cells = {
        (operator, dtype): random_layers(operator, dtype, *layers)
        for operator in OPERATORS
        for dtype in ("int8", "uint8")
        if has_rule(operator, dtype, rounding)
    }
    cases = [case for cell in cells.values() for case in cell]
    content = operator_models.model(cases, litert.open)
    model = tmp_path / "layers.tflite"
    model.write_bytes(content)
    # Named, so that layers get kernels that are no faster than XNNPACK's.
    library = build_delegate(content, ["indirect", "depthwise"], cpu, rounding)
    outcomes = run_on_board(model, library, inputs_of(cases), cpu, plain=rounding)
    assert [entry["calls"] for entry in outcomes[""].report["layers"]] == [1] * len(cases)
    owners = [key for key, cell in cells.items() for _ in cell]
    wrong = Counter(
        key
        for key, y, expected in zip(
            owners, outcomes[""].outputs, outcomes[rounding].outputs, strict=True
        )
        if not np.array_equal(y, expected)
    )
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72"])
def test_layers_in_winograds_domain(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    litert: InterpreterApi,
    tmp_path: Path,
    cpu: str,
    rounding: str,
) -> None:
    """Sums of integers are exact in it, so layers are by any rule what LiteRT computes."""
    cases = random_layers("CONV_2D", "int8", 25, among=WINOGRAD_SHAPES)
    content, model = operator_models.model(cases, litert.open), tmp_path / "layers.tflite"
    model.write_bytes(content)
    library = build_delegate(content, ["winograd"], cpu, rounding)
    outcomes = run_on_board(model, library, inputs_of(cases), cpu, plain=rounding)
    layers = outcomes[""].report["layers"]
    assert [(layer["algorithm"], layer["calls"]) for layer in layers] == [("winograd", 1)] * 200
    outputs = (outcomes[name].outputs for name in ("", rounding))
    assert not [
        case for case, *both in zip(cases, *outputs, strict=True) if not np.array_equal(*both)
    ]


@pytest.mark.parametrize(
    ("cpu", "rounding", "layers"),
    [
        ("cortex-a76", "builtin", (4, 2)),
        *(pytest.param(*cell.values[:2], (20, None), marks=pytest.mark.slow) for cell in SWEPT),
    ],
)
def test_hybrid_layers_by_rules(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    tmp_path: Path,
    cpu: str,
    rounding: str,
    layers: tuple[int, int | None],
) -> None:
    """Layers of floats with int8 weights are what LiteRT computes there, to the last bit."""
    cases = [case for kind in hybrid_sweep.SHAPES for case in swept_layers(kind, *layers)]
    content, model = hybrid_models.model(cases), tmp_path / "hybrid.tflite"
    model.write_bytes(content)
    library = build_delegate(content, ["indirect", "dense", "depthwise"], cpu, rounding)
    images = [case.image() for case in cases]
    outcomes = run_on_board(model, library, images, cpu, plain=rounding)
    assert [entry["calls"] for entry in outcomes[""].report["layers"]] == [1] * len(cases)
    outputs = (outcomes[name].outputs for name in ("", rounding))
    wrong = [
        (case, int((y != expected).sum()))
        for case, y, expected in zip(cases, *outputs, strict=True)
        if not np.array_equal(y, expected)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "name", ["resnet8_float", pytest.param("mobilenet_96_float", marks=pytest.mark.slow)]
)
def test_trained_models(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    litert: InterpreterApi,
    trained_models: Path,
    name: str,
) -> None:
    model = trained_models / f"{name}.tflite"
    library = build_delegate(model, ["auto"], "cortex-a76")
    builtin = litert.open(model)
    inputs = random_inputs(builtin)
    expected = run(builtin, inputs)
    (outcome,) = run_on_board(model, library, inputs).values()
    assert all(layer["calls"] == 1 for layer in outcome.report["layers"])
    for y, y_builtin in zip(outcome.outputs, expected, strict=True):
        assert np.allclose(y, y_builtin, rtol=0, atol=1e-5)  # probabilities


def test_chains_by_rows(run_on_board: RunOnBoard, tmp_path: Path) -> None:
    """Chains that are computed row by row, by two threads."""
    model, library = tmp_path / "chains.tflite", tmp_path / "rows.so"
    model.write_bytes(test_rows.chains())
    report = build(model, library, Simd.named("cortex-a76"), algorithms=test_rows.ALGORITHMS)
    inputs = random_inputs(Session(model, runtime("litert"), xnnpack=False).interpreter)
    (outcome,) = run_on_board(model, library, inputs, threads=2).values()
    assert all(layer["calls"] == 1 for layer in outcome.report["layers"])
    test_rows.check(outcome.outputs, model, report, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_chains_of_integers_by_rows(
    run_on_board: RunOnBoard, tmp_path: Path, dtype: str, cpu: str
) -> None:
    """To the last bit what XNNPACK computes there."""
    model, library = tmp_path / "chains.tflite", tmp_path / "rows.so"
    model.write_bytes(test_quantised_rows.chains(dtype))
    build(model, library, Simd.named(cpu), algorithms=test_quantised_rows.ALGORITHMS)
    inputs = test_quantised_rows.images_of(Session(model, runtime("litert")).interpreter)
    outcomes = run_on_board(model, library, inputs, cpu, threads=2, plain="xnnpack")
    ours, theirs = outcomes.values()
    assert [layer["calls"] for layer in ours.report["layers"]] == [1, 1]
    test_quantised_rows.check(ours.outputs, theirs.outputs)


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", pytest.param("squeezenet", marks=pytest.mark.slow)]
)
def test_networks(
    run_on_board: RunOnBoard,
    made_model: Callable[[str], Path],
    name: str,
    tmp_path: Path,
) -> None:
    """Whole networks, fused blocks and operators in between, by the bound for networks."""
    model, library = made_model(name), tmp_path / "network.so"
    report = tvmc.compile(model, target="cortex-a76", output=library).to_dict()
    builtin = Session(model, runtime("litert"), xnnpack=False)
    inputs = random_inputs(builtin.interpreter)
    expected = builtin.run(inputs)
    (outcome,) = run_on_board(model, library, inputs).values()
    bound = network_bound(model, report, builtin, expected)
    assert all(layer["calls"] == 1 for layer in outcome.report["layers"])
    assert report["left"] == ()
    for y, y_builtin in zip(outcome.outputs, expected, strict=True):
        assert np.all(abs(y - y_builtin) <= bound)


def test_delegate_for_android(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    litert: InterpreterApi,
    zoo: Path,
    tmp_path: Path,
) -> None:
    """Android's C library is played by the board's, under Android's names.

    With one thread: glibc's mutexes are larger than Android's on aarch64.
    """
    for name in ("libc", "libm"):
        (real,) = Board.default().folder.glob(f"system/lib/aarch64-linux-gnu/{name}.so.6")
        (tmp_path / f"{name}.so").symlink_to(real)
    simd = Simd.named("cortex-a76-android")
    library = build_delegate(zoo, ["auto"], simd.name)
    inputs = random_inputs(litert.open(zoo))
    environment = {"LD_LIBRARY_PATH": str(tmp_path)}
    (outcome,) = run_on_board(zoo, library, inputs, variables=environment).values()
    assert outcome.report["claimed"] == len(ZOO)
    for (_, conv), x, y in zip(ZOO.values(), inputs, outcome.outputs, strict=True):
        check_conv(conv, x, y, simd=simd)


@pytest.mark.parametrize("cpu", ["cortex-a76", pytest.param("cortex-a53", marks=pytest.mark.slow)])
def test_special_values_on_arm(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    litert: InterpreterApi,
    tmp_path: Path,
    cpu: str,
) -> None:
    """NaN and infinities come out as on x86, where TFLite's kernels are the reference."""
    model = tmp_path / "operators.tflite"
    content, names = test_special_values.operators(copies=True)
    model.write_bytes(content)
    inputs = [test_special_values.FIRST, test_special_values.SECOND]
    expected = run(litert.open(test_special_values.operators(copies=False)[0]), inputs)
    library = build_delegate(model, target=cpu)
    (outcome,) = run_on_board(model, library, inputs, cpu).values()
    test_special_values.check(names, outcome.outputs, expected)
    content, names = test_special_values.layers()
    model.write_bytes(content)
    library = build_delegate(content, target=cpu)
    for image in test_special_values.IMAGES[:2]:
        expected = test_special_values.in_built_in_kernels(litert, image)
        (outcome,) = run_on_board(model, library, [image], cpu).values()
        test_special_values.check(names, outcome.outputs, expected)


def check_layers_of_int8(
    cpu: str, run_on_board: RunOnBoard, build_delegate: BuildDelegate, open_: Any, folder: Path
) -> tuple[list[Case], Path, Path]:
    """All layers of the test are exact on ``cpu``. Returns them, their model and its delegate."""
    layers = list(test_quantised.cases())
    content = model(layers, open_)
    path = folder / "layers.tflite"
    path.write_bytes(content)
    library = build_delegate(path, target=cpu)
    inputs = inputs_of(layers)
    expected = run(open_(content, xnnpack=True), inputs)
    (outcome,) = run_on_board(path, library, inputs, cpu).values()
    for found, y in zip(outcome.outputs, expected, strict=True):
        assert np.array_equal(found, y)
    assert outcome.report["claimed"] == len(layers)
    return layers, path, library


def test_layers_of_int8_without_dot_products(
    run_on_board: RunOnBoard, build_delegate: BuildDelegate, litert: InterpreterApi, tmp_path: Path
) -> None:
    """Exact, whatever the channels; pairs that pass 16 bits have another kernel."""
    (first, *_), _, library = check_layers_of_int8(
        "cortex-a53", run_on_board, build_delegate, litert.open, tmp_path
    )

    # The same layers, the first with weights that its kernel cannot take.
    other, inputs = tmp_path / "other.tflite", inputs_of([first])
    image, weights, *bias = first.inputs
    assert isinstance(weights, Constant)
    wide = replace(weights, codes=np.full_like(weights.codes, -128))
    content = model([replace(first, inputs=[image, wide, *bias])], litert.open)
    other.write_bytes(content)
    (outcome,) = run_on_board(other, library, inputs, "cortex-a53").values()
    assert outcome.report["claimed"] == 0
    own = build_delegate(other, target="cortex-a53")
    (outcome,) = run_on_board(other, own, inputs, "cortex-a53").values()
    assert outcome.report["claimed"] == 1
    expected = run(litert.open(content, xnnpack=True), inputs)
    assert np.array_equal(outcome.outputs[0], expected[0])


def test_layers_of_int8_with_products_of_matrices(
    run_on_board: RunOnBoard, build_delegate: BuildDelegate, litert: InterpreterApi, tmp_path: Path
) -> None:
    """The delegate packs pairs of output channels; channels that are no eights have words."""
    layers, path, library = check_layers_of_int8(
        "cortex-a710", run_on_board, build_delegate, litert.open, tmp_path
    )
    # Without the instruction they stay with TFLite.
    (outcome,) = run_on_board(path, library, inputs_of(layers), "cortex-a76").values()
    assert outcome.report["claimed"] == 0
    assert "this processor lacks i8mm: " in outcome.stderr


def test_older_processor(
    run_on_board: RunOnBoard,
    build_delegate: BuildDelegate,
    litert: InterpreterApi,
    zoo: Path,
) -> None:
    library = build_delegate(zoo, PACKED_DIFFERENTLY, "cortex-a76")
    inputs = random_inputs(litert.open(zoo))
    (outcome,) = run_on_board(zoo, library, inputs, "cortex-a72").values()
    assert outcome.report["claimed"] == 0
    message = (
        "leanconv: compiled for cortex-a76, this processor lacks dotprod, fullfp16: "
        "all layers stay with TFLite"
    )
    assert message in outcome.stderr.splitlines()
    for (_, conv), x, y in zip(ZOO.values(), inputs, outcome.outputs, strict=True):
        check_conv(conv, x, y, algorithm=None)
