"""The operators that move elements or enlarge images, against TFLite's own kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, run
from tests.tflite_delegate.csrc.operators.operator_cases import (
    RGB,
    WIDE,
    Case,
    X,
    check_alone,
    check_other_sizes,
    check_together,
    identity,
    ints,
    operators,
)

#: Four products, whose weights are rounded, and three additions; a pixel half a step beyond the
#: border takes 1.5 of one pixel and -.5 of the same.
BILINEAR = 12
BLOCKS = (1, 4, 4, 64)
REFLECT, SYMMETRIC = {"mode": 0}, {"mode": 1}


def resized(x: tuple[int, ...], height: int, width: int) -> tuple[list[Any], tuple[int, ...]]:
    return [x, ints(height, width)], (x[0], height, width, x[3])


def centers(align_corners: bool, half_pixel_centers: bool) -> dict[str, bool]:
    return {"alignCorners": align_corners, "halfPixelCenters": half_pixel_centers}


def sliced(begin: Any, end: Any, strides: Any) -> list[Any]:
    return [X, ints(*begin), ints(*end), ints(*strides)]


EVERYTHING = ((0, 0, 0, 0), (1, 9, 7, 12), (1, 1, 1, 1))
BILINEAR_SIZES = {
    "twice": (X, 18, 14), "thrice": (WIDE, 18, 15), "odd": (RGB, 29, 17), "smaller": (X, 4, 5),
    "one": (X, 1, 1), "a row": (X, 1, 40), "same": (WIDE, 6, 5), "from one": ((1, 1, 1, 12), 3, 4),
    "many": (X, 10, 200),
}  # fmt: skip
ALIGNMENTS = {
    "": centers(False, False), ", corners": centers(True, False), ", pixels": centers(False, True)
}  # fmt: skip

CASES = {
    **{
        f"{name.lower()} {size}{alignment}": Case(
            name, *resized(*BILINEAR_SIZES[size]), ALIGNMENTS[alignment],
            roundings=BILINEAR if name == "RESIZE_BILINEAR" else 0,
        )
        for name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
        for size in BILINEAR_SIZES
        for alignment in ALIGNMENTS
    },
    # Orders of axes: rows, squares with rests on both sides, neighbours that stay together.
    "transpose to channels first": Case("TRANSPOSE", [X, ints(0, 3, 1, 2)], (1, 12, 9, 7)),
    "transpose all": Case("TRANSPOSE", [WIDE, ints(3, 2, 1, 0)], (77, 5, 6, 1)),
    "transpose rows": Case("TRANSPOSE", [X, ints(0, 2, 1, 3)], (1, 7, 9, 12)),
    "transpose columns": Case("TRANSPOSE", [WIDE, ints(0, 1, 3, 2)], (1, 6, 77, 5)),
    "transpose nothing": Case("TRANSPOSE", [RGB, ints(0, 1, 2, 3)], RGB),
    "transpose matrix": Case("TRANSPOSE", [X, ints(1, 0)], (12, 63), reshaped=(63, 12)),
    "transpose rank 6": Case(
        "TRANSPOSE", [X, ints(4, 1, 5, 0, 3, 2)], (4, 3, 3, 1, 7, 3), reshaped=(1, 3, 3, 7, 4, 3)
    ),
    "depth to space": Case("DEPTH_TO_SPACE", [X], (1, 18, 14, 3), {"blockSize": 2}),
    "depth to space, 8": Case("DEPTH_TO_SPACE", [BLOCKS], (1, 32, 32, 1), {"blockSize": 8}),
    "space to depth": Case("SPACE_TO_DEPTH", [BLOCKS], (1, 2, 2, 256), {"blockSize": 2}),
    "space to depth, 1": Case("SPACE_TO_DEPTH", [X], X, {"blockSize": 1}),
    # Slices: contiguous, of channels, of everything, of nothing that is left, backwards.
    "slice": Case("SLICE", [X, ints(0, 2, 1, 3), ints(1, 5, -1, 7)], (1, 5, 6, 7)),
    "slice rows": Case("SLICE", [WIDE, ints(0, 1, 0, 0), ints(-1, 3, -1, -1)], (1, 3, 5, 77)),
    "slice of rank 5": Case(
        "SLICE", [X, ints(0, 1, 0, 2, 1), ints(1, 2, -1, 3, 11)], (1, 2, 3, 3, 11),
        reshaped=(1, 3, 3, 7, 12),
    ),
    "strided slice": Case(
        "STRIDED_SLICE", sliced((0, 1, 2, 0), (1, 8, 7, 12), (1, 2, 3, 1)), (1, 4, 2, 12)
    ),
    "strided slice, channels": Case(
        "STRIDED_SLICE", sliced((0, 0, 0, 1), (1, 9, 7, 12), (1, 1, 1, 5)), (1, 9, 7, 3)
    ),
    "strided slice, backwards": Case(
        "STRIDED_SLICE", sliced((0, -1, 5, 11), (1, -10, 0, 0), (1, -1, -2, -3)), (1, 9, 3, 4)
    ),
    "strided slice, beyond": Case(
        "STRIDED_SLICE", sliced((-5, 2, -90, 0), (9, 99, 99, -1), (1, 1, 1, 1)), (1, 7, 7, 11)
    ),
    "strided slice, masks": Case(
        "STRIDED_SLICE", sliced((5, 5, 5, 5), (1, 2, 3, 4), (1, 1, 1, -2)), (1, 9, 7, 3),
        {"beginMask": 7, "endMask": 15},
    ),
    "strided slice, masks backwards": Case(
        "STRIDED_SLICE", sliced((0, 3, 0, 5), (1, 3, 1, 4), (1, -1, -1, -2)), (1, 4, 5, 6),
        {"beginMask": 13, "endMask": 11},
    ),
    "strided slice, one row": Case(
        "STRIDED_SLICE", sliced((0, 3, 0, 0), (1, 4, 7, 12), (1, 1, 1, 1)), (1, 7, 12),
        {"shrinkAxisMask": 2},
    ),
    "strided slice, one element": Case(
        "STRIDED_SLICE", sliced((0, -1, 3, -2), (0, 0, 0, 0), (1, 1, 1, 1)), (),
        {"shrinkAxisMask": 15},
    ),
    "strided slice, ellipsis": Case(
        "STRIDED_SLICE", [X, ints(0, 0, 3), ints(1, 0, 9), ints(1, 1, 2)], (1, 9, 7, 3),
        {"ellipsisMask": 2},
    ),
    "strided slice, new axes": Case(
        "STRIDED_SLICE", [X, ints(0, 0, 0, 2), ints(1, 0, 0, 5), ints(1, 1, 1, 1)],
        (1, 1, 9, 7, 3), {"newAxisMask": 2, "ellipsisMask": 4},
    ),
    "strided slice, few axes": Case(
        "STRIDED_SLICE", [X, ints(0, 4), ints(1, 6), ints(1, 1)], (1, 2, 7, 12)
    ),
    "strided slice, all": Case("STRIDED_SLICE", sliced(*EVERYTHING), X),
    # Parts.
    "split": Case("SPLIT", [ints(3), X], [(1, 9, 7, 4)] * 3, {"numSplits": 3}),
    "split rows": Case(
        "SPLIT", [np.array(-3, np.int32), WIDE], [(1, 3, 5, 77)] * 2, {"numSplits": 2}
    ),
    "split into one": Case("SPLIT", [ints(1), RGB], [RGB], {"numSplits": 1}),
    "split_v": Case(
        "SPLIT_V", [X, ints(5, -1, 1), ints(3)], [(1, 9, 7, n) for n in (5, 6, 1)],
        {"numSplits": 3},
    ),
    "split_v, rows": Case(
        "SPLIT_V", [WIDE, ints(4, 2), np.array(-3, np.int32)], [(1, 4, 5, 77), (1, 2, 5, 77)],
        {"numSplits": 2},
    ),
    "unpack": Case("UNPACK", [RGB], [(1, 11, 10)] * 3, {"num": 3, "axis": -1}),
    "unpack rows": Case("UNPACK", [WIDE], [(1, 5, 77)] * 6, {"num": 6, "axis": 1}),
    "unpack one": Case("UNPACK", [X], [(9, 7, 12)], {"num": 1, "axis": 0}),
    "pack": Case("PACK", [X, X], (1, 9, 7, 12, 2), {"valuesCount": 2, "axis": -1}),
    "pack rows": Case("PACK", [WIDE, WIDE, WIDE], (1, 3, 6, 5, 77), {"valuesCount": 3, "axis": 1}),
    "pack one": Case("PACK", [RGB], (1, *RGB), {"valuesCount": 1, "axis": 0}),
    # Mirrors: of rows and columns, of all axes, as far as they reach.
    "reflect": Case(
        "MIRROR_PAD", [X, ints([0, 0], [1, 3], [2, 1], [0, 0])], (1, 13, 10, 12), REFLECT
    ),
    "reflect channels": Case(
        "MIRROR_PAD", [RGB, ints([0, 0], [10, 1], [0, 0], [2, 1])], (1, 22, 10, 6), REFLECT
    ),
    "mirror": Case(
        "MIRROR_PAD", [WIDE, ints([1, 1], [6, 0], [0, 5], [1, 77])], (3, 12, 10, 155), SYMMETRIC
    ),
    "mirror nothing": Case("MIRROR_PAD", [X, ints(*[[0, 0]] * 4)], X, SYMMETRIC),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_case(litert: InterpreterApi, library: Path, name: str) -> None:
    check_alone(litert, library, CASES[name])


@pytest.mark.parametrize("num_threads", [1, 3])
def test_all_at_once(interpreter_api: InterpreterApi, library: Path, num_threads: int) -> None:
    check_together(interpreter_api, library, CASES, num_threads)


#: Operators whose inputs may have any number of images, and more rows and columns.
ANY_SIZE = (
    "resize_bilinear odd, pixels", "resize_nearest_neighbor odd, corners",
    "transpose to channels first", "transpose rows", "depth to space", "strided slice, ellipsis",
    "split", "split_v", "pack", "reflect", "unpack",
)  # fmt: skip


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("name", ANY_SIZE)
def test_other_sizes(litert: InterpreterApi, library: Path, name: str, num_threads: int) -> None:
    """Larger ones are split over threads; then the first one again."""
    batches = (1, 1, 1, 1) if name == "strided slice, ellipsis" else (1, 3, 2, 1)
    sizes = list(zip(batches, (0, 0, 60, 0), strict=True))
    check_other_sizes(litert, library, CASES[name], num_threads, sizes)


def test_infinities_of_enlarged_images(litert: InterpreterApi, library: Path) -> None:
    """They spread, and become NaN where they have no share, as in TFLite's own kernels."""
    writer = ModelWriter()
    x = writer.tensor(X)
    outputs = []
    for size in BILINEAR_SIZES.values():
        for options in ALIGNMENTS.values():
            wanted = writer.constant(ints(*size[1:]))
            shape = (1, *size[1:], 12)
            enlarged = writer.node("RESIZE_BILINEAR", [x, wanted], shape, "float32", **options)
            sizes = [enlarged, writer.constant(ints(9, 7))]
            back = writer.node("RESIZE_NEAREST_NEIGHBOR", sizes, X)
            outputs += [enlarged, identity(writer, back, X)]
    model = writer.finish([x], outputs)
    value = np.random.default_rng(0).uniform(-1, 1, X).astype(np.float32)
    value[0, 2, 3], value[0, 8, 6], value[0, 5, 1], value[0, 0, 0] = np.inf, np.inf, -np.inf, np.nan
    delegate = litert.load_delegate(str(library))
    sessions = [litert.open(model, delegate), litert.open(model)]
    results, expected = (run(session, [value]) for session in sessions)
    for y, builtin in zip(results[::2], expected[::2], strict=True):
        for kind in (np.isnan, np.isposinf, np.isneginf):
            assert np.array_equal(kind(y), kind(builtin))
    assert len(operators(library, delegate)) == len(outputs)


