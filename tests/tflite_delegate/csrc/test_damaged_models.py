"""Damaged models are refused in one line, and a delegate makes none of them worse in its host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TRAINED, Compiled
from tests.support.hybrid_models import HybridLayer
from tests.support.mutations import survives
from tests.support.tflite_writer import Conv, Dense, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run

#: Mutations of each of the trained models, 3,000 in all.
EACH = 500
IMAGE = (1, 6, 6, 4)
BuildDelegate = Callable[..., Path]


def model() -> bytes:
    """Layers with residuals, and operators between them."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    image, _ = writer.conv(x, IMAGE, Conv(4, activation="relu"))
    other, _ = writer.conv(image, IMAGE, Conv(4, weight_type="float16"))
    image = writer.node("ADD", [other, image], IMAGE, fusedActivationFunction="relu6")
    other, _ = writer.conv(image, IMAGE, Conv(4, depthwise=True))
    both = writer.node("CONCATENATION", [other, image], (1, 6, 6, 8), axis=3)
    window: dict[str, Any] = {
        "strideH": 2,
        "strideW": 2,
        "filterHeight": 3,
        "filterWidth": 3,
        "padding": 1,
    }
    pooled = writer.node("AVERAGE_POOL_2D", [both], (1, 2, 2, 8), **window)
    flat = writer.node("RESHAPE", [pooled, writer.constant(np.array([1, 32], np.int32))], (1, 32))
    dense, _ = writer.dense(flat, (1, 32), Dense(3))
    return writer.finish([x], [writer.node("SOFTMAX", [dense], (1, 3), beta=1.0)])


def counts(told: str) -> dict[str, int]:
    return {kind: int(count) for kind, count in (entry.split("=") for entry in told.split())}


def test_compilation(repo_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model())
    told = counts(survives("mutations", ["delegate", path, 0, 0, 100], repo_root, 300))
    assert set(told) == {"delegate", "refusal"}


