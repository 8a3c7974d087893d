"""Test models of single operators between convolutions.

A convolution that copies its input goes before every operator, because only what is joined to a
claimed layer is claimed. One library serves all of these: operators serve every shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run

Shape = tuple[int, ...]
#: The rounding of one operation, relative.
UNIT = 2.0**-24
#: Images of the convolutions: odd, wider than several vectors, and smaller than one.
IMAGES = ((9, 7, 12), (6, 5, 77), (11, 10, 3), (1, 1, 12), (4, 4, 64))


def identity(writer: ModelWriter, x: int, shape: Shape) -> int:
    """A 1x1 convolution that copies: every product but one is zero."""
    channels = shape[3]
    weights = np.eye(channels, dtype=np.float32).reshape(channels, 1, 1, channels)
    constants = [writer.constant(weights), writer.constant(np.zeros(channels, np.float32))]
    return writer.conv(x, shape, Conv(channels, (1, 1)), constants=constants)[0]


@dataclass(frozen=True)
class Case:
    """One operator of a test model.

    Parameters
    ----------
    name : str
        As in the schema.
    inputs : sequence of shape or array
        A shape is an input of the model, copied by a convolution if it is the first; an array is a
        constant.
    output : shape, or list of these
        Of the operator; of each output if it may have several.
    options : mapping
        Fields of its options.
    reshaped : shape, optional
        The first input goes through a RESHAPE to this shape.
    roundings : float
        How far the result may be from TFLite's, in roundings of the largest operand; 0: equal.
    """

    name: str
    inputs: Sequence[Shape | np.ndarray]
    output: Shape | list[Shape]
    options: Mapping[str, Any] = field(default_factory=dict)
    reshaped: Shape | None = None
    roundings: float = 0.0

    @property
    def operators(self) -> int:
        """How many nodes of the model are not convolutions."""
        return 1 if self.reshaped is None else 2

    @property
    def outputs(self) -> list[Shape]:
        """The shape of each output."""
        return self.output if isinstance(self.output, list) else [self.output]

    def add(self, writer: ModelWriter) -> tuple[list[int], list[int]]:
        """Write the nodes; the inputs of the model, and the outputs."""
        inputs: list[int] = []
        operands = []
        for value in self.inputs:
            if isinstance(value, np.ndarray):
                operands.append(writer.constant(value))
                continue
            operand = writer.tensor(value)
            inputs.append(operand)
            if len(inputs) == 1:
                operand = identity(writer, operand, value)
                if self.reshaped is not None:
                    wanted = writer.constant(np.array(self.reshaped, np.int32))
                    operand = writer.node("RESHAPE", [operand, wanted], self.reshaped)
            operands.append(operand)
        return inputs, writer.splitting_node(self.name, operands, self.outputs, **self.options)

    def model(self) -> bytes:
        """A model of this case alone."""
        writer = ModelWriter()
        return writer.finish(*self.add(writer))


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def floats(*shape: int) -> np.ndarray:
    """Away from zero, so that they can be divisors."""
    rng = np.random.default_rng(len(shape))
    return np.array(rng.uniform(0.5, 2.0, shape) * rng.choice([-1, 1], shape), np.float32)


def fused(activation: str) -> dict[str, str]:
    return {"fusedActivationFunction": activation}


def windows(
    size: tuple[int, int], stride: tuple[int, int], padding: str, activation: str = "none"
) -> dict[str, Any]:
    return {
        "filterHeight": size[0],
        "filterWidth": size[1],
        "strideH": stride[0],
        "strideW": stride[1],
        "padding": ["SAME", "VALID"].index(padding),
        **fused(activation),
    }


X = (1, 9, 7, 12)
WIDE = (1, 6, 5, 77)
RGB = (1, 11, 10, 3)


def zoo_model(cases: Mapping[str, Case]) -> bytes:
    """All of ``cases`` side by side."""
    writer = ModelWriter()
    inputs: list[int] = []
    outputs: list[int] = []
    for case in cases.values():
        case_inputs, case_outputs = case.add(writer)
        inputs += case_inputs
        outputs += case_outputs
    return writer.finish(inputs, outputs)


def check(case: Case, y: np.ndarray, builtin: np.ndarray, inputs: Sequence[np.ndarray]) -> None:
    """Both are within the operator's bound of the exact result."""
    largest = max((float(abs(x).max()) for x in inputs), default=0.0)
    assert y.shape == builtin.shape
    assert np.all(abs(y - builtin) <= 2 * case.roundings * UNIT * largest)


