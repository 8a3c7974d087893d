"""Operators with their options: modules and delegate against TFLite's own kernels.

The operators of a group are branches of one model, so that one compilation serves many.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

import tvmc
from schedules.errors import LeanconvError
from tests.support import operator_models
from tests.support.operator_cases import ints, whole
from tests.support.operator_groups import GROUPS
from tests.support.operator_models import Array, Case, Tensor
from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, run
from tflite_delegate.importer.relax import import_model

BuildDelegate = Callable[..., Path]


def model_of(cases: list[Case], litert: InterpreterApi) -> bytes:
    return operator_models.model(cases, litert.open)


def assert_close(cases: list[Case], found: list[Array], expected: list[Array]) -> None:
    outputs = iter(zip(found, expected, strict=True))
    wrong = {}
    for number, case in enumerate(cases):
        for _ in case.outputs:
            difference = case.differences(*next(outputs))
            if not difference <= 1:
                wrong[number, case.operator, str(case.options)] = difference
    assert not wrong


@pytest.mark.parametrize("group", GROUPS)
def test_module(group: str, litert: InterpreterApi, tmp_path: Path) -> None:
    cases = GROUPS[group]
    model, library = tmp_path / "model.tflite", tmp_path / "model.so"
    model.write_bytes(model_of(cases, litert))
    inputs = operator_models.inputs_of(cases)
    expected = run(litert.open(model), inputs)
    tvmc.compile(model, output=library, output_format="so", verify=False)
    names = [detail["name"] for detail in litert.open(model).get_input_details()]
    result = tvmc.run(library, inputs=dict(zip(names, inputs, strict=True)))
    assert_close(cases, list(result.outputs.values()), expected)


@pytest.mark.parametrize("group", GROUPS)
def test_delegate(group: str, litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """Whatever of the model the delegate takes, the results stay."""
    cases = [case for case in GROUPS[group] if case.is_behind_layer]
    if not cases:
        return
    model = model_of(cases, litert)
    inputs = operator_models.inputs_of(cases)
    expected = run(litert.open(model), inputs)
    delegate = litert.load_delegate(str(build_delegate(model)))
    assert_close(cases, run(litert.open(model, delegate), inputs), expected)


@pytest.mark.parametrize("sizes", [(1, 16), (4, 8)])
def test_complex_numbers(sizes: tuple[int, int], litert: InterpreterApi, tmp_path: Path) -> None:
    """Spectra, of which a model shows real numbers alone."""
    writer, shape = ModelWriter(), (3, *sizes)
    x = writer.tensor(shape)
    half: tuple[int, ...] = (3, sizes[0], sizes[1] // 2 + 1)
    spectrum = writer.node("RFFT2D", [x, writer.constant(ints(*sizes))], half, "complex64")
    half = (half[0] * half[1], half[2])
    spectrum = writer.node("RESHAPE", [spectrum, writer.constant(ints(*half))], half, "complex64")
    parts = [writer.node(name, [spectrum], half) for name in ("REAL", "IMAG", "COMPLEX_ABS")]
    model, library = tmp_path / "model.tflite", tmp_path / "model.so"
    model.write_bytes(writer.finish([x], parts))
    value = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    tvmc.compile(model, output=library, output_format="so", verify=False)
    found = tvmc.run(library, inputs={"tensor_0": value}).outputs.values()
    # About n roundings, of partial sums that random signs keep near sqrt(n), in either order.
    bound = 4 * np.prod(sizes) * operator_models.UNIT * np.sqrt(np.prod(sizes))
    for ours, theirs in zip(found, run(litert.open(model), [value]), strict=True):
        assert np.abs(ours - theirs).max() <= bound


# What operators take from data is checked as a module runs. Of each: the case, data that is right,
# data that is not, and what is said.

TABLE = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
CHECKED: list[tuple[Case, Any, list[Any], str]] = [
    (
        Case("GATHER", [TABLE, whole(3)], {"axis": 1}),
        [0, 4, 2],
        [[0, 5, 2], [0, -1, 2], [2**31 - 1, 0, 0]],
        "an index is out of range, which ends at 5",
    ),
    (
        Case("GATHER_ND", [TABLE, whole(2, 2, element="int64")]),
        [[3, 4], [0, 0]],
        [[[4, 0], [0, 0]], [[0, 0], [0, 5]], [[0, -1], [0, 0]], [[0, 0], [2**40, 0]]],
        "an index is out of range, which ends at 4 x 5",
    ),
    (
        Case("EMBEDDING_LOOKUP", [whole(2), TABLE[0]]),
        [4, 0],
        [[5, 0], [0, -1]],
        "an index is out of range, which ends at 5",
    ),
    (
        Case("SCATTER_ND", [whole(2, 1), TABLE[0, :2], ints(5, 6)], roundings=1),
        [[4], [4]],
        [[[5], [0]], [[0], [-1]]],
        "an index is out of range, which ends at 5",
    ),
    (
        Case("SLICE", [TABLE, whole(3), ints(2, 5, 3)], outputs=[Tensor((2, 5, 3))]),
        [2, 0, 3],
        [[3, 0, 3], [2, 1, 3], [2, 0, -1]],
        "the slice of [2, 5, 3] begins outside of [4, 5, 6]",
    ),
    (
        Case("REVERSE_SEQUENCE", [TABLE, whole(4)], {"seqDim": 1, "batchDim": 0}),
        [1, 5, 0, 2],
        [[1, 6, 0, 2], [-1, 0, 0, 0]],
        "a length is out of range, which ends at 5",
    ),
    (
        Case("FLOOR_DIV", [ints(7, -7), whole(2)], outputs=[Tensor(element_type="int32")]),
        [2, 3],
        [[0, 1], [1, 0]],
        "division by zero",
    ),
]


@pytest.fixture(scope="module")
def checking(litert: InterpreterApi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module of all of them, beside its model."""
    folder = tmp_path_factory.mktemp("checked")
    model, library = folder / "model.tflite", folder / "model.so"
    model.write_bytes(model_of([case for case, *_ in CHECKED], litert))
    report = tvmc.compile(model, output=library, output_format="so")
    refused = "not verified: it refuses the inputs that were drawn: operator"
    assert str(report.to_dict()["verification"]).startswith(refused)
    return library


