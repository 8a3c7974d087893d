"""The operators between convolutions, against TFLite's own kernels and numpy in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tests.tflite_delegate.csrc.operators.operator_cases import (
    RGB,
    UNIT,
    WIDE,
    Case,
    Shape,
    X,
    check_alone,
    check_other_sizes,
    check_together,
    floats,
    fused,
    identity,
    ints,
    operators,
    run_scaled,
    single,
    windows,
)

POOL_ROUNDINGS = 9  # additions of a window, and the division

CASES = {
    # Every form of broadcasting, operator and activation.
    "add": Case("ADD", [X, X], X, fused("none")),
    "add, relu": Case("ADD", [X, floats(12)], X, fused("relu")),
    "add channels": Case("ADD", [WIDE, floats(1, 1, 1, 77)], WIDE, fused("relu6")),
    "add scalar": Case("ADD", [WIDE, floats()], WIDE, fused("relu_n1_to_1")),
    "add one element": Case("ADD", [X, (1, 1, 1, 1)], X, fused("none")),
    "add rows": Case("ADD", [X, (1, 9, 1, 1)], X, fused("none")),
    "add columns": Case("ADD", [X, (7, 1)], X, fused("none")),
    "add to more images": Case("ADD", [X, (3, 1, 7, 12)], (3, 9, 7, 12), fused("none")),
    "add both stretched": Case("ADD", [(1, 1, 1, 12), (2, 5, 1)], (1, 2, 5, 12), fused("none")),
    "add few channels": Case("ADD", [RGB, floats(3)], RGB, fused("none")),
    "sub": Case("SUB", [WIDE, WIDE], WIDE, fused("relu")),
    "sub from constant": Case("SUB", [X, floats(9, 7, 1)], X, fused("none")),
    "mul": Case("MUL", [X, X], X, fused("relu6")),
    "mul squeezed": Case("MUL", [WIDE, (1, 1, 1, 77)], WIDE, fused("none")),
    "div": Case("DIV", [X, floats(12)], X, fused("relu_n1_to_1")),
    "div by scalar": Case("DIV", [X, floats(1)], X, fused("none")),
    "maximum": Case("MAXIMUM", [WIDE, floats(5, 1)], WIDE),
    "minimum": Case("MINIMUM", [X, X], X),
    "rank 5": Case(
        "ADD", [X, (2, 1, 3, 7, 1)], (2, 3, 3, 7, 12), fused("none"), reshaped=(1, 3, 3, 7, 12)
    ),
    # Activations.
    "relu": Case("RELU", [WIDE], WIDE),
    "relu6": Case("RELU6", [X], X),
    "relu_n1_to_1": Case("RELU_N1_TO_1", [RGB], RGB),
    "prelu": Case("PRELU", [WIDE, floats(1, 1, 77)], WIDE),
    "prelu of one": Case("PRELU", [X, floats(1, 1, 1)], X),
    "leaky_relu": Case("LEAKY_RELU", [X], X, {"alpha": 0.3}),
    # Two products and an addition, each within 6 (x + 3) / 6.
    "hard_swish": Case("HARD_SWISH", [WIDE], WIDE, roundings=4),
    # Windows that the border cuts on both sides, that leave a rest, and larger than the image.
    "max pool": Case("MAX_POOL_2D", [X], (1, 5, 4, 12), windows((3, 3), (2, 2), "SAME")),
    "max pool, valid": Case(
        "MAX_POOL_2D", [WIDE], (1, 5, 2, 77), windows((2, 3), (1, 2), "VALID", "relu")
    ),
    "max pool, shared columns": Case(
        "MAX_POOL_2D", [WIDE], (1, 2, 2, 77), windows((3, 3), (2, 2), "VALID", "relu6")
    ),
    "max pool, shared columns at a border": Case(
        "MAX_POOL_2D", [WIDE], (1, 3, 3, 77), windows((3, 3), (2, 2), "SAME")
    ),
    "max pool, few channels": Case(
        "MAX_POOL_2D", [RGB], (1, 4, 10, 3), windows((5, 4), (3, 1), "SAME", "relu_n1_to_1")
    ),
    "max pool, strides beyond": Case(
        "MAX_POOL_2D", [X], (1, 3, 2, 12), windows((1, 1), (4, 5), "SAME")
    ),
    "max pool, window beyond": Case(
        "MAX_POOL_2D", [X], (1, 9, 7, 12), windows((20, 9), (1, 1), "SAME")
    ),
    "average pool": Case(
        "AVERAGE_POOL_2D", [X], (1, 9, 7, 12), windows((3, 3), (1, 1), "SAME"),
        roundings=POOL_ROUNDINGS,
    ),
    "average pool, valid": Case(
        "AVERAGE_POOL_2D", [WIDE], (1, 2, 2, 77), windows((3, 2), (2, 2), "VALID", "relu6"),
        roundings=POOL_ROUNDINGS,
    ),
    "average pool, whole image": Case(
        "AVERAGE_POOL_2D", [(1, 4, 4, 64)], (1, 1, 1, 64), windows((4, 4), (4, 4), "VALID"),
        roundings=17,
    ),
    "average pool, large windows": Case(
        "AVERAGE_POOL_2D", [WIDE], (1, 6, 5, 77), windows((8, 9), (1, 1), "SAME", "relu"),
        roundings=31,
    ),
    "average pool, large window": Case(
        "AVERAGE_POOL_2D", [X], (1, 1, 1, 12), windows((9, 7), (2, 3), "VALID"), roundings=64
    ),
    # Reductions: roundings are the additions and the division.
    "mean of images": Case("MEAN", [X, ints(1, 2)], (1, 12), roundings=64),
    "mean of images, kept": Case(
        "MEAN", [WIDE, ints(-2, 1, -3)], (1, 1, 1, 77), {"keepDims": True}, roundings=31
    ),
    "mean of channels": Case("MEAN", [WIDE, ints(3)], (1, 6, 5), roundings=78),
    "mean of columns": Case("MEAN", [X, ints(2)], (1, 9, 12), roundings=8),
    "mean of all": Case("MEAN", [RGB, ints(0, 1, 2, 3)], (), roundings=331),
    "mean of rows and channels": Case(
        "MEAN", [X, ints(1, 3)], (1, 1, 7, 1), {"keepDims": True}, roundings=109
    ),
    "mean of batch and columns": Case("MEAN", [X, ints(0, 2)], (9, 12), roundings=8),
    "mean over one element": Case("MEAN", [(1, 1, 1, 12), ints(1, 2)], (1, 12), roundings=1),
    "sum": Case("SUM", [(1, 4, 4, 64), ints(1)], (1, 4, 64), roundings=4 * 4),
    # Shapes.
    "reshape": Case("RESHAPE", [X, ints(-1, 12)], (63, 12)),
    "reshape, fixed": Case("RESHAPE", [X, ints(9, 84)], (9, 84)),
    "reshape, older": Case("RESHAPE", [X], (1, 756), {"newShape": [1, -1]}),
    "squeeze": Case("SQUEEZE", [(1, 1, 1, 12)], (1, 12), {"squeezeDims": [1, -2]}),
    "squeeze all": Case("SQUEEZE", [(1, 1, 1, 12)], (12,), {"squeezeDims": []}),
    "expand_dims": Case("EXPAND_DIMS", [X, ints(-2)], (1, 9, 7, 1, 12)),
    "expand_dims, first": Case("EXPAND_DIMS", [X, np.array(0, np.int32)], (1, 1, 9, 7, 12)),
    "pad": Case("PAD", [X, ints([0, 0], [1, 2], [3, 0], [0, 0])], (1, 12, 10, 12)),
    "pad all axes": Case("PAD", [RGB, ints([1, 0], [0, 1], [2, 1], [1, 4])], (2, 12, 13, 8)),
    "pad nothing": Case("PAD", [X, ints([0, 0], [0, 0], [0, 0], [0, 0])], X),
    "padv2": Case(
        "PADV2", [X, ints([0, 0], [1, 1], [1, 1], [0, 5]), floats()], (1, 11, 9, 17)
    ),
    "concatenate channels": Case(
        "CONCATENATION", [X, (1, 9, 7, 1), floats(1, 9, 7, 3)], (1, 9, 7, 16), {"axis": -1}
    ),
    "concatenate rows": Case("CONCATENATION", [X, (1, 2, 7, 12)], (1, 11, 7, 12), {"axis": 1}),
    "concatenate one": Case("CONCATENATION", [X], X, {"axis": 0}),
}  # fmt: skip


# Numbers


@pytest.mark.parametrize("name", CASES)
def test_case(litert: InterpreterApi, library: Path, name: str) -> None:
    check_alone(litert, library, CASES[name])


@pytest.mark.parametrize("num_threads", [1, 3])
def test_all_at_once(interpreter_api: InterpreterApi, library: Path, num_threads: int) -> None:
    check_together(interpreter_api, library, CASES, num_threads)


#: Operators whose inputs may have any number of images, rows and columns.
ANY_SIZE = (
    "add", "add channels", "add scalar", "mul squeezed", "div", "relu6", "prelu", "hard_swish",
    "max pool", "max pool, valid", "average pool", "average pool, valid",
    "average pool, large windows", "mean of images", "mean of channels", "mean of all", "reshape",
    "expand_dims", "pad all axes",
)  # fmt: skip


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("name", ANY_SIZE)
def test_other_sizes(litert: InterpreterApi, library: Path, name: str, num_threads: int) -> None:
    """Larger ones are split over threads; then the first one again."""
    sizes = ((1, 0), (3, 0), (2, 43), (1, 0))
    check_other_sizes(litert, library, CASES[name], num_threads, sizes, grows=True)


@pytest.mark.parametrize("shape", [X, WIDE])
def test_threads_add_parts_of_an_image(
    litert: InterpreterApi, library: Path, shape: tuple[int, ...]
) -> None:
    """Each of them those pixels that it has most likely written."""
    *_, rows, columns, channels = shape
    case = Case("MEAN", [shape, ints(1, 2)], (1, channels), roundings=rows * columns + 1)
    check_other_sizes(litert, library, case, 3, ((1, 43), (1, 0)), grows=True)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0, 87.0])
def test_logistic(litert: InterpreterApi, library: Path, scale: float) -> None:
    x, y = run_scaled(litert, library, single("LOGISTIC", WIDE), scale)
    expected = 1 / (1 + np.exp(-x))
    assert np.all(abs(y / expected - 1) <= 2.0**-21)


def test_logistic_at_the_ends(litert: InterpreterApi, library: Path) -> None:
    x, y = run_scaled(litert, library, single("LOGISTIC", WIDE), 1e30)
    assert np.array_equal(y[x > 100], np.ones_like(y[x > 100]))
    assert np.all(y[x < -100] < 2.0**-126)


@pytest.mark.parametrize("scale", [1.0, 20.0, 1e4])
@pytest.mark.parametrize("beta", [1.0, 0.25, 0.0])
@pytest.mark.parametrize("reshaped", [None, (1, 2310), (2310, 1), (2, 3, 385), (1155, 2)])
def test_softmax(
    litert: InterpreterApi, library: Path, reshaped: Shape | None, beta: float, scale: float
) -> None:
    x, y = run_scaled(litert, library, single("SOFTMAX", WIDE, reshaped, beta=beta), scale)
    x = x.reshape(y.shape)
    exponents = beta * (x - x.max(axis=-1, keepdims=True))
    expected = np.exp(exponents)
    expected /= expected.sum(axis=-1, keepdims=True)
    # Two roundings of the exponent, four units of each power, the additions, and the scaling.
    roundings = 2 * abs(exponents) + 8 + np.shape(x)[-1] + 3
    # Smaller powers than e^-87 are that.
    assert np.all(abs(y - expected) <= roundings * UNIT * expected + np.exp(-86.9))


# What TFLite does with the nodes


def test_operands_that_others_read(interpreter_api: InterpreterApi, library: Path) -> None:
    """An operator may write over what nobody reads any more, and over nothing else."""
    writer = ModelWriter()
    first = writer.tensor(X)
    x = identity(writer, first, X)
    twice = writer.node("ADD", [x, x], X, **fused("none"))
    swished = writer.node("RELU", [x], X)
    product = writer.node("MUL", [twice, swished], X, **fused("none"))
    flat = writer.node("RESHAPE", [product, writer.constant(ints(1, 756))], (1, 756))
    softened = writer.node("SOFTMAX", [flat], (1, 756), beta=0.0)
    negative = writer.node("SUB", [flat, flat], (1, 756), **fused("none"))
    difference = writer.node("SUB", [x, product], X, **fused("relu"))
    outputs = [difference, negative, softened, swished]
    model = writer.finish([first], outputs)
    interpreter = interpreter_api.open(model, interpreter_api.load_delegate(str(library)))
    inputs = random_inputs(interpreter)
    (x_value,) = inputs
    results = run(interpreter, inputs)
    relu = np.maximum(x_value, 0)
    assert np.array_equal(results[0], np.maximum(x_value - (x_value + x_value) * relu, 0))
    assert not results[1].any()
    assert np.allclose(results[2], 1 / 756, rtol=1e-4)
    assert np.array_equal(results[3], relu)


def test_memory_is_shared(litert: InterpreterApi, library: Path) -> None:
    """A chain of activations and of new shapes takes no more memory than one of them."""
    from tvmc.running.probe import Probe

    def arena(nodes: int) -> int:
        writer = ModelWriter()
        first = writer.tensor(X)
        x = identity(writer, first, X)
        for _ in range(nodes):
            x = writer.node("RESHAPE", [x, writer.constant(ints(1, 756))], (1, 756))
            x = writer.node("RELU6", [x], (1, 756))
        delegate = litert.load_delegate(str(library))
        interpreter = litert.open(writer.finish([first], [x]), delegate)
        interpreter.allocate_tensors()
        assert len(operators(library, delegate)) == 2 * nodes
        return Probe(interpreter).arena_bytes()

    assert arena(4) == arena(1)


def test_dynamic_tensors(interpreter_api: InterpreterApi, library: Path) -> None:
    """The image's shape is only known when the node before the convolution has run."""
    writer = ModelWriter()
    inputs = [writer.tensor((756,)), writer.tensor((4,), "int32")]
    x = identity(writer, writer.node("RESHAPE", inputs, X), X)
    scaled = writer.node("MUL", [x, writer.constant(floats(12))], X, **fused("relu"))
    pooled = writer.node("MAX_POOL_2D", [scaled], X, **windows((3, 3), (1, 1), "SAME"))
    y = writer.node("MEAN", [pooled, writer.constant(ints(1, 2))], (1, 12))
    model = writer.finish(inputs, [y])
    delegate = interpreter_api.load_delegate(str(library))
    interpreter, builtin = interpreter_api.open(model, delegate), interpreter_api.open(model)
    values = np.random.default_rng(0).uniform(-1, 1, 756).astype(np.float32)
    for shape in (X, (1, 3, 21, 12), (3, 7, 3, 12), X):
        (result,), (expected,) = (
            run(session, [values, np.array(shape, np.int32)]) for session in (interpreter, builtin)
        )
        assert result.shape == (shape[0], 12)
        assert np.all(abs(result - expected) <= 2 * 64 * UNIT * 2.0)
    assert [entry["calls"] for entry in operators(library, delegate)] == [4, 4, 4]


