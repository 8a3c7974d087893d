"""Convolutions between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND are dilated ones, as in LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.imported import assert_as_litert
from tests.support.tflite_writer import Conv, ModelWriter
from tflite_delegate.importer.dilation import merge_dilations
from tflite_delegate.importer.reading import read_model

RNG = np.random.default_rng(2)
Pair = tuple[int, int]


def dilated(
    height: int,
    width: int,
    block: Pair,
    paddings: tuple[Pair, Pair],
    crops: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    depthwise: bool = False,
    padding: str = "VALID",
    kernel: Pair = (3, 3),
    batch: int = 1,
) -> bytes:
    """A batch of images, cut up, convolved, and put together again."""
    writer = ModelWriter()
    x = writer.tensor((batch, height, width, 4))
    sides = [n + sum(p) for n, p in zip((height, width), paddings, strict=True)]
    small = [side // b for side, b in zip(sides, block, strict=True)]
    shape = (batch * block[0] * block[1], *small, 4)
    operands = [writer.constant(np.array(v, np.int32)) for v in (block, paddings, crops)]
    cut = writer.node("SPACE_TO_BATCH_ND", [x, *operands[:2]], shape)
    channels = (1, *kernel, 4) if depthwise else (4, *kernel, 4)
    constants = [
        writer.constant(RNG.integers(-3, 4, s).astype(np.float32)) for s in (channels, (4,))
    ]
    conv = Conv(4, kernel, padding=padding, depthwise=depthwise, activation="relu")
    y, shape = writer.conv(cut, shape, conv, constants=constants)
    whole = [n * b - sum(c) for n, b, c in zip(shape[1:3], block, crops, strict=True)]
    z = writer.node("BATCH_TO_SPACE_ND", [y, operands[0], operands[2]], (batch, *whole, 4))
    return writer.finish([x], [z])


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    ("content", "operators"),
    [
        ({"height": 8, "width": 8, "paddings": ((2, 2), (2, 2))}, "conv"),  # SAME
        (
            {"height": 7, "width": 9, "paddings": ((2, 3), (2, 3)), "crops": ((0, 1), (0, 1))},
            "conv",
        ),
        (
            {"height": 9, "width": 8, "paddings": ((0, 1), (0, 0)), "crops": ((0, 1), (0, 0))},
            "conv",
        ),
        ({"height": 8, "width": 8, "paddings": ((4, 0), (0, 2))}, "pad conv"),  # causal
        ({"height": 8, "width": 8, "paddings": ((2, 2), (2, 2)), "batch": 2}, "conv"),
        ({"height": 8, "width": 8, "paddings": ((0, 0), (0, 0)), "kernel": (1, 1)}, "conv"),
        (
            {
                "height": 8,
                "width": 8,
                "paddings": ((0, 0), (0, 0)),
                "kernel": (1, 1),
                "padding": "SAME",
            },
            "conv",
        ),
        # A crop that is more than the padding, and borders within: left as they are.
        ({"height": 8, "width": 8, "paddings": ((0, 0), (0, 0)), "crops": ((1, 0), (0, 0))}, "cut"),
        ({"height": 8, "width": 8, "paddings": ((2, 2), (2, 2)), "padding": "SAME"}, "cut"),
    ],
)
def test_as_litert(depthwise: bool, content: dict, operators: str, tmp_path: Path) -> None:
    model = dilated(block=(2, 2), depthwise=depthwise, **content)
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    expected = {
        "conv": [name],
        "pad conv": ["PAD", name],
        "cut": ["SPACE_TO_BATCH_ND", name, "BATCH_TO_SPACE_ND"],
    }
    read = read_model(model)
    merge_dilations(read, read.graphs[0])
    assert [node.name for node in read.graphs[0].operators] == expected[operators]
    if operators == "cut":
        return
    shape = (content.get("batch", 1), content["height"], content["width"], 4)
    assert_as_litert(model, tmp_path, [RNG.integers(-3, 4, shape).astype(np.float32)])


def test_two_factors(tmp_path: Path) -> None:
    """A block of another height than width."""
    model = dilated(12, 12, (3, 2), ((3, 3), (2, 2)))
    assert_as_litert(model, tmp_path, [RNG.integers(-3, 4, (1, 12, 12, 4)).astype(np.float32)])
