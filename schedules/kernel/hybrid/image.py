"""The image of a hybrid layer as int8: the stages of a kernel before its product.

Of an image, these are its range row by row (blocks ``SPAN…``: the largest element, and the largest
with the sign changed), what follows from it (``STEPS``), and its int8 (``Q``). Of a matrix, whose
rows have ranges of their own, one stage does all of that row by row.

Workspace in bytes: ``H W C`` of the int8, 12 for the steps of each image or row, and of images 8
for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx
from tvm.tirx import Expr

from schedules.kernel.hybrid.constants import STEPS
from schedules.kernel.hybrid.rules import BELOW_HALF, Rule, comes_before
from schedules.kernel.steps import cut_tails, straighten
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.clamping import at_least
from schedules.lower.exact import nearest, rounded
from schedules.lower.integers import narrowed, requantised
from schedules.lower.joined import join
from schedules.lower.memory import align
from schedules.lower.stages import mark_stage
from schedules.lower.steps import unroll
from schedules.target.simd import Simd

#: So many elements at least become int8 together.
CODES = 32
FLOAT_BYTES = 4


@dataclass(frozen=True)
class _Rows:
    """A layer's image as rows side by side in memory.

    ``together`` of them have one range.
    """

    count: int
    length: int
    together: int

    @classmethod
    def of(cls, workload: Conv2dWorkload) -> _Rows:
        batch, height, width, channels = workload.input_shape
        count, length, together = batch * height, width * channels, height
        if Rule.of(workload).by_row:
            count, length, together = batch * height * width, channels, 1
        return cls(count, length, together)

    @property
    def ranges(self) -> int:
        """Images, or rows, that have a range of their own."""
        return self.count // self.together

    def lanes(self, simd: Simd) -> int:
        """Lanes of the vectors that the range of a row is found in."""
        lanes = simd.lanes("float32")
        most = simd.vector_registers // 4  # two sums and an element each
        return lanes * min(most, 1 << max(self.length // lanes, 1).bit_length() - 1)

    def halves(self, simd: Simd) -> Sequence[int]:
        """Lanes that are left each time that two halves of a vector have become one."""
        lanes = self.lanes(simd)
        return [lanes >> level for level in range(1, lanes.bit_length())]


def dynamic_bytes(workload: Conv2dWorkload) -> int:
    """Bytes of workspace that the int8 and their steps take."""
    if not workload.is_dynamic:
        return 0
    rows = _Rows.of(workload)
    steps, codes = rows.ranges * len(STEPS) * FLOAT_BYTES, rows.count * rows.length
    if Rule.of(workload).by_row:
        return align(codes) + steps
    return align(codes) + align(2 * rows.count * FLOAT_BYTES) + steps


def first_stages(workload: Conv2dWorkload) -> int:
    """Stages before a product."""
    if not workload.is_dynamic:
        return 0
    return 1 if Rule.of(workload).by_row else 3


def with_quantised_image(
    workload: Conv2dWorkload, simd: Simd, product: s_tir.Schedule
) -> s_tir.Schedule:
    """The kernel of ``product``, whose stages are counted from :func:`first_stages` on."""
    return join(_quantisation(workload, simd), product) if workload.is_dynamic else product


def _quantisation(workload: Conv2dWorkload, simd: Simd) -> s_tir.Schedule:
    """Block ``Q``, the int8 of argument ``X``, and block ``STEPS``."""
    batch, height, width, channels = workload.input_shape
    image = te.placeholder((batch, height, width * channels), workload.dtype, name="X")
    schedule = s_tir.Schedule(te.create_prim_func([image, _define(workload, simd, image)]))
    is_by_row, rows = Rule.of(workload).by_row, _Rows.of(workload)
    (_by_row if is_by_row else _by_image)(schedule, rows, simd)
    return schedule


def _define(workload: Conv2dWorkload, simd: Simd, image: te.Tensor) -> te.Tensor:
    rows, rule = _Rows.of(workload), Rule.of(workload)
    height = workload.in_height

    def element(row: Expr, c: Expr) -> Expr:
        if rule.by_row:
            return image(0, 0, row * rows.length + c)
        return image(row // height, row % height, c)

    largest = _largest(rows, element, rows.lanes(simd), rows.halves(simd))
    steps = _steps(largest if rule.by_row else _of_images(rows, largest), rule)
    added = rule.rounded_elements(simd, rows.together * rows.length)

    def code(n: Expr, h: Expr, c: Expr) -> Expr:
        place = c // rows.length if rule.by_row else n
        inside = c % rows.length if rule.by_row else h * rows.length + c
        value = rounded(image(n, h, c) * steps(place, STEPS.index("factor")))
        zero = tirx.Cast("int32", steps(place, STEPS.index("zero")))
        return _rounded(rule, value, zero, inside, added, rows.together * rows.length)

    return te.compute(image.shape, code, name="Q")


def _rounded(rule: Rule, value: Expr, zero: Expr, place: Expr, added: int, size: int) -> Expr:
    """The int8 of element ``place`` of ``size``, of which so many are ``added`` one half to."""
    least, most = tirx.const(rule.least, "int32"), tirx.const(127, "int32")
    if rule.rounding == "even":
        return requantised(value, zero, least, most, "int8")
    whole = nearest(value)
    if added:  # and truncated, which is exact with what is just below one half
        half = tirx.const(BELOW_HALF, "float32")
        if added == size:
            half = tirx.const(0.5, "float32")
        else:
            half = tirx.Select(comes_before(place, added), tirx.const(0.5, "float32"), half)
        value = value + tirx.Select(value < tirx.const(0.0, "float32"), -half, half)
        whole = tirx.Cast("int32", value)
    return narrowed(whole, zero, least, most, "int8")


def _reducer() -> Any:
    return te.comm_reducer(
        lambda a, b: at_least(b, a), lambda dtype: tirx.const(0, dtype), name="largest"
    )


def _largest(
    rows: _Rows, element: Callable[[Expr, Expr], Expr], lanes: int, halves: Sequence[int]
) -> te.Tensor:
    """The largest element of each row, of either sign: shape ``(rows, 2, 1)``."""
    step = te.reduce_axis((0, -(-rows.length // lanes)), name="step")

    def of_row(row: Expr, side: Expr, lane: Expr) -> Expr:
        c = step * lanes + lane
        value = element(row, c)
        value = tirx.Select(side == 0, -value, value)
        if rows.length % lanes:
            value = tirx.if_then_else(c < rows.length, value, tirx.const(0.0, "float32"))
        return _reducer()(value, axis=step)

    spans = te.compute((rows.count, 2, lanes), of_row, name="SPAN")
    for half in halves:
        spans = _larger_half(spans, half)
    return spans


def _of_images(rows: _Rows, spans: te.Tensor) -> te.Tensor:
    """Block ``ALL``: the largest element of each image."""
    row = te.reduce_axis((0, rows.together), name="row")
    return te.compute(
        (rows.ranges, 2, 1),
        lambda i, side, one: _reducer()(spans(i * rows.together + row, side, one), axis=row),
        name="ALL",
    )


def _larger_half(spans: te.Tensor, half: int) -> te.Tensor:
    """Block ``SPAN<half>``."""
    return te.compute(
        (*spans.shape[:2], half),
        lambda i, side, lane: at_least(spans(i, side, lane), spans(i, side, lane + half)),
        name=f"SPAN{half}",
    )


def _steps(spans: te.Tensor, rule: Rule) -> te.Tensor:
    def value(i: Expr, kind: Expr) -> Expr:
        steps = rule.steps(-spans(i, 0, 0), spans(i, 1, 0))
        rest = tirx.Select(kind == STEPS.index("zero"), steps.zero, steps.scale)
        return tirx.Select(kind == 0, steps.factor, rest)

    return te.compute((spans.shape[0], len(STEPS)), value, name="STEPS")


def _by_image(schedule: s_tir.Schedule, rows: _Rows, simd: Simd) -> None:
    row, side, one = schedule.get_loops(schedule.get_sblock("SPAN1"))
    mark_stage(schedule, row, 0)
    unroll(schedule, (side, one))
    _find_range(schedule, rows, simd, row)
    image, kind = schedule.get_loops(schedule.get_sblock("STEPS"))
    mark_stage(schedule, image, 1)
    schedule.unroll(kind)
    everywhere = schedule.get_sblock("ALL")
    schedule.compute_at(everywhere, image, preserve_unit_loops=True)
    schedule.set_scope(everywhere, 0, "local")
    image, row, c = schedule.get_loops(schedule.get_sblock("Q"))
    mark_stage(schedule, schedule.fuse(image, row), 2)
    _quantise(schedule, rows, simd, c)


def _by_row(schedule: s_tir.Schedule, rows: _Rows, simd: Simd) -> None:
    *_, c = schedule.get_loops(schedule.get_sblock("Q"))
    row, c = schedule.split(c, [rows.count, None])
    mark_stage(schedule, row, 0)
    schedule.compute_at(schedule.get_sblock("STEPS"), row, preserve_unit_loops=True)
    schedule.unroll(schedule.get_loops(schedule.get_sblock("STEPS"))[-1])
    last = schedule.get_sblock("SPAN1")
    schedule.compute_at(last, row, preserve_unit_loops=True)
    schedule.set_scope(last, 0, "local")
    unroll(schedule, schedule.get_loops(last)[-2:])
    _find_range(schedule, rows, simd, row)
    _quantise(schedule, rows, simd, c)


def _find_range(schedule: s_tir.Schedule, rows: _Rows, simd: Simd, row: Any) -> None:
    """Vectors of the largest elements, and of these the largest, in each step of ``row``."""
    for half in reversed(rows.halves(simd)[:-1]):
        block = schedule.get_sblock(f"SPAN{half}")
        schedule.compute_at(block, row, preserve_unit_loops=True)
        schedule.set_scope(block, 0, "local")
        straighten(schedule, *schedule.get_loops(block)[-2:])
    found = schedule.get_sblock("SPAN")
    schedule.compute_at(found, row, preserve_unit_loops=True)
    schedule.set_scope(found, 0, "local")
    side, lane, step = schedule.get_loops(found)[-3:]
    vector, lane = schedule.split(lane, [None, simd.lanes("float32")])
    schedule.reorder(step, vector, side, lane)
    cut_tails(schedule, (step, vector, lane), rows.length, rows.lanes(simd))
    straighten(schedule, vector, side, lane)
    loops = schedule.get_loops(schedule.decompose_reduction(found, step))
    straighten(schedule, *loops[-3:])


def _quantise(schedule: s_tir.Schedule, rows: _Rows, simd: Simd, c: Any) -> None:
    lanes = min(max(CODES, simd.vector_bytes), 1 << rows.length.bit_length() - 1)
    vector, lane = schedule.split(c, [None, lanes])
    cut_tails(schedule, (vector, lane), rows.length, lanes)
    schedule.vectorize(lane)
