"""How tensors of codes are quantised, as far as kernels of integers go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from schedules.kernel.quantised.quantisation import activation_range
from tflite_delegate.importer.conversions.operation import Operation, Quantization
from tflite_delegate.read.graph import ACTIVATIONS

#: The types that operators of this folder compute.
TYPES = ("int8", "uint8")


@dataclass(frozen=True)
class Codes:
    """Elements of a type; the real values are ``(codes - zero) * scale``, a float32."""

    dtype: str
    scale: np.float32
    zero: int

    @classmethod
    def of_input(cls, operation: Operation, position: int = 0) -> Codes | None:
        """``None`` if the tensor is not quantised, or not by one scale."""
        quantization = operation.input_quantization(position)
        return cls._of(operation.input_type(position), quantization)

    @classmethod
    def of_output(cls, operation: Operation, position: int = 0) -> Codes | None:
        """Likewise."""
        quantization = operation.output_quantization(position)
        return cls._of(operation.output_type(position), quantization)

    @classmethod
    def _of(cls, dtype: str, quantization: Quantization | None) -> Codes | None:
        if quantization is None or not quantization.is_per_tensor or dtype not in TYPES:
            return None
        scale, zero = np.float32(quantization.scale.ravel()[0]), quantization.zero_point.ravel()[0]
        return cls(dtype, scale, int(zero)) if math.isfinite(scale) and scale > 0 else None

    @property
    def least(self) -> int:
        """The least that the type has."""
        return int(np.iinfo(self.dtype).min)

    @property
    def most(self) -> int:
        """The largest that the type has."""
        return int(np.iinfo(self.dtype).max)

    @property
    def all(self) -> NDArray[np.int64]:
        """All codes in order."""
        return np.arange(self.least, self.most + 1)

    def clamp(self, operation: Operation, as_xnnpack: bool) -> tuple[int, int]:
        """The least and the largest code of a node's fused activation."""
        activation = ACTIVATIONS[operation.options["fusedActivationFunction"]]
        return activation_range(activation, self.dtype, float(self.scale), self.zero, as_xnnpack)

    def tflite_range(self, activation: str) -> tuple[int, int]:
        """That of an activation as TFLite's own kernels round it: ties go away from zero."""
        return activation_range(activation, self.dtype, float(self.scale), self.zero, False)


def round_away(values: NDArray[Any]) -> NDArray[Any]:
    """The nearest integers, ties away from zero, exact for all floats."""
    whole = np.trunc(values)
    return np.where(np.abs(values - whole) >= 0.5, whole + np.sign(values), whole)


def clamped(value: Any, bounds: tuple[int, int], dtype: str) -> Any:
    """An integer expression as a code between two."""
    least, most = (tirx.const(bound, value.ty.dtype) for bound in bounds)
    return tirx.Cast(dtype, tirx.max(tirx.min(value, most), least))


def integer(code: Any, bits: int = 32) -> Any:
    """A code as an integer of more bits."""
    return tirx.Cast(f"int{bits}", code)


def nearest(value: Any) -> Any:
    """A float32 expression as the nearest int32, ties to even; it must be within its range."""
    return tirx.Cast("int32", tirx.nearbyint(value))


def real(value: Any) -> Any:
    """An integer expression, or a number, as float32."""
    if isinstance(value, int | float | np.floating):
        return tirx.const(float(value), "float32")
    return tirx.Cast("float32", value)