@pytest.mark.parametrize("xnnpack", [False, True])
def test_float16_operand(interpreter_api: InterpreterApi, library: Path, xnnpack: bool) -> None:
    """It is a constant behind a DEQUANTIZE, as converters write it; another node reads it too."""
    writer = ModelWriter()
    inputs = [writer.tensor(X), writer.tensor(X)]
    factors = floats(12).astype(np.float16)
    constant = writer.constant(factors)
    outputs = [
        writer.node("MUL", [x, constant], X, **fused("none"))
        for x in (identity(writer, inputs[0], X), inputs[1])
    ]
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(writer.finish(inputs, outputs), delegate, xnnpack=xnnpack)
    values = random_inputs(interpreter)
    for x, y in zip(values, run(interpreter, values), strict=True):
        assert np.array_equal(y, x * factors.astype(np.float32))
    assert len(operators(library, delegate)) == 1


# What is left to TFLite


@pytest.mark.parametrize(
    "case",
    [
        Case("ADD", [X, X], X, fused("tanh")),
        Case("MAX_POOL_2D", [X], X, windows((1, 1), (1, 1), "SAME", "tanh")),
        Case("SIN", [X], X),
    ],
    ids=lambda case: case.name,
)
def test_operators_that_are_not_for_us(litert: InterpreterApi, library: Path, case: Case) -> None:
    delegate = litert.load_delegate(str(library))
    interpreter, builtin = litert.open(case.model(), delegate), litert.open(case.model())
    inputs = random_inputs(interpreter)
    assert np.array_equal(run(interpreter, inputs)[0], run(builtin, inputs)[0])
    report = read_report(library, delegate)
    assert (report["claimed"], report["operators"]) == (1, [])


