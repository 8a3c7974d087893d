"""NaN, infinities and denormals come out of operators and layers as of TFLite's built-in kernels.

Results are compared by class: NaN, an infinity of either sign, or a number. Where no bound is
fused, the built-in kernels clamp to the largest finite numbers, so that an infinity becomes one of
these; XNNPACK's leave it, and so do ours: both are one class here.

An average of a window and the maximum of one follow the built-in kernels, which keep NaN in the
former and pass over it in the latter; XNNPACK's pass over it in both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmc
from schedules.algorithms import REGISTRY
from schedules.select.report import NAN_SPREADS
from schedules.target.simd import Simd
from tests.support.tflite_writer import Conv, Dense, ModelWriter, single_conv
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tflite_delegate.build import build

INF, NAN = np.inf, np.nan
LARGEST = float(np.finfo(np.float32).max)
SPECIAL = np.array(
    [NAN, INF, -INF, 1e-40, -1e-40, 0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 7.0, -7.0, 3e38, -3e38],
    np.float32,
)
COUNT = len(SPECIAL)
#: Every pair: the first operand differs along the width, the second along the channels.
PAIRS = (1, 1, COUNT, COUNT)
FIRST = np.broadcast_to(SPECIAL[:, None], PAIRS).astype(np.float32)
SECOND = np.broadcast_to(SPECIAL[None, :], PAIRS).astype(np.float32)
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


def classes(values: np.ndarray) -> np.ndarray:
    """NaN, or an infinity, or zero for all other numbers."""
    return np.where(
        np.isnan(values), NAN, np.where(abs(values) >= LARGEST, np.copysign(INF, values), 0.0)
    )


def check(names: Sequence[str], results: Sequence[Any], expected: Sequence[Any]) -> None:
    """Every result has the classes that are expected, or all that have not are named."""
    wrong = {}
    assert len(names) == len(results) == len(expected)
    for name, result, reference in zip(names, results, expected, strict=True):
        assert result.shape == reference.shape
        differs = ~np.equal(classes(result), classes(reference)) & ~(
            np.isnan(result) & np.isnan(reference)
        )
        if differs.any():
            wrong[name] = [
                (float(a), float(b))
                for a, b in zip(result[differs][:3], reference[differs][:3], strict=True)
            ]
    assert not wrong


# Operators between layers


def add_operators(writer: ModelWriter, x: int, y: int, expands: bool) -> dict[str, int]:
    """Every operator of every pair of values; the outputs by name."""
    outputs = {}

    def add(name: str, *inputs: int, shape: Sequence[int] = PAIRS, **fields: Any) -> None:
        label = " ".join([name, *(str(v) for v in fields.values() if isinstance(v, str))])
        outputs[label] = writer.node(name, inputs, shape, **fields)

    for name in ("RELU", "RELU6", "RELU_N1_TO_1", "HARD_SWISH", "LOGISTIC"):
        add(name, x)
    for name in ("TANH", "EXP", "SQUARE", "SQRT", "NEG", "ABS"):
        add(name, x)
    add("RSQRT", outputs["ABS"])  # the layer in front has made 0 of -0
    add("SQUARED_DIFFERENCE", x, y)
    add("LEAKY_RELU", x, alpha=0.25)
    add("SOFTMAX", x, beta=1.0)
    total = writer.node("MAXIMUM", [x, y], PAIRS)
    outputs["SOFTMAX of different values"] = writer.node("SOFTMAX", [total], PAIRS, beta=1.0)
    for name, activation in itertools.product(("ADD", "SUB", "MUL", "DIV"), ACTIVATIONS):
        add(name, x, y, fusedActivationFunction=activation)
    for name in ("MAXIMUM", "MINIMUM"):
        add(name, x, y)
    add("PRELU", x, writer.constant(np.linspace(-1, 1, COUNT, dtype=np.float32)))
    both = writer.node("CONCATENATION", [x, y], (1, 2, COUNT, COUNT), axis=1)
    window: dict[str, Any] = {
        "strideH": 1,
        "strideW": 1,
        "filterHeight": 2,
        "filterWidth": 1,
        "padding": 1,
    }
    for name, activation in itertools.product(("MAX_POOL_2D", "AVERAGE_POOL_2D"), ACTIVATIONS):
        add(name, both, **window, fusedActivationFunction=activation)
    # Windows of three by three at stride 2 share columns.
    three = writer.node("CONCATENATION", [x, y, x], (1, 3, COUNT, COUNT), axis=1)
    window |= {"strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 3}
    pooled = (1, 1, (COUNT - 1) // 2, COUNT)
    for activation in ACTIVATIONS:
        fields = {**window, "fusedActivationFunction": activation}
        output = writer.node("MAX_POOL_2D", [three], pooled, **fields)
        outputs[f"MAX_POOL_2D of threes {activation}"] = output
    axis = writer.constant(np.array([1], np.int32))
    for name in ("MEAN", "SUM"):
        add(name, both, axis, shape=PAIRS, keepDims=True)
    add("RESHAPE", x, writer.constant(np.array([1, COUNT**2], np.int32)), shape=(1, COUNT**2))
    add("SQUEEZE", x, shape=(COUNT, COUNT), squeezeDims=[0, 1])
    if expands:
        add("EXPAND_DIMS", x, writer.constant(np.array([0], np.int32)), shape=(1, *PAIRS))
    paddings = writer.constant(np.array([(0, 0), (0, 0), (1, 1), (0, 0)], np.int32))
    padded = (1, 1, COUNT + 2, COUNT)
    add("PAD", x, paddings, shape=padded)
    add("PADV2", x, paddings, writer.constant(np.float32(NAN).reshape(1)), shape=padded)
    add("CONCATENATION", x, y, shape=(1, 1, 2 * COUNT, COUNT), axis=2)
    return outputs


def operators(copies: bool, expands: bool = True) -> tuple[bytes, list[str]]:
    """A model of all operators, whose first operand a depthwise layer may copy, and their names."""
    writer = ModelWriter()
    inputs = [writer.tensor(PAIRS), writer.tensor(PAIRS)]
    x = inputs[0]
    if copies:
        ones, zeros = np.ones((1, 1, 1, COUNT), np.float32), np.zeros(COUNT, np.float32)
        constants = [writer.constant(ones), writer.constant(zeros)]
        x, _ = writer.conv(x, PAIRS, Conv(COUNT, (1, 1), depthwise=True), constants=constants)
    outputs = add_operators(writer, x, inputs[1], expands)
    return writer.finish(inputs, list(outputs.values())), list(outputs)


@pytest.fixture(scope="module")
def expected_of_operators(litert: InterpreterApi) -> dict[str, np.ndarray]:
    """By the built-in kernels, which see the values themselves."""
    model, names = operators(copies=False)
    return dict(zip(names, run(litert.open(model), [FIRST, SECOND]), strict=True))


def test_operators_in_the_delegate(
    litert: InterpreterApi,
    build_delegate: Callable[..., Path],
    expected_of_operators: dict[str, np.ndarray],
) -> None:
    model, names = operators(copies=True)
    library = build_delegate(model)
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate)
    results = run(interpreter, [FIRST, SECOND])
    claimed = read_report(library, delegate)["operators"]
    assert len({entry["name"].split()[0] for entry in claimed}) >= 30
    check(names, results, [expected_of_operators[name] for name in names])


def in_module(model: bytes, inputs: Sequence[np.ndarray], folder: Path) -> list[np.ndarray]:
    """What a TVM module of the model computes."""
    path = folder / "model.tflite"
    path.write_bytes(model)
    package = folder / "module.so"
    tvmc.compile(path, output=package, output_format="so", verify=False)
    named = {f"tensor_{number}": value for number, value in enumerate(inputs)}
    return list(tvmc.run(package, inputs=named).outputs.values())


def test_operators_in_a_module(
    tmp_path: Path, expected_of_operators: dict[str, np.ndarray]
) -> None:
    model, names = operators(copies=False, expands=False)  # TVM's importer cannot
    results = in_module(model, [FIRST, SECOND], tmp_path)
    expected = [expected_of_operators[name] for name in names]
    # TVM's hard swish multiplies by six before it divides, which overflows near the largest.
    overflows = np.isfinite(FIRST) & (abs(FIRST) > LARGEST / 6)
    results[names.index("HARD_SWISH")] = np.where(
        overflows, FIRST, results[names.index("HARD_SWISH")]
    )
    check(names, results, expected)


# Layers

IMAGE = (1, 9, 11, 5)


def special_image(seed: int) -> np.ndarray:
    """An image with special values here and there, so far apart that few windows see two."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, IMAGE).astype(np.float32)
    places = itertools.product((1, 5), (1, 5, 9))
    for (h, w), value in zip(places, np.roll(SPECIAL[:5], seed), strict=False):
        image[0, h, w, rng.integers(IMAGE[3])] = value
    return image


