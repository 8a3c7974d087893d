"""Imported operators on codes, to the bit as LiteRT computes them, by each choice of rounding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tvm import relax

from schedules.errors import LeanconvError
from schedules.relax.pipeline import lower_to_calls, lower_to_loops
from schedules.relax.transform import schedule_convolutions
from schedules.target.simd import PRESETS, Simd
from tests.schedules.algorithms.test_algorithms import HOST
from tests.support import coded_operators, coded_reference
from tests.support.coded_operators import Array, CodedCase
from tests.support.operator_models import inputs_of, model
from tests.support.quantised_layers import OPERATORS, has_rule, random_layers
from tflite_delegate.importer.relax import import_model

#: Random cases of each operator, here and in the long run.
FEW, MANY = 2, 25
TYPES = ("int8", "uint8")
#: Whose kernels LiteRT runs, by the names of ``--rounding``.
RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}
#: What modules refuse by the choices of TFLite's own kernels, and these choices.
RESIZED = ("RESIZE_BILINEAR", "uint8")
OWN = ("builtin", "reference")


def litert(content: bytes, inputs: Sequence[Array], rounding: str = "xnnpack") -> list[Array]:
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=RESOLVERS[rounding]
    )
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def compiled(
    content: bytes,
    folder: Path,
    inputs: Sequence[Array],
    rounded_for: Simd = HOST,
    rounding: str = "xnnpack",
) -> list[Array]:
    """As ``tvmc compile -f so`` does it, but perhaps with another processor's rounding."""
    path = folder / "model.tflite"
    path.write_bytes(content)
    imported = import_model(path, simd=rounded_for, rounding=rounding)
    module = schedule_convolutions(HOST)(imported)
    calls = lower_to_calls(HOST)(lower_to_loops(HOST)(module))
    executable = tvm.compile(calls, tvm.target.Target(HOST.target), relax_pipeline=None)
    outputs = relax.VirtualMachine(executable, tvm.cpu())["main"](*map(tvm.runtime.tensor, inputs))
    outputs = [outputs] if isinstance(outputs, tvm.runtime.Tensor) else outputs
    return [output.numpy() for output in outputs]


def with_codes(cases: Sequence[CodedCase]) -> tuple[list[CodedCase], list[list[Array]]]:
    """The same of inputs that are codes, and these of each."""
    cases = [replace(case, data=-1) for case in cases]
    rng = np.random.default_rng(0)
    return cases, [case.draw(rng) for case in cases]


def check(cases: Sequence[CodedCase], folder: Path, rounding: str = "xnnpack") -> None:
    """One model of all."""
    cases, drawn = with_codes(cases)
    content, inputs = coded_operators.model(cases), list(itertools.chain(*drawn))
    wrong = {}
    ours_and_theirs = (
        compiled(content, folder, inputs, rounding=rounding),
        litert(content, inputs, rounding),
    )
    for number, (case, ours, theirs) in enumerate(zip(cases, *ours_and_theirs, strict=True)):
        if not np.array_equal(ours, theirs):
            wrong[number, case.operator] = int((ours != theirs).sum()), ours.size, case
    assert not wrong


def cases_of(count: int) -> list[CodedCase]:
    return [
        case
        for name in coded_operators.OPERATORS
        for dtype in TYPES
        for case in coded_operators.random_cases(name, dtype, count)
    ]


def test_operators(tmp_path: Path) -> None:
    check(cases_of(FEW), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", coded_operators.OPERATORS)
def test_operator(name: str, tmp_path: Path) -> None:
    cases = [c for dtype in TYPES for c in coded_operators.random_cases(name, dtype, MANY)]
    check(cases, tmp_path)


@pytest.mark.parametrize("rounding", OWN)
@pytest.mark.parametrize("count", [1, pytest.param(MANY, marks=pytest.mark.slow)])
def test_operators_of_own_kernels(count: int, rounding: str, tmp_path: Path) -> None:
    cases = [case for case in cases_of(count) if (case.operator, case.outputs[0].dtype) != RESIZED]
    check(cases, tmp_path, rounding)


@pytest.mark.parametrize("rounding", OWN)
@pytest.mark.parametrize("count", [1, pytest.param(MANY, marks=pytest.mark.slow)])
def test_layers_of_own_kernels(count: int, rounding: str, tmp_path: Path) -> None:
    cases = [
        case
        for operator in OPERATORS
        for dtype in TYPES
        if has_rule(operator, dtype, rounding)
        for case in random_layers(operator, dtype, count, shapes=None if count > 1 else 2)
    ]
    content = model(cases, lambda content: Interpreter(model_content=content))
    inputs = inputs_of(cases)
    found = compiled(content, tmp_path, inputs, rounding=rounding)
    for case, ours, theirs in zip(cases, found, litert(content, inputs, rounding), strict=True):
        assert np.array_equal(ours, theirs), case


def test_what_modules_do_not_have_by_a_rule_is_refused(tmp_path: Path) -> None:
    cases = coded_operators.random_cases(*RESIZED, 1)
    (case,), drawn = with_codes(cases)
    content = coded_operators.model([case])
    with pytest.raises(LeanconvError, match=r"RESIZE_BILINEAR.*--rounding builtin"):
        compiled(content, tmp_path, drawn[0], rounding="builtin")


def test_transposed_convolutions(tmp_path: Path) -> None:
    cases = [
        case for dtype in TYPES for case in random_layers("TRANSPOSE_CONV", dtype, FEW, shapes=3)
    ]
    content = model(cases, lambda content: Interpreter(model_content=content))
    inputs = inputs_of(cases)
    found = compiled(content, tmp_path, inputs)
    for ours, theirs in zip(found, litert(content, inputs), strict=True):
        assert np.array_equal(ours, theirs)


def test_rounded_as_on_arm(tmp_path: Path) -> None:
    """What is another formula there gives a code next to the exact value too."""
    names = ("MUL", "MEAN", "HARD_SWISH", "SOFTMAX")
    random = [coded_operators.random_cases(name, dtype, FEW) for name in names for dtype in TYPES]
    cases, drawn = with_codes(list(itertools.chain(*random)))
    content, inputs = coded_operators.model(cases), list(itertools.chain(*drawn))
    found = compiled(content, tmp_path, inputs, PRESETS["cortex-a76"])
    for case, own, codes in zip(cases, drawn, found, strict=True):
        assert coded_reference.differences(case, own, codes) <= 1, case
