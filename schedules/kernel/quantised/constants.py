"""How sums of integers become elements again: rules by name.

A sum of int8 products stands for a real number in steps of ``s_x s_w``, the output counts in steps
of ``s_y``. What multiplies by the ratio and rounds differs between runtimes, and single steps grow
through a network; so each rule is computed exactly as by the runtime that it is named after:

``xnn_fp32``
    XNNPACK: the ratio as a float32, the product with the sum as float32 rounded half to even.

Bias, ratios, zero points and the range of the activation are data of a layer, not of its kernel:
all layers of one geometry share one. :data:`PARAMETERS` says what stands behind the arrays of one
element for each output channel.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import te, tirx
from tvm.tirx import Expr

from schedules.kernel.packing import PackedWeights
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.lower.integers import requantised

#: The int32 of a layer's parameter block: four input zero points in one word, the output's zero
#: point, the least and the largest element of the output.
PARAMETERS = ("zero_word", "zero", "low", "high")


def unsupported(workload: Conv2dWorkload) -> str | None:
    """``None``, or why no kernel computes a layer of integers."""
    if workload.dtype != "int8":
        return None
    if not workload.is_quantised:
        return "no rule says how its sums of integers are rounded"
    if workload.residual:
        return "a sum of two quantised tensors has a scale of its own"
    if workload.activation not in ACTIVATIONS:
        return f"{workload.activation} of integers is not linear"
    return None


@dataclass(frozen=True)
class Constants:
    """What a kernel reads beside image and weights: the bias, and of a quantised layer the rest."""

    bias: te.Tensor
    scale: te.Tensor | None = None
    parameters: te.Tensor | None = None

    @classmethod
    def of(cls, workload: Conv2dWorkload, packed: PackedWeights) -> Constants:
        """The kernel's arguments ``B``, and ``Bscale`` and ``Bparameters`` if it is quantised."""
        shape = (packed.bias_elements,)
        if not workload.is_quantised:
            return cls(te.placeholder(shape, workload.dtype, name="B"))
        return cls(
            te.placeholder(shape, "int32", name="B"),
            te.placeholder(shape, "float32", name="Bscale"),
            te.placeholder((len(PARAMETERS),), "int32", name="Bparameters"),
        )

    @property
    def tensors(self) -> list[te.Tensor]:
        """In the order of a kernel's arguments."""
        return [tensor for tensor in (self.bias, self.scale, self.parameters) if tensor is not None]

    def parameter(self, name: str) -> Expr:
        """One of :data:`PARAMETERS`."""
        assert self.parameters is not None, "floats have no parameters"
        return self.parameters[PARAMETERS.index(name)]

    def requantise(self, total: Expr, channel: Expr) -> Expr:
        """The output element for a finished sum with its bias."""
        assert self.scale is not None, "floats are not requantised"
        value = tirx.Cast("float32", total) * self.scale[channel]
        return requantised(value, *map(self.parameter, ("zero", "low", "high")))
