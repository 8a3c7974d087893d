"""Embedded weights of int8 and uint8: of layers of integers, hybrid ones, and those of floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules.plan.planner import Limits
from schedules.target.simd import Simd
from tests.support.hybrid_models import HybridLayer
from tests.support.operator_cases import fused
from tests.support.tflite_schema import Quantization
from tests.support.tflite_writer import Conv, ModelWriter
from tflite_delegate.build import build
from tvmc.running.interpreter import Session, runtime

SHAPE = (1, 9, 10, 16)
#: Products of int8 and of floats; the latter behind a DEQUANTIZE.
FLOATS = (
    HybridLayer(SHAPE, Conv(21, (3, 3)), seed=5),
    HybridLayer(SHAPE, Conv(70, (1, 1), activation="relu"), dequantized=True, seed=6),
)
WINDOW = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def add_layer(
    writer: ModelWriter, x: int, seed: int, channels: int, kernel: int, element: str, change: str
) -> int:
    """A convolution of codes; its output. What ``change`` names is other than in the model."""
    depth, limits = writer.tensors[x].shape[-1], np.iinfo(element)
    rng, drawn = np.random.default_rng(seed), np.random.default_rng(seed + 100)
    shape = (channels, kernel, kernel, int(depth))
    weights = (drawn if change == "weights" else rng).integers(limits.min + 1, limits.max, shape)
    bias = rng.integers(-500, 500, channels).astype(np.int32) + 77 * (change == "bias")
    count = channels if element == "int8" else 1
    scales = rng.uniform(0.01, 0.02, count) * (1.5 if change == "scales" else 1.0)
    zero = 0 if element == "int8" else 131 + (change == "zeros")
    constants = [
        writer.constant(weights.astype(element), Quantization(scales.tolist(), [zero] * count)),
        writer.constant(bias.astype(np.int32), Quantization((0.05 * scales).tolist(), 0)),
    ]
    target = Quantization(2.5, 7 + (change == "zeros"))
    y = writer.tensor((*SHAPE[:3], channels), element, quantization=target)
    writer.add("CONV_2D", [x, *constants], [y], **WINDOW, **fused("none"))
    return y


def model(change: str = "") -> bytes:
    writer = ModelWriter()
    ends = [layer.add(writer) for layer in FLOATS]
    for element in ("int8", "uint8"):
        x = writer.tensor(SHAPE, element, quantization=Quantization(0.05, 3))
        y = add_layer(writer, x, 1, 48, 1, element, change)
        ends.append((x, add_layer(writer, y, 2, 21, 3, element, "")))
    x = writer.tensor(SHAPE, "int8", quantization=Quantization(0.05, 3))
    y = add_layer(writer, x, 3, 16, 3, "int8", "")
    total = writer.tensor(SHAPE, "int8", quantization=Quantization(2.0, 9))
    writer.add("ADD", [y, x], [total], **fused("relu"))
    ends.append((x, total))
    return writer.finish([x for x, _ in ends], [y for _, y in ends])


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    codes = [rng.integers(-128, 128, SHAPE) for _ in range(3)]
    types = (np.int8, np.uint8, np.int8)
    coded = [image.astype(dtype) for image, dtype in zip(codes, types, strict=True)]
    return [*(layer.image() for layer in FLOATS), *coded]


def written(folder: Path, change: str = "") -> Path:
    path = folder / f"{change or 'own'}.tflite"
    path.write_bytes(model(change))
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes")
    build(written(folder), folder / "lib.so", Simd.named("host"), limits=Limits(embeds=True))
    return folder / "lib.so"


def held(graph: Path, library: Path, verify: int = 0) -> dict[str, int]:
    """Packed bytes on the heap and in the library; outputs are checked."""
    options = {"verify": str(verify)}
    ours = Session(
        graph, runtime("litert"), delegate=library, delegate_options=options, xnnpack=False
    )
    theirs = Session(graph, runtime("litert"))
    pairs = zip(ours.run(images()), theirs.run(images()), strict=True)
    for number, (found, expected) in enumerate(pairs):
        if found.dtype == np.float32:
            bound = FLOATS[number].bound(FLOATS[number].image())
            np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
        else:
            np.testing.assert_array_equal(found, expected)
            assert len(np.unique(found)) > 30
    report = ours.report()
    assert report is not None and len(report["layers"]) == len(FLOATS) + 5
    return {
        place: sum(layer[f"{place}_bytes"] for layer in report["layers"])
        for place in ("packed", "embedded")
    }


@pytest.mark.parametrize("verify", [0, 1])
def test_nothing_is_packed_for_the_model_itself(tmp_path: Path, library: Path, verify: int) -> None:
    found = held(written(tmp_path), library, verify)
    assert found["packed"] == 0 and found["embedded"] > 0


@pytest.mark.parametrize("change", ["weights", "bias", "scales", "zeros"])
def test_other_constants_are_packed(tmp_path: Path, library: Path, change: str) -> None:
    found = held(written(tmp_path, change), library)
    assert found["packed"] > 0 and found["embedded"] > 0
