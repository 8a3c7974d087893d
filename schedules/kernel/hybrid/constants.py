"""What a kernel of a hybrid layer reads beside image and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import te, tirx
from tvm.tirx import Expr

from schedules.kernel.hybrid.rules import Rule, comes_before
from schedules.kernel.packing import PackedWeights
from schedules.kernel.quantised.constants import Constants
from schedules.layer.workload import Conv2dWorkload

#: Of an image or row: what multiplies its elements, its step, and its zero point. What makes int8
#: of it reads the first and the last: TVM computes a range of what is read. All are float32 words,
#: the last of which holds the bits of an int32.
STEPS = ("factor", "scale", "zero")


@dataclass(frozen=True)
class DynamicConstants(Constants):
    """The bias and the weights' scales as floats, and the sums of each output channel's weights.

    ``sums`` have the sign changed: that many times the zero point are added to sums of products.
    ``steps`` are those of the images or rows, of shape ``(STEPS, …)``.
    """

    sums: te.Tensor | None = None
    workload: Conv2dWorkload | None = None
    steps: te.Tensor | None = None
    offset: int = 0

    @classmethod
    def of(
        cls, workload: Conv2dWorkload, packed: PackedWeights, layer: str = ""
    ) -> DynamicConstants:
        """The kernel's arguments ``B``, ``Bscale``, ``Bsums``, and ``STEPS`` of its image."""
        shape, rows = (packed.bias_elements,), workload.batch
        if Rule.of(workload).by_row:
            rows *= workload.in_height * workload.in_width
        return cls(
            te.placeholder(shape, "float32", name=f"B{layer}"),
            scale=te.placeholder(shape, "float32", name=f"Bscale{layer}"),
            sums=te.placeholder(shape, "int32", name=f"Bsums{layer}"),
            workload=workload,
            steps=te.placeholder((len(STEPS), rows), "float32", name="STEPS"),
        )

    @property
    def tensors(self) -> list[te.Tensor]:
        """In the order of a kernel's arguments, and the steps."""
        tensors = (self.bias, self.scale, self.sums, self.steps)
        return [tensor for tensor in tensors if tensor is not None]

    def with_offset(self, offset: int) -> DynamicConstants:
        """For sums of products with an image to which ``offset`` has been added."""
        return replace(self, offset=offset)

    def step(self, name: str, place: Expr) -> Expr:
        """One of :data:`STEPS` of an image or a row."""
        assert self.steps is not None, "no image is quantised yet"
        return self.steps(STEPS.index(name), place)

    def zero(self, place: Expr) -> Expr:
        """The zero point of an image or a row, an int32."""
        return tirx.reinterpret("int32", self.step("zero", place))

    def zero_point(self, image: Expr) -> Expr:
        """The zero point of an image, an int8."""
        return tirx.Cast("int8", self.zero(image))

    def zero_word(self, image: Expr) -> Expr:
        """A word of zero points."""
        return (self.zero(image) & tirx.const(255, "int32")) * tirx.const(0x01010101, "int32")

    def dequantise(self, total: Expr, indices: Sequence[Expr], is_less: bool = False) -> Expr:
        """The real number for a sum of products, with its bias.

        The sum may have begun with :func:`less_zero_points`.
        """
        assert self.workload is not None and self.scale is not None and self.sums is not None
        rule, channel = Rule.of(self.workload), indices[-1]
        place = indices[2] if rule.by_row else indices[0]
        if not is_less:
            zero = self.zero(place) + tirx.const(self.offset, "int32")
            total = total + zero * self.sums(channel)
        total = tirx.Cast("float32", total)
        whole = self.workload.out_channels // 4 * 4
        four = True if whole == self.workload.out_channels else comes_before(channel, whole)
        scale = self.step("scale", place)
        return rule.dequantise(total, scale, self.scale(channel), self.bias(channel), four)


def less_zero_points(given: Mapping[str, Any], place: Expr, channel: Expr, offset: int = 0) -> Expr:
    """What sums of products with an image or row begin with, of a function's arguments by name.

    That is an addition less for each of them. ``offset`` is what is added to elements of the image.
    """
    zero = tirx.reinterpret("int32", given["STEPS"][STEPS.index("zero"), place])
    return (zero + tirx.const(offset, "int32")) * given["Bsums"][channel]


def zeros_taken_off(
    function: tirx.PrimFunc, constants: DynamicConstants, pixels: int, columns: int
) -> Callable[..., Expr]:
    """:func:`less_zero_points` for the indices of sums.

    Tiles make up ``columns`` of a row's ``pixels``.
    """
    assert constants.workload is not None
    is_by_row = Rule.of(constants.workload).by_row
    given = {str(buffer.name): buffer for buffer in function.params}

    def start(image: Expr, _row: Expr, pixel: Expr, channel: Expr) -> Expr:
        place = pixel if is_by_row else image
        value = less_zero_points(given, place, channel, constants.offset)
        if not is_by_row or columns == pixels:
            return value
        return tirx.if_then_else(pixel < pixels, value, tirx.const(0, "int32"))

    return start
