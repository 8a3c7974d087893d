"""Delegates of hybrid layers against TFLite: every element is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Delegate, Interpreter, OpResolverType, load_delegate

from schedules.target.simd import Simd
from tests.support.hybrid_models import HybridLayer, model, random_layers
from tests.support.hybrid_sweep import SHAPES, swept_layers
from tests.support.imported import outputs_of
from tests.support.tflite_writer import Conv, ModelWriter
from tflite_delegate.build import build

HOST = Simd.named("host")


#: Whose kernels TFLite runs, by the names of ``--rounding``.
RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def run(
    path: Path,
    delegates: Sequence[Delegate],
    images: Sequence[np.ndarray],
    rounding: str = "xnnpack",
) -> list[np.ndarray]:
    interpreter = Interpreter(
        str(path),
        num_threads=2,
        experimental_delegates=list(delegates),
        experimental_op_resolver_type=RESOLVERS[rounding],
    )
    return outputs_of(interpreter, images)


def delegate_of(path: Path, layers: Sequence[HybridLayer], rounding: str = "xnnpack") -> Delegate:
    """A delegate that computes all ``layers`` of the model that it writes to ``path``."""
    path.write_bytes(model(layers))
    library = path.with_suffix(".so")
    reports = build(path, library, HOST, jobs=1, rounding=rounding).layers
    assert all(layer.algorithm for layer in reports), [layer.reason for layer in reports]
    return load_delegate(str(library))


def check(
    path: Path,
    layers: Sequence[HybridLayer],
    images: Sequence[np.ndarray],
    rounding: str = "xnnpack",
) -> None:
    """Fail unless a delegate for ``layers`` computes of ``images`` what TFLite does."""
    delegate = delegate_of(path, layers, rounding)
    outputs = run(path, [delegate], images), run(path, [], images, rounding)
    for layer, mine, theirs in zip(layers, *outputs, strict=True):
        wrong = int((mine != theirs).sum())
        assert wrong == 0, f"{wrong} of {theirs.size} differ: {layer}"


def test_layers_are_those_of_tflite(tmp_path: Path) -> None:
    layers = random_layers(12, 1)
    check(tmp_path / "model.tflite", layers, [layer.image() for layer in layers])


@pytest.mark.parametrize("rounding", ["builtin", "reference"])
def test_layers_are_those_of_its_own_kernels(rounding: str, tmp_path: Path) -> None:
    layers = random_layers(6, 11)
    check(tmp_path / "model.tflite", layers, [layer.image() for layer in layers], rounding)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", RESOLVERS)
@pytest.mark.parametrize("kind", SHAPES)
def test_many_layers_are_those_of_tflite(kind: str, rounding: str, tmp_path: Path) -> None:
    layers = swept_layers(kind, 20)
    check(tmp_path / "model.tflite", layers, [layer.image() for layer in layers], rounding)


def test_other_sizes_are_those_of_tflite(tmp_path: Path) -> None:
    """No kernel is compiled for these: the delegate's own in C computes them."""
    layers = [replace(layer, sign="both") for layer in random_layers(9, 3)]
    larger = []
    for layer in layers:
        *outer, channels = layer.input_shape
        larger.append(replace(layer, input_shape=(*(size + 1 for size in outer), channels)))
    check(tmp_path / "model.tflite", layers, [layer.image() for layer in larger])


def test_weights_behind_a_dequantize_stay_int8(tmp_path: Path) -> None:
    """Outputs are sums of floats in another order than TFLite's, of exactly the same weights."""
    layers = [replace(layer, sign="both") for layer in random_layers(9, 4, dequantized=True)]
    path, images = tmp_path / "model.tflite", [layer.image() for layer in layers]
    delegate = delegate_of(path, layers)
    for layer, image, mine, theirs in zip(
        layers, images, run(path, [delegate], images), run(path, [], images), strict=True
    ):
        assert np.abs(mine - theirs).max() <= layer.bound(image), layer


def test_what_follows_and_precedes_is_exact(tmp_path: Path) -> None:
    """Pads, residuals and activations around hybrid layers, merged with them or not."""
    writer = ModelWriter()
    ends = []
    for kernel, depthwise in (((3, 3), False), ((1, 1), False), ((3, 3), True)):
        x = writer.tensor((1, 7, 6, 16))
        padded, shape = writer.pad(x, (1, 7, 6, 16), (1, 1, 1, 1))
        conv = Conv(16, kernel, padding="VALID", depthwise=depthwise)
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        layer = HybridLayer(shape, conv, kind)
        y = layer.add_behind(writer, padded)
        other = writer.tensor(layer.output_shape)
        total = writer.node("ADD", [y, other], layer.output_shape, fusedActivationFunction="none")
        ends.append((x, other, writer.node("RELU6", [total], layer.output_shape)))
    path = tmp_path / "model.tflite"
    inputs = [tensor for x, other, _ in ends for tensor in (x, other)]
    path.write_bytes(writer.finish(inputs, [y for *_, y in ends]))
    build(path, path.with_suffix(".so"), HOST, jobs=1)
    rng = np.random.default_rng(0)
    shapes = [(1, 7, 6, 16), (1, 7, 6, 16), (1, 7, 6, 16), (1, 9, 8, 16)]
    images = [rng.standard_normal(shape, np.float32) for shape in (*shapes, *shapes[:2])]
    mine = run(path, [load_delegate(str(path.with_suffix(".so")))], images)
    for found, expected in zip(mine, run(path, [], images), strict=True):
        np.testing.assert_array_equal(found, expected)
