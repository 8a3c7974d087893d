"""Every algorithm against float64, over shapes around the tile sizes; and its exact workspace."""

from __future__ import annotations

import itertools
import math
import platform
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schedules.algorithms import REGISTRY, Unsupported
from schedules.errors import LeanconvError
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import fits_registers
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import PRESETS, Simd
from tests.support.kernels import Case, HostKernel, run_on_board, serves

HOST = Simd.named("host")
#: What this machine can run: its own vectors, and on x86-64 also those of half the size.
RUNNABLE = [HOST] + [PRESETS["x86-64-v3"]] * (platform.machine() == "x86_64")


def layer(
    size: int | tuple[int, int],
    channels: tuple[int, int],
    kernel: int | tuple[int, int],
    padding: str = "SAME",
    **more: Any,
) -> Conv2dWorkload:
    """A workload in few words: image, (input, output) channels, kernel."""
    height, width = (size, size) if isinstance(size, int) else size
    kernel_height, kernel_width = (kernel, kernel) if isinstance(kernel, int) else kernel
    for both in ("stride", "dilation"):
        if both in more:
            more[f"{both}_height"] = more[f"{both}_width"] = more.pop(both)
    return Conv2dWorkload.with_padding(
        padding,
        in_height=height,
        in_width=width,
        in_channels=channels[0],
        out_channels=channels[1],
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        **more,
    )


def depthwise(
    size: int | tuple[int, int],
    channels: int,
    kernel: int | tuple[int, int],
    padding: str = "SAME",
    multiplier: int = 1,
    **more: Any,
) -> Conv2dWorkload:
    """A depthwise workload in few words."""
    outputs = channels * multiplier
    return layer(size, (channels, outputs), kernel, padding, groups=channels, **more)