def convolutions() -> bytes:
    """A model of the convolutions of every case, which take in no neighbours."""
    writer = ModelWriter()
    shapes = [(1, *image) for image in IMAGES]
    inputs = [writer.tensor(shape) for shape in shapes]
    outputs = [identity(writer, x, shape) for x, shape in zip(inputs, shapes, strict=True)]
    return writer.finish(inputs, outputs)


def operators(library: Path, delegate: Any) -> list[dict[str, Any]]:
    """What the report says of them."""
    entries: list[dict[str, Any]] = read_report(library, delegate)["operators"]
    return entries


def check_alone(litert: InterpreterApi, library: Path, case: Case) -> None:
    """Run a model of ``case`` twice, and TFLite's own kernels."""
    delegate = litert.load_delegate(str(library))
    interpreter, builtin = litert.open(case.model(), delegate), litert.open(case.model())
    inputs = random_inputs(interpreter)
    results, expected = run(interpreter, inputs), run(builtin, inputs)
    assert [y.shape for y in results] == case.outputs
    for y, y_builtin in zip(results, expected, strict=True):
        check(case, y, y_builtin, inputs)
    interpreter.invoke()  # the inputs are still what they were
    for detail, y in zip(interpreter.get_output_details(), results, strict=True):
        assert np.array_equal(interpreter.get_tensor(detail["index"]), y)
    entries = operators(library, delegate)
    assert [entry["calls"] for entry in entries] == [2] * case.operators
    assert entries[-1]["name"].startswith(f"leanconv/{case.name}")


def check_together(
    api: InterpreterApi, library: Path, cases: Mapping[str, Case], num_threads: int
) -> None:
    """TFLite shares memory between tensors; several delegates and interpreters are alive."""
    model = zoo_model(cases)
    for _ in range(2):
        delegate = api.load_delegate(str(library))
        interpreter = api.open(model, delegate, num_threads=num_threads)
        builtin = api.open(model)
        inputs = random_inputs(interpreter, seed=7)
        outputs, expected = run(interpreter, inputs), run(builtin, inputs)
        check_all(cases, outputs, expected, inputs)
        assert len(operators(library, delegate)) == sum(c.operators for c in cases.values())


def check_other_sizes(
    litert: InterpreterApi,
    library: Path,
    case: Case,
    num_threads: int,
    sizes: Sequence[tuple[int, int]],
    grows: bool = False,
) -> None:
    """Resize what is not stretched to each pair of images and more rows, and 4 times more columns.

    ``grows``: there are more roundings of larger images.
    """
    delegate = litert.load_delegate(str(library))
    interpreters = [
        litert.open(case.model(), delegate, num_threads=num_threads), litert.open(case.model())
    ]  # fmt: skip
    shapes = [tuple(d["shape"]) for d in interpreters[0].get_input_details()]
    for batch, more in sizes:
        for interpreter in interpreters:
            for detail, shape in zip(interpreter.get_input_details(), shapes, strict=True):
                if shape[1] > 1:
                    shape = (batch, shape[1] + more, shape[2] + 4 * more, shape[3])
                    interpreter.resize_tensor_input(detail["index"], shape)
        inputs = random_inputs(interpreters[0], seed=batch)
        results, expected = (run(interpreter, inputs) for interpreter in interpreters)
        growth = (1 + more) ** 2 * batch if grows else 1
        grown = replace(case, roundings=case.roundings * growth)
        for y, y_builtin in zip(results, expected, strict=True):
            check(grown, y, y_builtin, inputs)
    assert operators(library, delegate)[-1]["calls"] == len(sizes)


def check_all(
    cases: Mapping[str, Case],
    outputs: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
) -> None:
    """The outputs of :func:`zoo_model`."""
    owners = [case for case in cases.values() for _ in case.outputs]
    for case, y, y_builtin in zip(owners, outputs, expected, strict=True):
        check(case, y, y_builtin, inputs)


def single(name: str, shape: Shape, reshaped: Shape | None = None, **options: Any) -> Case:
    return Case(name, [shape], reshaped or shape, options, reshaped)


def run_scaled(
    litert: InterpreterApi, library: Path, case: Case, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs in [-scale, scale), and what the delegate makes of them."""
    interpreter = litert.open(case.model(), litert.load_delegate(str(library)))
    (x,) = random_inputs(interpreter)
    x *= np.float32(scale)
    return x.astype(np.float64), run(interpreter, [x])[0]
