"""What layers of floats are computed in: float32, or float16 on processors that have it.

In float16, kernels read and write tensors of float16 and multiply eight numbers at a time, four of
float32. Weights are rounded when they are packed; sums are float16 too, as XNNPACK's are. A tensor
that is float32 is copied, into the workspace, before a layer or behind it.
"""

from __future__ import annotations

from dataclasses import replace

from schedules.errors import LeanconvError
from schedules.layer.network import Layer, describe
from schedules.target.simd import Simd
from tflite_delegate.read.model import Model

FP32, FP16 = "fp32", "fp16"
PRECISIONS = (FP32, FP16)
DEFAULT = FP32


def with_precision(model: Model, precision: str, simd: Simd) -> Model:
    """``model`` whose layers of floats are computed in one of :data:`PRECISIONS`.

    Raises
    ------
    LeanconvError
        If the processor has no such arithmetic.
    """
    if precision == FP32:
        return model
    if not simd.computes_float16:
        raise LeanconvError(
            f"--precision fp16: {simd.name} has no arithmetic of float16 (Arm's +fullfp16)"
        )
    others = tuple(with_precision(other, precision, simd) for other in model.others)
    return replace(model, layers=tuple(map(_in_half, model.layers)), others=others)


def _in_half(layer: Layer) -> Layer:
    """Transposed convolutions stay float32: what they spread over the output is."""
    single = layer.workload
    if single is None or single.dtype != "float32" or layer.staged_bytes:
        return layer
    if single.weight_dtype not in ("float32", "float16"):
        return layer
    half = replace(single, dtype="float16")
    image = half.with_batch(1)
    tensors = (image.input_bytes, *[image.output_bytes] * (1 + half.residual))
    text = describe(layer.kind, half)
    return replace(layer, workload=half, geometry=text, copied_bytes=tensors)