#: Each with what it is there for.
LAYERS = {
    "whole_tiles": layer(14, (16, 64), 3, activation="relu"),
    "one_less_than_tiles": layer(13, (15, 63), 3, activation="relu6"),
    "one_more_than_tiles": layer(15, (17, 65), 3),
    "pointwise": layer(9, (24, 40), 1, activation="relu_n1_to_1"),
    "pointwise_one_pixel": layer(1, (33, 10), 1),
    "pointwise_stride": layer(9, (16, 24), 1, stride=2),
    "pointwise_batch": layer(5, (10, 255), 1, batch=3),
    "first_layer": layer(17, (3, 24), 3, stride=2, activation="relu"),
    "first_layer_large_kernel": layer(20, (3, 17), 7, stride=2),
    "one_channel": layer(9, (1, 1), 3),
    "valid": layer(11, (8, 12), 5, "VALID"),
    "stride_3": layer(16, (5, 10), 3, stride=3),
    "dilated": layer(12, (10, 24), 3, dilation=2),
    "dilated_valid_stride": layer(16, (4, 8), 3, "VALID", dilation=3, stride=2),
    "wide_kernel": layer((6, 19), (12, 20), (1, 7)),
    "tall_kernel": layer((19, 6), (3, 20), (7, 1)),
    "kernel_larger_than_image": layer(3, (7, 9), 7),
    "batch": layer(7, (9, 18), 3, batch=2),
    "half_vectors": layer(9, (20, 24), 3),
    "many_inputs": layer(5, (128, 20), 3),
    "many_outputs": layer(3, (5, 1000), 1),
    "dense": layer(1, (64, 1001), 1, activation="relu"),
    "dense_1_input": layer(1, (1, 33), 1),
    "dense_3_inputs_2_rows": layer((1, 2), (3, 40), 1),
    "dense_17_inputs_5_rows": layer((1, 5), (17, 35), 1, residual=True),
    "dense_1001_inputs_9_rows": layer((1, 9), (1001, 7), 1, activation="hard_swish"),
    "dense_1_output_33_rows": layer((1, 33), (48, 1), 1),
    "group_of_whole_tiles": layer(14, (32, 128), 3, groups=2, activation="relu").one_group(),
    "group_one_more_than_tiles": layer(9, (51, 99), 3, groups=3, stride=2).one_group(),
    "group_of_few_channels": layer((7, 19), (9, 21), 3, groups=3, batch=2).one_group(),
    "group_of_one_channel": layer(8, (4, 4), 5, "VALID", groups=4).one_group(),
    "group_pointwise": layer(9, (48, 80), 1, groups=2, activation="relu6").one_group(),
    "residual": layer(9, (12, 35), 3, activation="relu6", residual=True),
    "residual_relu": layer(7, (9, 17), 3, residual=True, output_activation="relu", batch=2),
    "residual_pointwise": layer(6, (24, 40), 1, residual=True),
    "hard_swish": layer(8, (5, 20), 3, activation="hard_swish"),
    "swish": layer(7, (5, 20), 3, activation="swish"),
    "group_pointwise_batch": layer(5, (30, 51), 1, groups=3, batch=2).one_group(),
    "float16_weights": layer(13, (15, 63), 3, activation="relu", weight_dtype="float16"),
    "float16_weights_batch": layer(5, (20, 70), 3, batch=2, weight_dtype="float16"),
    "float16_weights_pointwise": layer(9, (33, 40), 1, residual=True, weight_dtype="float16"),
    "depthwise": depthwise(14, 64, 3, activation="relu6"),
    "depthwise_odd_channels": depthwise((13, 15), 42, 3, activation="relu"),
    "depthwise_few_channels": depthwise(11, 3, 3),
    "depthwise_stride": depthwise(15, 17, 3, stride=2, activation="relu_n1_to_1"),
    "depthwise_stride_3": depthwise((16, 19), 10, 3, "VALID", stride=3),
    "depthwise_dilated": depthwise(13, 33, 3, dilation=2),
    "depthwise_dilated_stride": depthwise((17, 14), 12, 5, "VALID", dilation=3, stride=2),
    "depthwise_5x5": depthwise(14, 48, 5, activation="hard_swish"),
    "depthwise_5x5_stride": depthwise((15, 14), 20, 5, stride=2),
    "depthwise_7x7": depthwise((12, 17), 35, 7, activation="relu6"),
    "depthwise_9x9_stride": depthwise(19, 10, 9, stride=2),
    "depthwise_wide_kernel": depthwise((3, 24), 18, (1, 7)),
    "depthwise_very_wide_kernel": depthwise((2, 40), 5, (1, 31)),
    "depthwise_tall_kernel": depthwise((24, 3), 18, (9, 1), stride=2),
    "depthwise_pointwise": depthwise(9, 21, 1, activation="relu"),
    "depthwise_kernel_larger_than_image": depthwise((2, 3), 17, 7),
    "depthwise_batch": depthwise(7, 40, 3, batch=2),
    "depthwise_float16_weights": depthwise(9, 42, 3, stride=2, weight_dtype="float16"),
    "depthwise_multiplier": depthwise(9, 12, 3, multiplier=2, stride=2, activation="relu"),
    "depthwise_multiplier_3": depthwise((7, 10), 13, 5, multiplier=3),
    "depthwise_residual": depthwise(9, 42, 3, activation="relu6", residual=True),
    "depthwise_residual_relu": depthwise(
        (8, 7), 24, 7, residual=True, output_activation="relu", batch=2, multiplier=2
    ),
}


