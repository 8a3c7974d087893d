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
    shape = (content.get("batch", 1), content["height"], content["width"], 4)
    assert_as_litert(model, tmp_path, [RNG.integers(-3, 4, shape).astype(np.float32)])


def test_two_factors(tmp_path: Path) -> None:
    """A block of another height than width."""
    model = dilated(12, 12, (3, 2), ((3, 3), (2, 2)))
    assert_as_litert(model, tmp_path, [RNG.integers(-3, 4, (1, 12, 12, 4)).astype(np.float32)])


def row(padding: Pair, ends_in: str, expand: int = -3) -> bytes:
    """A batch of rows, cut up, convolved as images of one row, and put together again."""
    writer = ModelWriter()
    x = writer.tensor((1, 12, 4), dynamic_batch=True)
    block, pads, crops = (
        writer.constant(np.array(v, np.int32)) for v in ([2], [padding], [(0, 0)])
    )
    length = (12 + sum(padding)) // 2
    cut = writer.node("SPACE_TO_BATCH_ND", [x, block, pads], (2, length, 4))
    image = writer.node(
        "EXPAND_DIMS", [cut, writer.constant(np.array(expand, np.int32))], (2, 1, length, 4)
    )
    constants = [
        writer.constant(RNG.integers(-3, 4, s).astype(np.float32)) for s in ((5, 1, 3, 4), (5,))
    ]
    conv = Conv(5, (1, 3), padding="VALID")
    y, shape = writer.conv(image, (2, 1, length, 4), conv, constants=constants)
    if ends_in == "RESHAPE":
        target = writer.constant(np.array([-1, shape[2], 5], np.int32))
        y = writer.node("RESHAPE", [y, target], (2, shape[2], 5))
    else:
        y = writer.node("SQUEEZE", [y], (2, shape[2], 5), squeezeDims=[-3])
    z = writer.node("BATCH_TO_SPACE_ND", [y, block, crops], (1, 2 * shape[2], 5))
    for tensor in writer.tensors[x + 1 :]:
        if tensor.buffer == 0:  # as converters do, that know no batch
            tensor.shapeSignature = [-1, *tensor.shape[1:]]
    return writer.finish([x], [z])


@pytest.mark.parametrize("ends_in", ["RESHAPE", "SQUEEZE"])
@pytest.mark.parametrize("padding", [(2, 2), (4, 0)])
def test_rows(padding: Pair, ends_in: str, tmp_path: Path) -> None:
    content = row(padding, ends_in)
    read = read_model(content)
    merge_dilations(read, read.graphs[0])
    pad = [] if padding == (2, 2) else ["PAD"]
    names = [node.name for node in read.graphs[0].operators]
    assert names == [*pad, "EXPAND_DIMS", "CONV_2D", ends_in]
    for batch in (1, 3):
        x = RNG.integers(-3, 4, (batch, 12, 4)).astype(np.float32)
        assert_as_litert(content, tmp_path, [x])