def data(litert: InterpreterApi, library: Path, values: list[Any]) -> dict[str, Array]:
    details = litert.open(library.with_suffix(".tflite")).get_input_details()
    return {
        detail["name"]: np.array(value, detail["dtype"])
        for detail, value in zip(details, values, strict=True)
    }


def test_data_in_range(litert: InterpreterApi, checking: Path) -> None:
    inputs = data(litert, checking, [right for _, right, _, _ in CHECKED])
    expected = run(litert.open(checking.with_suffix(".tflite")), list(inputs.values()))
    found = list(tvmc.run(checking, inputs=inputs).outputs.values())
    assert_close([case for case, *_ in CHECKED], found, expected)


def test_data_out_of_range(litert: InterpreterApi, checking: Path) -> None:
    """Never foreign memory, and one line that names the operator; TVM's runtime is enough."""
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(checking)), tvm.cpu())
    for position, (case, _, wrong, problem) in enumerate(CHECKED):
        values = [right for _, right, _, _ in CHECKED]
        for value in wrong:
            values[position] = value
            inputs = data(litert, checking, values).values()
            with pytest.raises(RuntimeError) as error:
                machine["main"](*map(tvm.runtime.tensor, inputs))
            assert str(error.value) == f"operator {position} ({case.operator}): {problem}"


def test_data_out_of_range_on_the_command_line(
    litert: InterpreterApi, checking: Path, run_tvmc: Callable[..., Any], tmp_path: Path
) -> None:
    values = [right for _, right, _, _ in CHECKED]
    values[0] = CHECKED[0][2][0]
    inputs: dict[str, Any] = data(litert, checking, values)
    np.savez(tmp_path / "inputs.npz", **inputs)
    done = run_tvmc("run", checking, "--inputs", tmp_path / "inputs.npz")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("tvmc: error: ")
    assert line.endswith("operator 0 (GATHER): an index is out of range, which ends at 5")


def test_constant_indices_out_of_range(litert: InterpreterApi, tmp_path: Path) -> None:
    """Refused as the module is made."""
    case = Case("GATHER", [Tensor((4, 5)), ints(0, 5)], {"axis": 1})
    writer = ModelWriter()
    model = tmp_path / "model.tflite"
    model.write_bytes(writer.finish(*case.add(writer)))
    with pytest.raises(LeanconvError, match=r"operator 0 \(GATHER\): an index is out of range"):
        import_model(model)