def test_outputs_that_nobody_reads(interpreter_api: InterpreterApi, library: Path) -> None:
    """TFLite gives them no memory."""
    writer = ModelWriter()
    x = writer.tensor(X)
    copied = identity(writer, x, X)
    shape = (1, 9, 7, 4)
    parts = writer.splitting_node(
        "SPLIT", [writer.constant(ints(3)), copied], [shape] * 3, numSplits=3
    )
    y = writer.node("RELU", [parts[1]], shape)
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(writer.finish([x], [y]), delegate)
    (value,) = random_inputs(interpreter)
    for _ in range(2):
        (result,) = run(interpreter, [value])
        assert np.array_equal(result, np.maximum(value[..., 4:8], 0))
    assert len(operators(library, delegate)) == 2


@pytest.mark.parametrize(
    "case",
    [
        Case("RESIZE_BILINEAR", *resized(X, 18, 14), centers(False, True)),
        Case("MIRROR_PAD", [X, ints([0, 0], [9, 0], [0, 0], [0, 0])], (1, 18, 7, 12), SYMMETRIC),
        Case("SPLIT_V", [X, ints(9, 2, 1), ints(3)], [(1, 9, 7, n) for n in (9, 2, 1)]),
        Case("UNPACK", [X], [(9, 7, 12)], {"num": 1, "axis": 0}),
    ],
    ids=lambda case: case.name,
)
def test_sizes_that_do_not_fit(litert: InterpreterApi, library: Path, case: Case) -> None:
    """One row, two images, and two channels more than the convolution has: errors, no crash."""
    interpreter = litert.open(case.model(), litert.load_delegate(str(library)))
    index = interpreter.get_input_details()[0]["index"]
    wrong = {
        "RESIZE_BILINEAR": (1, 9, 7, 14), "MIRROR_PAD": (1, 8, 7, 12), "SPLIT_V": (1, 9, 7, 14),
        "UNPACK": (2, 9, 7, 12),
    }[case.name]  # fmt: skip
    interpreter.resize_tensor_input(index, wrong)
    with pytest.raises(RuntimeError):
        interpreter.allocate_tensors()