IMAGES = [special_image(seed) for seed in range(3)]


def layers(swishes: bool = True) -> tuple[bytes, list[str]]:
    """Layers of every kind with every activation, and with a residual; hard swishes if wanted."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    outputs = {}
    for activation in ACTIVATIONS:
        for name, conv in {
            "convolution": Conv(6, activation=activation),
            "pointwise": Conv(9, (1, 1), activation=activation),
            "depthwise": Conv(5, activation=activation, depthwise=True),
        }.items():
            outputs[f"{name} {activation}"] = writer.conv(x, IMAGE, conv)[0]
        dense = Dense(7, activation=activation, keep_num_dims=True)
        outputs[f"dense {activation}"] = writer.dense(x, IMAGE, dense)[0]
    for depthwise in (False, True):
        y, shape = writer.conv(x, IMAGE, Conv(5, depthwise=depthwise))
        name = f"hard_swish {depthwise}"
        outputs[name] = writer.node("HARD_SWISH", [y], shape) if swishes else y
        y, shape = writer.conv(x, IMAGE, Conv(5, depthwise=depthwise))
        gated = [y, writer.node("LOGISTIC", [y], shape)]
        fields = {"fusedActivationFunction": "none"}
        name = f"swish {depthwise}"
        outputs[name] = writer.node("MUL", gated, shape, **fields) if swishes else y
        y, shape = writer.conv(x, IMAGE, Conv(5, activation="relu6", depthwise=depthwise))
        fields = {"fusedActivationFunction": "relu"}
        outputs[f"residual {depthwise}"] = writer.node("ADD", [y, x], shape, **fields)
    return writer.finish([x], list(outputs.values())), list(outputs)


def in_built_in_kernels(litert: InterpreterApi, image: np.ndarray) -> list[np.ndarray]:
    """The layers, where hard swishes see the infinities that the convolution would clamp."""
    model, names = layers(swishes=False)
    interpreter = litert.open(model)
    interpreter.resize_tensor_input(0, image.shape)
    results = run(interpreter, [image])
    with np.errstate(all="ignore"):  # an infinity by zero
        for index, name in enumerate(names):
            y = results[index]
            x = np.where(abs(y) >= LARGEST, classes(y), y)
            if name.startswith("hard_swish"):
                results[index] = x * np.clip(x + 3, 0, 6) / 6
            elif name.startswith("swish"):
                results[index] = x * (1 / (1 + np.exp(-x)))
    return results


@pytest.fixture(scope="module")
def expected_of_layers(litert: InterpreterApi) -> list[list[np.ndarray]]:
    return [in_built_in_kernels(litert, image) for image in IMAGES]


def test_layers_in_the_delegate(
    litert: InterpreterApi,
    build_delegate: Callable[..., Path],
    expected_of_layers: list[list[np.ndarray]],
) -> None:
    model, names = layers()
    delegate = litert.load_delegate(str(build_delegate(model)))
    interpreter = litert.open(model, delegate)
    for image, expected in zip(IMAGES, expected_of_layers, strict=True):
        check(names, run(interpreter, [image]), expected)


def test_layers_in_the_generic_kernel(
    litert: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    """It computes images of other sizes."""
    model, names = layers()
    delegate = litert.load_delegate(str(build_delegate(model)))
    interpreter = litert.open(model, delegate)
    image = np.concatenate([IMAGES[0], IMAGES[1]], axis=1)
    interpreter.resize_tensor_input(0, image.shape)
    check(names, run(interpreter, [image]), in_built_in_kernels(litert, image))


def test_layers_in_a_module(tmp_path: Path, expected_of_layers: list[list[np.ndarray]]) -> None:
    model, names = layers()
    check(names, in_module(model, IMAGES[:1], tmp_path), expected_of_layers[0])


# Algorithms

ALGORITHMS = [name for name in REGISTRY.names() if name not in ("depthwise", "dense")]
#: Sums of an output tile mix all that the tile reads: 8x8 elements, where it has 6x6 outputs.
WINOGRAD_REACH = 7


@pytest.fixture(scope="module")
def layer_in_all_algorithms(build_delegate: Callable[..., Path]) -> tuple[bytes, Path]:
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    outputs = [writer.conv(x, IMAGE, Conv(6, activation=name))[0] for name in ("none", "relu6")]
    model = writer.finish([x], outputs)
    return model, build_delegate(model, algorithms=ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithms(
    litert: InterpreterApi, layer_in_all_algorithms: tuple[bytes, Path], algorithm: str
) -> None:
    model, library = layer_in_all_algorithms
    delegate = litert.load_delegate(str(library), {"algorithm": algorithm})
    interpreters = litert.open(model, delegate), litert.open(model)
    for image in IMAGES:
        results, expected = (run(interpreter, [image]) for interpreter in interpreters)
        entries = read_report(library, delegate)["layers"]
        assert {entry["algorithm"].split(":")[0] for entry in entries} == {algorithm}
        if algorithm != "winograd":
            check(["none", "relu6"], results, expected)
            continue
        # An infinity becomes a NaN, and both spread over their tile; what is a NaN stays one.
        far = np.ones(IMAGE[1:3], bool)
        for h, w in zip(*np.nonzero(~np.isfinite(image[0]).all(axis=-1)), strict=True):
            near = slice(max(h - WINOGRAD_REACH, 0), h + WINOGRAD_REACH + 1)
            far[near, max(w - WINOGRAD_REACH, 0) : w + WINOGRAD_REACH + 1] = False
        for result, reference in zip(results, expected, strict=True):
            assert np.isnan(result[np.isnan(reference)]).all()
            assert np.isfinite(result[0, far]).all()


def test_winograd_says_so(tmp_path: Path) -> None:
    """Reports name the layers whose outputs differ from TFLite's where an input is no number."""
    model = tmp_path / "model.tflite"
    model.write_bytes(single_conv(IMAGE, Conv(6)))
    (layer,) = build(model, tmp_path / "lib.so", Simd.named("host"), algorithms=["winograd"]).layers
    assert layer.why is not None
    assert layer.why.endswith(NAN_SPREADS)


def test_a_block_of_layers(litert: InterpreterApi, tmp_path: Path) -> None:
    """Expanded, convolved by channels, projected and added: in one kernel, strip by strip."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    y, shape = writer.conv(x, IMAGE, Conv(20, (1, 1), activation="relu6"))
    y, shape = writer.conv(y, shape, Conv(20, activation="relu_n1_to_1", depthwise=True))
    y, shape = writer.conv(y, shape, Conv(5, (1, 1)))
    y = writer.node("ADD", [y, x], shape, fusedActivationFunction="relu")
    content = writer.finish([x], [y])
    model, library = tmp_path / "model.tflite", tmp_path / "lib.so"
    model.write_bytes(content)
    report = build(model, library, Simd.named("host"), algorithms=["fused_block"])
    assert {layer.algorithm for layer in report.layers} == {"fused_block"}
    interpreters = litert.open(model, litert.load_delegate(str(library))), litert.open(model)
    for image in IMAGES:
        results, expected = (run(interpreter, [image]) for interpreter in interpreters)
        check(["block"], results, expected)
