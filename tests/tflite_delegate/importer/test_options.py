"""Every operator and every option of TFLite's schema has been decided about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.errors import LeanconvError
from tests.support.operator_groups import GROUPS
from tests.support.tflite_schema import OPTIONS
from tests.support.tflite_writer import ModelWriter
from tflite_delegate.importer.conversions import CONVERTED
from tflite_delegate.importer.options import OPERATORS, REFUSED, Honoured, Ignored, Only, Unset
from tflite_delegate.importer.relax import import_model

SCHEMA = {name for name in vars(schema.BuiltinOperator) if name.isupper()}
#: Operators that the schema has and the one that models are read with has not.
NEWER = {"STABLEHLO_CASE"}
#: Compared with TFLite in importer/test_regions.py and test_walk.py: several graphs belong to them.
ELSEWHERE = {"ASSIGN_VARIABLE", "CALL_ONCE", "IF", "READ_VARIABLE", "VAR_HANDLE"}
#: An option of layers with int8 weights, compared with TFLite in importer/test_hybrid.py.
HYBRID = ("FULLY_CONNECTED", "asymmetricQuantizeInputs")
#: Compared with TFLite in test_operator_options.py: complex numbers are no inputs or outputs.
COMPLEX = {"COMPLEX_ABS", "IMAG", "REAL", "RFFT2D"}


def fields_of(table: str | None) -> dict[str, Any]:
    """The fields of a table of options, and their defaults."""
    return vars(getattr(schema, f"{table}T")()) if table else {}


def test_every_operator() -> None:
    assert not set(OPERATORS) & set(REFUSED)
    assert set(OPERATORS) | set(REFUSED) | NEWER == SCHEMA
    assert set(OPERATORS) == CONVERTED | ELSEWHERE


def test_every_option() -> None:
    """A field that the schema gets is one that somebody has to decide about."""
    tables = {OPTIONS.get(name) for name in OPERATORS}
    for name, operator in OPERATORS.items():
        assert operator.table == (OPTIONS.get(name) if operator.decisions else None), name
        assert set(operator.decisions) == set(fields_of(OPTIONS.get(name))), name
    left = {table for name, table in OPTIONS.items() if name in REFUSED}
    known = {name for name in vars(schema.BuiltinOptions) if name.endswith("Options")}
    assert known - left == tables - {None}


def test_every_option_that_is_honoured_is_tested() -> None:
    """Of each there is a case with another value than the default."""
    values: dict[tuple[str, str], set[Any]] = {}
    for case in (case for cases in GROUPS.values() for case in cases):
        for field, default in fields_of(OPTIONS.get(case.operator)).items():
            value = case.options.get(field, default)
            values.setdefault((case.operator, field), {repr(default)}).add(repr(value))
    missing = []
    for name, operator in OPERATORS.items():
        for field, decision in operator.decisions.items():
            if name in ELSEWHERE or (name, field) == HYBRID:
                continue
            if isinstance(decision, (Ignored, Unset)):
                continue
            assert isinstance(decision, (Honoured, Only))
            is_single = isinstance(decision, Only) and len(decision.values) == 1
            if len(values[name, field]) < (1 if is_single else 2):
                missing.append((name, field))
    assert missing == []


def test_every_operator_is_tested() -> None:
    tested = {case.operator for cases in GROUPS.values() for case in cases}
    assert tested == CONVERTED - COMPLEX


def refusal(writer: ModelWriter, inputs: list[int], outputs: list[int], path: Path) -> str:
    path.write_bytes(writer.finish(inputs, outputs))
    with pytest.raises(LeanconvError) as error:
        import_model(path)
    (line,) = str(error.value).splitlines()
    return line


def test_refused_by_name(tmp_path: Path) -> None:
    """Operator, place in the model and option."""
    path = tmp_path / "m.tflite"

    def told(name: str, **options: Any) -> str:
        writer = ModelWriter()
        x = writer.tensor((1, 4))
        y = writer.node("RELU", [x], (1, 4))
        return refusal(writer, [x], [writer.node(name, [y, y], (1, 4), **options)], path)

    assert told("ADD", fusedActivationFunction="tanh").endswith(
        "operator 1 (ADD): fusedActivationFunction TANH is not supported, only NONE or RELU or "
        "RELU_N1_TO_1 or RELU6"
    )
    assert "(CONCATENATION): fusedActivationFunction RELU is not" in told(
        "CONCATENATION", fusedActivationFunction="relu"
    )
    assert "(FULLY_CONNECTED): weightsFormat SHUFFLED4x16INT8 is not supported" in told(
        "FULLY_CONNECTED", weightsFormat=1
    )
    assert "(FULLY_CONNECTED): it has an option that this version does not know" in told(
        "FULLY_CONNECTED", quantSpec=[1]
    )
    assert "(ARG_MAX): outputType FLOAT32 is not supported" in told("ARG_MAX")
    assert "(SVDF): networks with a state are not supported" in told("SVDF")
    assert "(STABLEHLO_ADD): StableHLO operators are not supported" in told("STABLEHLO_ADD")
    assert "(LSTM): networks with a state" in told("LSTM", kernelType=1)


def test_options_of_another_operator(tmp_path: Path) -> None:
    writer = ModelWriter()
    x, y = writer.tensor((1, 4)), writer.tensor((1, 4))
    kind = schema.BuiltinOptions.LeakyReluOptions
    writer.operator(schema.BuiltinOperator.SOFTMAX, [x], [y], schema.LeakyReluOptionsT(), kind)
    told = refusal(writer, [x], [y], tmp_path / "m.tflite")
    assert told.endswith("(SOFTMAX): its options are LeakyReluOptions, not SoftmaxOptions")