def test_host(repo_root: Path, tmp_path: Path, build_delegate: BuildDelegate) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model())
    arguments = [path, build_delegate(path), 0, 0, 120]
    told = counts(survives("host_mutations", arguments, repo_root, 300))
    assert told["builtin_claimed"] > 5 and told["builtin_refused"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_compilation_of_trained_models(repo_root: Path, trained_models: Path, name: str) -> None:
    arguments = ["delegate", trained_models / f"{name}.tflite", 1, 0, EACH]
    survives("mutations", arguments, repo_root, 3600)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_hosts_of_trained_models(
    repo_root: Path, trained_models: Path, compile_model: Callable[..., Compiled], name: str
) -> None:
    # A quantised model has no layer to compile: it meets the delegate of another.
    compiled = "resnet8_float" if name.endswith("int8") else name
    library = compile_model(trained_models / f"{compiled}.tflite").library
    arguments = [trained_models / f"{name}.tflite", library, 1, 0, EACH]
    survives("host_mutations", arguments, repo_root, 3600)


# What mutations found


def outputs(
    litert: InterpreterApi, library: Path, content: bytes
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """With the delegate and without it, and how many layers that took."""
    delegate = litert.load_delegate(str(library))
    interpreter, builtin = litert.open(content, delegate), litert.open(content)
    inputs = random_inputs(builtin)
    results = run(interpreter, inputs), run(builtin, inputs)
    return (*results, read_report(library, delegate)["claimed"])


def residual(stride: tuple[int, int]) -> bytes:
    """Two layers and a residual; the first's output is stated to be an image as its input."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    first, _ = writer.conv(x, IMAGE, Conv(4, stride=stride))
    writer.tensors[first].shape = list(IMAGE)
    second, _ = writer.conv(first, IMAGE, Conv(4, seed=1))
    return writer.finish([x], [writer.node("ADD", [second, x], IMAGE)])


def test_operands_of_other_shapes_than_stated(
    litert: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    """What would be a residual is broadcast: the ADD is not merged with the layer."""
    library = build_delegate(residual((1, 1)))
    (result,), (expected,), claimed = outputs(litert, library, residual((8, 1)))
    assert claimed == 1
    assert result.shape == expected.shape == IMAGE
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_node_that_reads_its_output(litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """TFLite cannot divide such a graph: nothing is claimed."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    image, _ = writer.conv(x, IMAGE, Conv(4))
    slopes = writer.constant(np.zeros(4, np.float32))
    writer.node("PRELU", [image, slopes], IMAGE)
    writer.operators[-1].inputs[1] = writer.operators[-1].outputs[0]
    content = writer.finish([x], [image])
    (result,), (expected,), claimed = outputs(litert, build_delegate(model()), content)
    assert claimed == 0
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("operator", ["layer", "AVERAGE_POOL_2D"])
def test_outputs_that_are_constants(
    litert: InterpreterApi, build_delegate: BuildDelegate, operator: str
) -> None:
    """They stay with TFLite, which refuses them or not; the model's file is not written to."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    image, _ = writer.conv(x, IMAGE, Conv(4))
    window: dict[str, Any] = {"strideH": 1, "strideW": 1, "filterHeight": 1, "filterWidth": 1}
    pooled = writer.node("AVERAGE_POOL_2D", [image], IMAGE, **window)
    constant = writer.constant(np.ones(IMAGE, np.float32))
    written = image if operator == "layer" else pooled
    writer.tensors[written].buffer = writer.tensors[constant].buffer
    library = build_delegate(residual((1, 1)))
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(writer.finish([x], [pooled]), delegate)
    report = read_report(library, delegate)
    del interpreter  # whose nodes these are
    assert report["claimed"] + len(report["operators"]) == (operator != "layer")


def test_outputs_that_are_variables(litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """Without a node of TFLite's that computes them, they would have no memory."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    first, _ = writer.conv(x, IMAGE, Conv(4))
    image = writer.node("NEG", [first], IMAGE)
    writer.tensors[image].isVariable = True
    second, _ = writer.conv(image, IMAGE, Conv(4, seed=1))
    library = build_delegate(residual((1, 1)))
    content = writer.finish([x], [second])
    (result,), (expected,), claimed = outputs(litert, library, content)
    assert claimed == 2
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def damage_scales(stored: Any) -> None:
    stored.quantization.scale = stored.quantization.scale[:3]


def damage_axis(stored: Any) -> None:
    stored.quantization.quantizedDimension = 7


def damage_zero_points(stored: Any) -> None:
    stored.quantization.zeroPoint = [3] * 4


def damage_steps(stored: Any) -> None:
    stored.quantization.scale = [float("nan")] * 4


def damage_all(stored: Any) -> None:
    stored.quantization = None


DAMAGES = (damage_scales, damage_axis, damage_zero_points, damage_steps, damage_all)


def int8_weights(damage: Callable[[Any], None] | None = None) -> bytes:
    """A hybrid layer, and one behind a DEQUANTIZE; each of their weights damaged."""
    writer = ModelWriter()
    x = writer.tensor(IMAGE)
    outputs = [
        HybridLayer(IMAGE, Conv(4), dequantized=behind).add_behind(writer, x)
        for behind in (False, True)
    ]
    for tensor in filter(lambda tensor: tensor.quantization is not None, writer.tensors):
        if damage is not None:
            damage(tensor)
    return writer.finish([x], outputs)


def test_scales_of_int8_weights(litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """What has none that TFLite computes by stays with it, which refuses it or not."""
    library = build_delegate(int8_weights())
    *_, claimed = outputs(litert, library, int8_weights())
    assert claimed == 2
    for damage in DAMAGES:
        content = int8_weights(damage)
        try:
            litert.open(content)
        except (RuntimeError, ValueError):
            with pytest.raises((RuntimeError, ValueError)):
                litert.open(content, litert.load_delegate(str(library)))
            continue
        mine, theirs, claimed = outputs(litert, library, content)
        assert claimed == 0
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(mine, theirs, strict=True))