#: What the default knobs leave out on the board, where hypothesis does not look.
OTHER_FORMS = [
    ("winograd:outputs=2", "one_more_than_tiles"),
    ("winograd:outputs=5", "one_more_than_tiles"),
    ("winograd:outputs=5:weights=panels", "whole_tiles"),
    ("winograd:outputs=6", "one_more_than_tiles"),
    ("winograd:c_block=32", "many_inputs"),
    *(
        (f"winograd:weights={weights}{more}", name)
        for weights in ("panels", "in_place")
        for more, name in (
            ("", "one_less_than_tiles"),
            ("", "one_more_than_tiles"),
            ("", "batch"),
            ("", "many_inputs"),
            ("", "valid"),
            ("", "wide_kernel"),
            ("", "tall_kernel"),
            ("", "group_of_few_channels"),
            ("", "residual"),
            (":outputs=2:strip=2", "one_more_than_tiles"),
            (":outputs=6", "whole_tiles"),
        )
    ),
    ("mec:solution=A", "batch"),
    ("mec:solution=A", "float16_weights_batch"),
    ("winograd:weights=in_place", "float16_weights"),
    ("winograd:weights=panels", "float16_weights"),
    *(
        (f"indirect:weights=in_place{order}", name)
        for order in ("", ":order=panels,rows,columns")
        for name in ("one_less_than_tiles", "first_layer", "batch", "wide_kernel", "residual")
    ),
    ("indirect:order=panels,rows,columns", "float16_weights"),
    ("indirect:weights=in_place:order=panels,rows,columns", "float16_weights"),
    ("im2col:order=panels,rows,columns", "float16_weights"),
    *(
        ("dense:weights=in_place", name)
        for name, workload in LAYERS.items()
        if serves("dense", workload, HOST)
    ),
]
#: Algorithm and name of every layer that it serves.
SERVED = [
    (algorithm, name)
    for algorithm in REGISTRY.names()
    for name, workload in LAYERS.items()
    if serves(algorithm, workload, HOST)
]


def knobs_that_fit(
    algorithm: str, workload: Conv2dWorkload, simd: Simd
) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the algorithm's knobs whose register tile exists on the target."""
    served = REGISTRY.get(algorithm).applied_to(workload)
    choices = {name: knob.choices for name, knob in served.knobs(workload, simd).items()}
    if algorithm == "depthwise":
        return st.fixed_dictionaries({k: st.sampled_from(v) for k, v in choices.items()})
    taps = Taps.of(workload, simd)
    tiles = [
        (columns, panel)
        for columns, panel in itertools.product(choices.pop("columns"), choices.pop("panel"))
        if fits_registers(workload, simd, taps, columns, panel)
    ]
    return st.builds(
        lambda tile, others: {"columns": tile[0], "panel": tile[1], **others},
        st.sampled_from(tiles),
        st.fixed_dictionaries({name: st.sampled_from(values) for name, values in choices.items()}),
    )


@st.composite
def geometries(draw: st.DrawFn, algorithm: str) -> Conv2dWorkload:
    """Small layers of every kind that ``algorithm`` serves."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    if algorithm == "winograd":
        stride = dilation = (1, 1)
        kernel = draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (2, 2), (4, 3), (1, 5), (3, 1)]))
    inputs, outputs = draw(st.integers(1, 19)), draw(st.integers(1, 35))
    grouped = {"group_of": draw(st.sampled_from([1, 1, 3]))}
    if algorithm == "depthwise":
        kernel = draw(st.sampled_from([kernel, kernel, (3, 3), (5, 5), (7, 6), (2, 9)]))
        inputs = draw(st.integers(2, 40))
        outputs, grouped = inputs * draw(st.sampled_from([1, 1, 1, 2, 3])), {"groups": inputs}
    if algorithm == "dense":
        kernel = stride = dilation = (1, 1)
    least = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    lowest = least if padding == "VALID" else [1, 1]
    return Conv2dWorkload.with_padding(
        padding,
        batch=draw(st.integers(1, 2)),
        in_height=draw(st.integers(lowest[0], lowest[0] + 8)),
        in_width=draw(st.integers(lowest[1], lowest[1] + 17)),
        in_channels=inputs,
        out_channels=outputs,
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride_height=stride[0],
        stride_width=stride[1],
        dilation_height=dilation[0],
        dilation_width=dilation[1],
        **grouped,
        activation=draw(st.sampled_from(["none", "relu", "relu6", "relu_n1_to_1"])),
        weight_dtype=draw(st.sampled_from(["float32", "float16"])),
    )


def check_on_host(plan: Plan, simd: Simd, folder: Path) -> None:
    """Run ``plan`` whole and in pieces by several threads' slices; check output and workspace."""
    kernel = HostKernel(plan, simd, folder)
    case = Case.random(plan.layer)
    whole = kernel(case)
    case.check(whole, plan)
    for threads, pieces in ((2, 3), (4, 7)):
        np.testing.assert_array_equal(kernel(case, threads=threads, pieces=pieces), whole)
    assert kernel.kernel.workspace_bytes == plan.workspace_bytes
    if not plan.workspace_bytes:  # nor a padded copy
        assert kernel.kernel.buffers == ()


