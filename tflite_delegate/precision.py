"""What layers of floats are computed in: float32, or float16 on processors that have it.

In float16, kernels read and write tensors of float16 and multiply eight numbers at a time, four of
float32. Weights are rounded when they are packed; sums are float16 too, as XNNPACK's are. Tensors
between such layers are float16. One that the model's caller or another operator writes or reads is
float32, and copied into the workspace before a layer, or out of it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
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
    layers = tuple(map(_in_half, model.layers))
    between = _between(model, layers)
    sizes = {t: size // 2 if t in between else size for t, size in model.sizes.items()}
    layers = tuple(_with_copies(layer, between) for layer in layers)
    return replace(model, layers=layers, others=others, sizes=sizes)


def _in_half(layer: Layer) -> Layer:
    """Transposed convolutions stay float32: what they spread over the output is."""
    single = layer.workload
    if single is None or single.dtype != "float32" or layer.staged_bytes:
        return layer
    if single.weight_dtype not in ("float32", "float16"):
        return layer
    half = replace(single, dtype="float16")
    return replace(layer, workload=half, geometry=describe(layer.kind, half))


def _is_half(layer: Layer) -> bool:
    return layer.workload is not None and layer.workload.dtype == "float16"


def _between(model: Model, layers: Sequence[Layer]) -> Set[int]:
    """Tensors that a layer of float16 computes and nothing but other such layers read.

    Delegates keep them in float16 (csrc/claim/halving.c finds the same).
    """
    layer_of = {node: layer.index for layer in layers if _is_half(layer) for node in layer.nodes}
    writers = {
        tensor: layer_of[step.index]
        for step in model.steps
        if step.index in layer_of
        for tensor in step.outputs
        if tensor not in model.outputs
    }
    others = {
        tensor
        for step in model.steps
        for tensor in step.inputs
        if layer_of.get(step.index) in (None, writers.get(tensor))
    }
    return writers.keys() - others


def _with_copies(layer: Layer, between: Set[int]) -> Layer:
    """``layer`` with the bytes of its copies of tensors that are float32."""
    if not _is_half(layer):
        return layer
    assert layer.workload is not None, "it has a type"
    image = layer.workload.with_batch(1)
    tensors = [(layer.input, image.input_bytes)]
    tensors += [(layer.residual, image.output_bytes)] * image.residual
    tensors += [(layer.output, image.output_bytes)]
    copied = tuple(size for tensor, size in tensors if tensor not in between)
    return replace(layer, copied_bytes=copied)
