"""The image of a hybrid layer as int8: the stages of a kernel before its product.

Of an image, these are its range row by row (block ``ENDS``), what follows from it (``STEPS``), and
its int8 (``Q``). Of a matrix, whose rows have ranges of their own, one stage does all of that, some
rows at a time.

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
from schedules.lower.exact import largest, nearest, rounded
from schedules.lower.integers import narrowed, requantised
from schedules.lower.joined import join
from schedules.lower.masked_loops import mark_masked
from schedules.lower.memory import align
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd

#: So many elements at least become int8 together.
CODES = 32
FLOAT_BYTES = 4
#: Blocks that find the ends of a row.
FIRST, SECOND = "FIRST", "SECOND"
#: Words that become one at last.
LAST = 4


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
        most = simd.vector_registers // 4  # sums, and as many elements
        return lanes * min(most, 1 << max(self.length // lanes, 1).bit_length() - 1)


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

    ends = _ends(rows, element, rows.lanes(simd))
    steps = _steps(ends if rule.by_row else _of_images(rows, ends), rule)
    added = rule.rounded_elements(simd, rows.together * rows.length)

    def code(n: Expr, h: Expr, c: Expr) -> Expr:
        place = c // rows.length if rule.by_row else n
        inside = c % rows.length if rule.by_row else h * rows.length + c
        value = rounded(image(n, h, c) * steps(STEPS.index("factor"), place))
        zero = tirx.reinterpret("int32", steps(STEPS.index("zero"), place))
        size = rows.together * rows.length
        return _rounded(rule, simd, value, zero, inside, added, size)

    return te.compute(image.shape, code, name="Q")


def _rounded(
    rule: Rule, simd: Simd, value: Expr, zero: Expr, place: Expr, added: int, size: int
) -> Expr:
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
    if simd.arch == "aarch64":
        # They fit, unless a step is so small that nothing comes of it; then nothing saturates.
        whole = tirx.Cast("int16", whole)
    return narrowed(whole, zero, least, most, "int8")


def _reducer(larger: Callable[[Expr, Expr], Expr]) -> Any:
    return te.comm_reducer(
        lambda a, b: larger(a, b), lambda dtype: tirx.const(0, dtype), name="largest"
    )


def _ends(rows: _Rows, element: Callable[[Expr, Expr], Expr], lanes: int) -> te.Tensor:
    """Block ``ENDS``, the range of each row: the least element and the largest, zero among them.

    Of floats as unsigned words, the largest is that of the row if none is negative, as behind a
    ReLU; else the least element. Only then the largest is looked for too, as that of signed words.
    """

    def unsigned(row: Expr, c: Expr) -> Expr:
        return tirx.reinterpret("uint32", element(row, c))

    first = _largest(rows, unsigned, lanes, FIRST)

    def is_signed(row: Expr) -> Expr:
        return tirx.reinterpret("int32", first(row, 0)) < 0

    def signed(row: Expr, c: Expr) -> Expr:
        value = tirx.reinterpret("int32", element(row, c))
        return tirx.if_then_else(is_signed(row), value, tirx.const(0, "int32"))

    second = _largest(rows, signed, lanes, SECOND)

    def end(side: Expr, row: Expr) -> Expr:
        low = tirx.reinterpret("int32", first(row, 0))
        high = tirx.Select(is_signed(row), second(row, 0), low)
        least = low & (low >> tirx.const(31, "int32"))  # zero if there is no sign
        ends = (tirx.reinterpret("float32", end) for end in (least, high))
        return tirx.Select(side == 0, next(ends), next(ends))

    return te.compute((2, rows.count), end, name="ENDS")


def _largest(
    rows: _Rows, element: Callable[[Expr, Expr], Expr], lanes: int, name: str
) -> te.Tensor:
    """The largest word of each row, zero at least: block ``name``, and these of :func:`_halves`."""
    step, reducer = te.reduce_axis((0, -(-rows.length // lanes)), name="step"), _reducer(tirx.max)

    def of_row(row: Expr, lane: Expr) -> Expr:
        c = step * lanes + lane
        value = element(row, c)
        if rows.length % lanes:
            value = tirx.if_then_else(c < rows.length, value, tirx.const(0, value.ty.dtype))
        return reducer(value, axis=step)

    found = te.compute((rows.count, lanes), of_row, name=name)
    for half, block in _halves(lanes, name):
        found = _larger_half(found, half, block)
    return te.compute(
        (rows.count, 1),
        lambda row, _: largest(*(found(row, lane) for lane in range(LAST))),
        name=f"{name}1",
    )


def _halves(lanes: int, name: str) -> Sequence[tuple[int, str]]:
    """Lanes that are left each time that two halves have become one, and the block."""
    halves = (lanes >> level for level in range(1, lanes.bit_length()))
    return [(half, f"{name}{half}") for half in halves if half >= LAST]


def _of_images(rows: _Rows, ends: te.Tensor) -> te.Tensor:
    """Block ``ALL``: the range of each image, the sign of its least element changed."""
    row = te.reduce_axis((0, rows.together), name="row")
    reducer = _reducer(lambda a, b: at_least(b, a))

    def end(side: Expr, i: Expr) -> Expr:
        of_row = ends(side, i * rows.together + row)
        return reducer(tirx.Select(side == 0, -of_row, of_row), axis=row)

    return te.compute((2, rows.ranges), end, name="ALL")


def _larger_half(found: te.Tensor, half: int, name: str) -> te.Tensor:
    return te.compute(
        (found.shape[0], half),
        lambda row, lane: tirx.max(found(row, lane), found(row, lane + half)),
        name=name,
    )


def _steps(ends: te.Tensor, rule: Rule) -> te.Tensor:
    def value(kind: Expr, i: Expr) -> Expr:
        least = ends(0, i) if rule.by_row else -ends(0, i)
        steps, zero = rule.steps(least, ends(1, i)), tirx.const(0.0, "float32")
        if not isinstance(steps.zero, tirx.IntImm):  # whose bits TVM does not take
            zero = tirx.reinterpret("float32", steps.zero)
        rest = tirx.Select(kind == STEPS.index("zero"), zero, steps.scale)
        return tirx.Select(kind == 0, steps.factor, rest)

    return te.compute((len(STEPS), ends.shape[1]), value, name="STEPS")


def _by_image(schedule: s_tir.Schedule, rows: _Rows, simd: Simd) -> None:
    side, row = schedule.get_loops(schedule.get_sblock("ENDS"))
    schedule.reorder(row, side)
    mark_stage(schedule, row, 0)
    schedule.unroll(side)
    _find_ends(schedule, rows, simd, row)
    kind, image = schedule.get_loops(schedule.get_sblock("STEPS"))
    schedule.reorder(image, kind)
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
    # What follows from the ranges of several rows is computed at once.
    together = min(rows.count, simd.lanes("float32"))
    some, row = schedule.split(row, [None, together])
    cut_tails(schedule, (some, row), rows.count, together)
    mark_stage(schedule, some, 0)
    steps = schedule.get_sblock("STEPS")
    schedule.compute_at(steps, some, preserve_unit_loops=True)
    straighten(schedule, *schedule.get_loops(steps)[-2:])
    ends = schedule.get_sblock("ENDS")
    schedule.compute_at(ends, some, preserve_unit_loops=True)
    schedule.set_scope(ends, 0, "local")
    side, row = schedule.get_loops(ends)[-2:]
    schedule.reorder(row, side)
    schedule.unroll(side)
    _find_ends(schedule, rows, simd, row)
    _quantise(schedule, rows, simd, c)


def _find_ends(schedule: s_tir.Schedule, rows: _Rows, simd: Simd, row: Any) -> None:
    """What block ``ENDS`` reads, in each step of ``row``."""
    lanes = rows.lanes(simd)
    for name in (SECOND, FIRST):
        last, loop = schedule.get_sblock(f"{name}1"), row
        schedule.compute_at(last, row, preserve_unit_loops=True)
        schedule.set_scope(last, 0, "local")
        if name == SECOND:  # left out where no element is negative
            (*_, loop) = schedule.get_loops(last)
            mark_masked(schedule, loop)
        for _, block in reversed(_halves(lanes, name)):
            half = schedule.get_sblock(block)
            schedule.compute_at(half, loop, preserve_unit_loops=True)
            schedule.set_scope(half, 0, "local")
            straighten(schedule, schedule.get_loops(half)[-1])
        _find_largest(schedule, rows, simd, schedule.get_sblock(name), loop)


def _find_largest(schedule: s_tir.Schedule, rows: _Rows, simd: Simd, found: Any, loop: Any) -> None:
    """Vectors of the largest words, in each step of ``loop``."""
    schedule.compute_at(found, loop, preserve_unit_loops=True)
    schedule.set_scope(found, 0, "local")
    lane, step = schedule.get_loops(found)[-2:]
    vector, lane = schedule.split(lane, [None, simd.lanes("float32")])
    schedule.reorder(step, vector, lane)
    cut_tails(schedule, (step, vector, lane), rows.length, rows.lanes(simd))
    straighten(schedule, vector, lane)
    loops = schedule.get_loops(schedule.decompose_reduction(found, step))
    straighten(schedule, *loops[-2:])


def _quantise(schedule: s_tir.Schedule, rows: _Rows, simd: Simd, c: Any) -> None:
    lanes = min(max(CODES, simd.vector_bytes), 1 << rows.length.bit_length() - 1)
    vector, lane = schedule.split(c, [None, lanes])
    cut_tails(schedule, (vector, lane), rows.length, lanes)
    schedule.vectorize(lane)
