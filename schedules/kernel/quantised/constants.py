"""What kernels of quantised layers read beside image and weights, and what they compute with it.

Bias, ratios, zero points and the range of the activation are data of a layer, not of its kernel:
all layers of one geometry share one. :data:`PARAMETERS` says what stands behind the arrays of one
element for each output channel, and :mod:`schedules.layer.rounding` what these are.

The bias is less by the input's zero point times the sum of the channel's weights, so that the
image is multiplied as it is. So are weights of uint8, whose zero point is taken off in the end, as
often as :mod:`schedules.kernel.quantised.pixel_sums` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import te, tirx
from tvm.tirx import Expr

from schedules.kernel.packing import PackedWeights
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.lower.integers import narrowed, requantised, scaled

#: The int32 of a layer's parameter block: four input zero points in one word, the output's zero
#: point, the least and the largest element of the output, and the zero point of the weights as they
#: are packed. Those behind are of the sum with a residual, whose operand is that output then: see
#: :class:`schedules.kernel.quantised.sums.CodeSum`.
PARAMETERS = (
    "zero_word", "zero", "low", "high", "weight_zero",
    "factor", "residual_factor", "offset", "shift", "sum_zero", "sum_low", "sum_high",
)  # fmt: skip
#: Types of image and weights whose products are summed.
TYPES = ("int8", "uint8")
#: Channels that TFLite's vector loops compute at once.
VECTOR = 8


def unsupported(workload: Conv2dWorkload) -> str | None:
    """``None``, or why no kernel computes a layer of integers."""
    if workload.dtype not in TYPES:
        return None
    if not workload.is_quantised:
        return "no rule says how its sums of integers are rounded"
    if workload.residual and not adds_codes(workload.rounding):
        return f"sums of two quantised tensors are not computed as by {workload.rounding}"
    for activation in (workload.activation, workload.output_activation):
        if activation not in ACTIVATIONS:
            return f"{activation} of integers is not linear"
    return None


def adds_codes(rounding: str) -> bool:
    """Whether kernels by a rule add a residual: all that are XNNPACK's do, in one way."""
    return rounding.startswith("xnn")


@dataclass(frozen=True)
class Constants:
    """What a kernel reads beside image and weights: the bias, and of a quantised layer the rest.

    ``rounding`` is the rule of a quantised layer of type ``dtype``; ``scale`` has the scales of
    int8 weights that are multiplied as floats.
    """

    bias: te.Tensor
    ratios: tuple[te.Tensor, ...] = ()
    parameters: te.Tensor | None = None
    dtype: str = "float32"
    rounding: str = ""
    scale: te.Tensor | None = None

    @classmethod
    def of(cls, workload: Conv2dWorkload, packed: PackedWeights, layer: str = "") -> Constants:
        """The kernel's arguments ``B``, and ``Bratio0``, … and ``Bparameters`` if quantised.

        Of floats, int8 weights have ``Bscale``. ``layer`` tells those of one kernel's layers apart.
        """
        shape = (packed.bias_elements,)
        if not workload.is_quantised:
            bias = te.placeholder(shape, "float32", name=f"B{layer}")
            if not packed.has_scales:
                return cls(bias)
            return cls(bias, scale=te.placeholder(shape, "float32", name=f"Bscale{layer}"))
        return cls(
            te.placeholder(shape, "int32", name=f"B{layer}"),
            tuple(
                te.placeholder(shape, dtype, name=f"Bratio{layer}{number}")
                for number, dtype in enumerate(packed.ratios)
            ),
            te.placeholder((len(PARAMETERS),), "int32", name=f"Bparameters{layer}"),
            workload.dtype,
            workload.rounding,
        )

    def with_offset(self, offset: int) -> Constants:
        """For sums of products with an image to which ``offset`` has been added."""
        del offset  # the bias has it
        return self

    def unscaled(self, total: Expr, channel: Expr) -> Expr:
        """A sum of products with weights as they are stored, of floats."""
        return total if self.scale is None else total * self.scale[channel]

    @property
    def tensors(self) -> list[te.Tensor]:
        """In the order of a kernel's arguments."""
        others = (tensor for tensor in (self.scale, self.parameters) if tensor is not None)
        return [self.bias, *self.ratios, *others]

    def zero_point(self, image: Expr) -> Expr:
        """The zero point of an image, an element of it."""
        del image  # all of them have the same
        return self.parameter("zero_word").astype(self.dtype)

    def zero_word(self, image: Expr) -> Expr:
        """A word of zero points."""
        del image
        return self.parameter("zero_word")

    def parameter(self, name: str) -> Expr:
        """One of :data:`PARAMETERS`."""
        assert self.parameters is not None, "floats have no parameters"
        return self.parameters[PARAMETERS.index(name)]

    def requantise(self, total: Expr, channel: Expr, channels: int) -> Expr:
        """The output element for a finished sum with its bias, of one of so many ``channels``."""
        ratio = [tensor[channel] for tensor in self.ratios]
        zero, low, high = (self.parameter(name) for name in ("zero", "low", "high"))
        if self.rounding == "xnn_fp32":
            value = tirx.Cast("float32", total) * ratio[0]
            return requantised(value, zero, low, high, self.dtype)
        if self.rounding == "depthwise_int8":
            whole = channels // VECTOR * VECTOR
            value = scaled("double_up", total, *ratio)
            if whole < channels:
                value = tirx.Select(channel < whole, value, scaled("double", total, *ratio))
        else:
            value = scaled(self.rounding, total, *ratio)
        return narrowed(value, zero, low, high, self.dtype)

    def added(self, element: Expr, residual: Expr) -> Expr:
        """The output element for a finished ``element`` and another one, as XNNPACK adds them."""
        factor, other, offset, shift = (
            self.parameter(name) for name in ("factor", "residual_factor", "offset", "shift")
        )
        wide = tirx.Cast("int32", element) * factor + tirx.Cast("int32", residual) * other
        zero, low, high = (self.parameter(name) for name in ("sum_zero", "sum_low", "sum_high"))
        return narrowed((wide + offset) >> shift, zero, low, high, self.dtype)
