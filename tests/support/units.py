"""Layers with the nodes around them that one kernel computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from tests.support.kernels import error_bound
from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, Dense, ModelWriter

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """A layer, a PAD in front of it, and behind it an activation, an ADD and another activation.

    Parameters
    ----------
    layer : Conv or Dense
        The node in the middle.
    pads : (top, bottom, left, right), optional
        Of the PAD.
    activation, output_activation : str, optional
        Operators behind the layer and behind the ADD, as in the schema; or SWISH, which is two.
    residual : str, optional
        The fused activation of the ADD; there is none by default.
    """

    layer: Conv | Dense
    pads: tuple[int, int, int, int] | None = None
    activation: str | None = None
    residual: str | None = None
    output_activation: str | None = None

    @property
    def nodes(self) -> int:
        """How many the unit has."""
        parts = (self.pads, self.activation, self.residual, self.output_activation)
        return 1 + sum(part is not None for part in parts) + parts.count("SWISH")

    def workload(self, shape: Sequence[int]) -> Conv2dWorkload:
        """What all of it computes of an input."""
        workload = self.layer.workload(self._padded(shape))
        if self.pads is not None:
            top, bottom, left, right = self.pads
            workload = replace(
                workload,
                in_height=shape[1],
                in_width=shape[2],
                pad_top=top,
                pad_bottom=bottom,
                pad_left=left,
                pad_right=right,
            )
        if self.activation is not None:
            workload = replace(workload, activation=self.activation.lower())
        if self.residual is not None:
            last = (self.output_activation or self.residual).lower()
            workload = replace(workload, residual=True, output_activation=last)
        return workload

    def output_shape(self, shape: Sequence[int]) -> Shape:
        """Of the output tensor."""
        if isinstance(self.layer, Dense):
            return self.layer.output_shape(shape)
        return self.layer.workload(self._padded(shape)).output_shape

    def add(self, writer: ModelWriter, x: int, shape: Shape, r: int | None = None) -> int:
        """Write the nodes, with ``r`` as the other operand of the ADD; the output."""
        if self.pads is not None:
            x, shape = writer.pad(x, shape, self.pads)
        if isinstance(self.layer, Dense):
            y, shape = writer.dense(x, shape, self.layer)
        else:
            y, shape = writer.conv(x, shape, self.layer)
        if self.activation is not None:
            y = _activated(writer, self.activation, y, shape)
        if self.residual is not None:
            assert r is not None
            y = writer.node("ADD", [r, y], shape, fusedActivationFunction=self.residual)
        if self.output_activation is not None:
            y = _activated(writer, self.output_activation, y, shape)
        return y

    def check(
        self, x: np.ndarray, r: np.ndarray | None, y: np.ndarray, simd: Simd, algorithm: str
    ) -> None:
        """Fail unless ``y`` is within the error bound of what ``algorithm`` computes."""
        assert y.shape == self.output_shape(x.shape)
        workload = self.workload(x.shape)
        weights, bias = self.layer.constants(workload.in_channels)
        weights = weights.reshape(workload.weight_shape)
        x = x.reshape(workload.input_shape)
        residual = None if r is None else r.reshape(workload.output_shape)
        expected, direct = conv2d(workload, x, weights, bias, residual)
        plan = plan_kernel(workload.with_batch(1).of_one_kernel(), simd, algorithm)
        bound = error_bound(plan, workload, x, weights, bias, direct, residual)
        assert np.all(abs(y.reshape(expected.shape) - expected) <= bound), workload.describe()

    def _padded(self, shape: Sequence[int]) -> Shape:
        if self.pads is None:
            return tuple(shape)
        top, bottom, left, right = self.pads
        batch, height, width, channels = shape
        return (batch, height + top + bottom, width + left + right, channels)


def _activated(writer: ModelWriter, activation: str, x: int, shape: Shape) -> int:
    if activation == "SWISH":
        return writer.node("MUL", [x, writer.node("LOGISTIC", [x], shape)], shape)
    return writer.node(activation, [x], shape)