def test_shape_that_is_not_a_constant(litert: InterpreterApi, library: Path) -> None:
    writer = ModelWriter()
    inputs = [writer.tensor(X), writer.tensor((2,), "int32")]
    y = writer.node("RESHAPE", [identity(writer, inputs[0], X), inputs[1]], (9, 84))
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(writer.finish(inputs, [y]), delegate)
    x = np.random.default_rng(0).uniform(-1, 1, X).astype(np.float32)
    assert np.array_equal(run(interpreter, [x, ints(84, 9)])[0], x.reshape(84, 9))
    assert operators(library, delegate) == []


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("add rows", (1, 8, 7, 12), "the shapes of the operands do not match"),
        ("squeeze", (1, 2, 1, 12), "there is no such axis, or not of one element"),
        ("concatenate rows", (1, 9, 8, 12), "the shapes of the inputs do not match"),
        ("reshape, fixed", (1, 9, 8, 12), "the new shape has another number of elements"),
    ],
)
def test_sizes_that_do_not_fit(
    litert: InterpreterApi, library: Path, name: str, shape: Shape, message: str
) -> None:
    interpreter = litert.open(CASES[name].model(), litert.load_delegate(str(library)))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
    with pytest.raises(RuntimeError, match=message):
        interpreter.allocate_tensors()


@pytest.mark.parametrize("shape", [(1, 6, 2, 77), (1, 1, 1, 77)])
def test_windows_that_find_no_place(litert: InterpreterApi, library: Path, shape: Shape) -> None:
    """The images that TFLite makes are empty."""
    content = CASES["max pool, valid"].model()
    delegate = litert.load_delegate(str(library))
    for interpreter in (litert.open(content), litert.open(content, delegate)):
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
        (result,) = run(interpreter, random_inputs(interpreter))
        assert result.shape == (1, shape[1] - 1, 0, 77)
    assert len(operators(library, delegate)) == 1


def test_windows_of_another_size(litert: InterpreterApi, library: Path) -> None:
    """There is no shape for what they would make of the image."""
    case = Case("MAX_POOL_2D", [WIDE], (1, 2, 4, 77), windows((5, 4), (1, 1), "VALID", "relu"))
    content = case.model()
    interpreter = litert.open(content, litert.load_delegate(str(library)))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (1, 3, 9, 77))
    with pytest.raises(RuntimeError, match="the window is larger than the image"):
        interpreter.allocate_tensors()