BOARDS = ["cortex-a53", "cortex-a76"]
PAIRS = [*SERVED, *OTHER_FORMS]
#: Every kernel is checked on one of these, which take turns; on the others the checks are slow.
PLACES = [*(simd.name for simd in RUNNABLE), "board"]
PLACES_OF_SLOW = ["slow"] * len(PLACES)
#: Whose loops no other algorithm has: each of their kernels is checked on the board too.
OWN_LOOPS = ("dense", "depthwise")
#: What is chosen by default. The others share the loops of `indirect`: half of their kernels are
#: checked, the other half in slow tests.
CHOSEN = ("indirect", "winograd", *OWN_LOOPS)


def turn(place: str) -> list[bool]:
    """Of every kernel, whether it is this place's turn."""
    layers = [*LAYERS]
    found = []
    for row, (algorithm, name) in enumerate(PAIRS):
        base = algorithm.split(":")[0]
        own = base in OWN_LOOPS
        places = PLACES[:-1] if own else PLACES if base in CHOSEN else [*PLACES, *PLACES_OF_SLOW]
        # A layer's kernels come some rows apart: they go to all places, and so do an algorithm's.
        chosen = places[(layers.index(name) + row // len(places)) % len(places)]
        found.append(place == chosen or (own and place == "board"))
    return found


def covering() -> list[Any]:
    found = []
    for simd in RUNNABLE:
        for (algorithm, name), now in zip(PAIRS, turn(simd.name), strict=True):
            marks = [] if now else [pytest.mark.slow]
            label = f"{simd.name}-{algorithm}-{name}"
            found.append(pytest.param(simd, algorithm, name, id=label, marks=marks))
    return found


@pytest.mark.parametrize(("simd", "algorithm", "name"), covering())
def test_agrees_with_float64(name: str, algorithm: str, simd: Simd, tmp_path: Path) -> None:
    check_on_host(plan_kernel(LAYERS[name], simd, algorithm), simd, tmp_path)


def check_any_geometry_and_knobs(algorithm: str, data: st.DataObject) -> None:
    simd = data.draw(st.sampled_from(RUNNABLE), "simd")
    workload = data.draw(geometries(algorithm), "workload")
    plan = plan_kernel(workload, simd, algorithm)
    chosen = data.draw(knobs_that_fit(algorithm, workload, simd), "knobs")
    served = REGISTRY.get(algorithm).applied_to(workload)
    plan = replace(
        plan,
        knobs=chosen,
        workspace_bytes=served.workspace_bytes(workload, chosen),
        parts=served.packed_parts(workload, chosen),
    )
    with tempfile.TemporaryDirectory() as folder:
        check_on_host(plan, simd, Path(folder))


@pytest.mark.parametrize("algorithm", REGISTRY.names())
@settings(max_examples=8)
@given(data=st.data())
def test_any_geometry_and_knobs(algorithm: str, data: st.DataObject) -> None:
    check_any_geometry_and_knobs(algorithm, data)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", REGISTRY.names())
@settings(max_examples=400)
@given(data=st.data())
def test_any_geometry_and_knobs_at_length(algorithm: str, data: st.DataObject) -> None:
    check_any_geometry_and_knobs(algorithm, data)


@pytest.mark.parametrize("cpu", BOARDS)
def test_agrees_with_float64_on_a_board(cpu: str, tmp_path: Path) -> None:
    """The board's share of the kernels, on one of the two processors, which take turns."""
    share = [pair for pair, now in zip(PAIRS, turn("board"), strict=True) if now]
    check_on_the_board(cpu, share[BOARDS.index(cpu) :: len(BOARDS)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cpu", BOARDS)
def test_agrees_with_float64_on_every_board(cpu: str, tmp_path: Path) -> None:
    check_on_the_board(cpu, PAIRS, tmp_path)


def check_on_the_board(cpu: str, served: Sequence[tuple[str, str]], tmp_path: Path) -> None:
    simd = PRESETS[cpu]
    plans = {
        re.sub(r"\W", "_", f"{algorithm}_{name}"): plan_kernel(workload, simd, algorithm)
        for algorithm, name in served
        for workload in [LAYERS[name]]
    }
    cases = {name: Case.random(plan.layer) for name, plan in plans.items()}
    outputs = run_on_board(cpu, plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name], plans[name])


# MEC's benchmark layers (Cho & Brand, arXiv 1706.06873, table 2), and MiB that im2col and MEC need.
MEC_LAYERS = {
    "cv1": (layer(227, (3, 96), 11, "VALID", stride=4), 4.19, 1.57),
    "cv2": (layer(231, (3, 96), 11, "VALID", stride=4), 4.34, 1.63),
    "cv3": (layer(227, (3, 64), 7, "VALID", stride=2), 6.91, 2.02),
    "cv4": (layer(224, (64, 64), 7, "VALID", stride=2), 142.13, 41.73),
    "cv5": (layer(24, (96, 256), 5, "VALID"), 3.66, 0.88),
    "cv6": (layer(12, (256, 512), 3, "VALID"), 0.88, 0.35),
    "cv7": (layer(224, (3, 64), 3, "VALID"), 5.08, 1.71),
    "cv8": (layer(112, (64, 128), 3, "VALID"), 26.59, 9.02),
    "cv9": (layer(56, (64, 64), 3, "VALID"), 6.41, 2.21),
    "cv10": (layer(28, (128, 128), 3, "VALID"), 2.97, 1.07),
    "cv11": (layer(14, (256, 256), 3, "VALID"), 1.27, 0.49),
    "cv12": (layer(7, (512, 512), 3, "VALID"), 0.44, 0.21),
}


@pytest.mark.parametrize("algorithm", ["im2col", "mec"])
@pytest.mark.parametrize("name", MEC_LAYERS)
def test_workspace_is_that_of_the_paper(name: str, algorithm: str) -> None:
    workload, im2col_mebibytes, mec_mebibytes = MEC_LAYERS[name]
    plan = plan_kernel(workload, HOST, algorithm)
    expected = {"im2col": im2col_mebibytes, "mec": mec_mebibytes}[algorithm]
    # MEC's rows are a cache line longer where they are a multiple of 4096 bytes.
    padded = algorithm == "mec" and name in ("cv4", "cv6", "cv8")
    paper_bytes = plan.workspace_bytes - padded * workload.out_width * 64
    elements = {
        "im2col": workload.pixels * workload.reduction,
        "mec": workload.out_width * workload.in_height * math.prod(workload.weight_shape[2:]),
    }
    assert paper_bytes == elements[algorithm] * 4
    assert round(paper_bytes / 2**20, 2) == expected
    compiled = compile_plans({"kernel": plan}, HOST).kernels["kernel"]
    assert compiled.workspace_bytes == plan.workspace_bytes


@pytest.mark.parametrize("algorithm", ["indirect", "kn2row_aa", "direct", "depthwise"])
def test_some_need_no_workspace_and_no_padded_copy(algorithm: str) -> None:
    """So they say; what is compiled is asked where it is run, by :func:`check_on_host`."""
    layers = [la for la in LAYERS.values() if la.weight_dtype == la.dtype]
    served = [layer for layer in layers if serves(algorithm, layer, HOST)]
    assert served
    assert not any(plan_kernel(layer, HOST, algorithm).workspace_bytes for layer in served)


def test_formulas_hold_past_32_bits() -> None:
    workload = layer(40000, (3, 16), 3, "VALID")
    knobs = REGISTRY.get("im2col").default_knobs(workload, HOST)
    bytes_wanted = 39998 * 39998 * 27 * 4
    assert bytes_wanted > 2**31
    assert REGISTRY.get("im2col").workspace_bytes(workload, knobs) == bytes_wanted
    assert workload.macs == 39998 * 39998 * 27 * 16
    with pytest.raises(Unsupported, match="64-bit indices"):
        plan_kernel(workload, HOST)


@pytest.mark.parametrize("algorithm", ["im2col", "mec"])
def test_a_workspace_past_32_bits_is_refused(algorithm: str) -> None:
    workload = layer(5000, (64, 16), 3)
    assert plan_kernel(workload, HOST, "indirect").workspace_bytes == 0
    with pytest.raises(Unsupported, match=r"its workspace of \d+ elements needs 64-bit indices"):
        plan_kernel(workload, HOST, algorithm)


def test_the_tensors_of_all_groups_need_32_bit_indices() -> None:
    group = layer(4000, (192, 192), 1, groups=64).one_group()
    with pytest.raises(Unsupported, match="its input of 3072000000 elements needs 64-bit indices"):
        plan_kernel(group, HOST)


def test_unknown_algorithm_lists_those_known() -> None:
    with pytest.raises(LeanconvError, match="one of auto, dense, indirect, im2col, im2col_tiled"):
        plan_kernel(LAYERS["pointwise"], HOST, "im2row")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("padding", [0, 16])
def test_mec_solution_a_keeps_results_of_several_samples(
    batch: int, padding: int, tmp_path: Path
) -> None:
    """``L``, and from the next cache line on the results, in the order h'-n-w'-m."""
    mec = REGISTRY.get("mec")
    workload = layer((6, 7), (5, 9), 3, batch=batch)
    knobs = {**mec.default_knobs(workload, HOST), "solution": "A", "row_padding": padding}
    lowered = batch * 7 * (8 * 3 * 5 + padding) * 4
    results = batch * 6 * 7 * 9 * 4
    expected = -(-lowered // 64) * 64 + results if batch > 1 else lowered
    assert mec.workspace_bytes(workload, knobs) == expected
    plan = replace(plan_kernel(workload, HOST, "mec"), knobs=knobs, workspace_bytes=expected)
    check_on_host(plan, HOST, tmp_path)


@pytest.mark.parametrize("algorithm", ["mec", "mec_strip"])
@pytest.mark.parametrize(
    ("height", "kernel_width", "channels", "collide"),
    [
        (32, 1, 32, True),  # rows of L of 4096 bytes
        (112, 3, 64, True),  # 21 times that
        (31, 3, 11, True),  # one element less than a multiple
        (8, 1, 127, True),  # half a line less
        (35, 1, 29, False),  # one element less than that
        (8, 1, 129, True),  # half a line more
        (22, 1, 47, False),  # two elements more than that
        (28, 3, 128, False),  # between two multiples
        (5, 2, 3, False),
    ],
)
def test_mec_pads_rows_that_collide_in_the_cache(
    height: int, kernel_width: int, channels: int, collide: bool, algorithm: str
) -> None:
    workload = layer((height, 19), (channels, 8), (3, kernel_width), "VALID")
    served, plan = REGISTRY.get(algorithm), plan_kernel(workload, HOST, algorithm)
    knob = served.knobs(workload, HOST)["row_padding"]
    assert (knob.choices, knob.default) == ((0, 16), 16 if collide else 0)
    columns = {"mec": workload.out_width, "mec_strip": plan.knobs["columns"]}[algorithm]
    for padding in knob.choices:
        workspace = served.workspace_bytes(workload, {**plan.knobs, "row_padding": padding})
        assert workspace == columns * (height * kernel_width * channels + padding) * 4
    compiled = compile_plans({"kernel": plan}, HOST).kernels["kernel"]
    assert compiled.workspace_bytes == plan.workspace_bytes


def test_mec_solution_a_adds_residuals_of_several_samples(tmp_path: Path) -> None:
    """Its results are not in NHWC, but the residual is."""
    plan = plan_kernel(LAYERS["residual_relu"], HOST, "mec:solution=A")
    check_on_host(plan, HOST, tmp_path)


@settings(max_examples=8)
@given(data=st.data())
def test_mec_solution_a_with_any_geometry_and_knobs(data: st.DataObject) -> None:
    workload = data.draw(geometries("mec"), "workload").with_batch(
        data.draw(st.integers(2, 3), "batch")
    )
    assume(not workload.is_pointwise)
    knobs = {**data.draw(knobs_that_fit("mec", workload, HOST), "knobs"), "solution": "A"}
    served, plan = REGISTRY.get("mec"), plan_kernel(workload, HOST, "mec")
    workspace = served.workspace_bytes(workload, knobs)
    parts = served.packed_parts(workload, knobs)
    plan = replace(plan, knobs=knobs, workspace_bytes=workspace, parts=parts)
    with tempfile.TemporaryDirectory() as folder:
        check_on_host(plan, HOST, Path(folder))


#: Layers, and their N H W, K_h K_w and M.
SHIFT_ADD_LAYERS = {
    "same": (layer(14, (16, 64), 3), 14 * 14, 9, 64),
    "valid": (layer((11, 13), (8, 12), 5, "VALID"), 11 * 13, 25, 12),
    "stride": (layer(17, (3, 24), 3, stride=2), 17 * 17, 9, 24),
    "dilated": (layer(12, (10, 23), 3, dilation=2), 12 * 12, 9, 23),
    "wide_kernel": (layer((6, 19), (12, 37), (1, 7)), 6 * 19, 7, 37),
    "kernel_larger_than_image": (layer(3, (7, 9), 7), 3 * 3, 49, 9),
    "batch": (layer(7, (9, 18), 3, batch=3), 3 * 7 * 7, 9, 18),
    "no_product_is_used": (layer(1, (1, 1), (1, 2), dilation=2), 1, 2, 1),
}


@pytest.mark.parametrize("algorithm", ["kn2row", "kn2col", "kn2row_as", "kn2col_as"])
@pytest.mark.parametrize("name", SHIFT_ADD_LAYERS)
def test_products_of_the_whole_image_take_the_memory_of_the_papers(
    name: str, algorithm: str
) -> None:
    """Vasudevan et al. (arXiv 1704.04428): K_h K_w M H W; Anderson et al. (1709.03395): M H W."""
    workload, pixels, taps, outputs = SHIFT_ADD_LAYERS[name]
    plan = plan_kernel(workload, HOST, algorithm)
    products = 1 if algorithm.endswith("_as") else taps
    assert plan.workspace_bytes == pixels * products * outputs * 4
    compiled = compile_plans({"kernel": plan}, HOST).kernels["kernel"]
    (product,) = compiled.buffers
    assert (product.size, product.per_thread) == (plan.workspace_bytes, False)
    macs = REGISTRY.get(algorithm).macs(workload, plan.knobs)
    assert macs == pixels * taps * outputs * workload.in_channels


@pytest.mark.parametrize("algorithm", ["kn2row", "kn2col", "kn2row_as", "kn2col_as"])
@pytest.mark.parametrize("name", ["pointwise", "pointwise_stride", "pointwise_batch"])
def test_one_tap_is_one_product(name: str, algorithm: str) -> None:
    plan = plan_kernel(LAYERS[name], HOST, algorithm)
    assert plan.workspace_bytes == 0
    assert compile_plans({"kernel": plan}, HOST).kernels["kernel"].buffers == ()
    assert plan.macs == plan.layer.macs
