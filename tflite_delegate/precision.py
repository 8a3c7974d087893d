"""What layers of floats are computed in: float32, or float16 on processors that have it.

In float16, kernels read and write tensors of float16 and multiply eight numbers at a time, four of
float32. Weights are rounded when they are packed; sums are float16 too, as XNNPACK's are. Tensors
between such layers are float16, and so are those of the operators among them: these compute in
float16, too, or in float32 where they sum. A tensor that the model's caller or anything else writes
or reads is float32, and copied into the workspace before a layer, or out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from schedules.errors import LeanconvError
from schedules.layer.network import VOLUME, Chain, Layer, describe
from schedules.target.simd import Simd
from tflite_delegate.read.model import Model, Step
from tflite_delegate.read.supported import HALF_OPERATORS, between, half_constants

FP32, FP16 = "fp32", "fp16"
PRECISIONS = (FP32, FP16)


def with_precision(model: Model, precision: str | None, simd: Simd) -> Model:
    """``model`` whose layers of floats are computed in one of :data:`PRECISIONS`.

    By default in float16 where the processor can and the model's metadata lets it, as XNNPACK does.

    Raises
    ------
    LeanconvError
        If the processor has no such arithmetic.
    """
    if precision == FP16 and not simd.computes_float16:
        raise LeanconvError(
            f"--precision fp16: {simd.name} has no arithmetic of float16 (Arm's +fullfp16)"
        )
    if precision is None:
        precision = FP16 if model.allows_float16 and simd.computes_float16 else FP32
    others = tuple(with_precision(other, precision, simd) for other in model.others)
    layers = tuple(_computed_in(precision, simd, layer) for layer in model.layers)
    changed = {new.index for old, new in zip(model.layers, layers, strict=True) if new is not old}
    halves = _between(model, [layer for layer in layers if _is_half(layer, changed)])
    sizes = {t: size // 2 if t in halves else size for t, size in model.sizes.items()}
    layers = tuple(
        _with_copies(layer, halves) if layer.index in changed else layer for layer in layers
    )
    chains = tuple(chain for chain in model.chains if _is_of_one_type(layers, chain))
    return replace(model, layers=layers, others=others, sizes=sizes, chains=chains)


def _is_of_one_type(layers: Sequence[Layer], chain: Chain) -> bool:
    """Whether one kernel could compute a chain: it converts nothing between its layers."""
    return len({w.dtype for w in (layers[i].workload for i in chain) if w is not None}) == 1


def _computed_in(precision: str, simd: Simd, layer: Layer) -> Layer:
    """``layer`` in the type that it is computed in.

    Transposed convolutions stay float32: what they spread over the output is. So do those of
    volumes, and weights in Winograd's domain. Layers whose tensors
    are float16 in the model are computed so where the processor can, whatever is asked for.
    """
    read = layer.workload
    if read is None or read.weight_dtype not in ("float32", "float16"):
        return layer
    if layer.kind == VOLUME or read.domain:
        return layer
    if read.dtype == "float16":
        dtype = "float16" if simd.computes_float16 else "float32"
    else:
        dtype = "float32" if precision == FP32 or layer.staged_bytes else "float16"
    if dtype == read.dtype:
        return layer
    workload = replace(read, dtype=dtype)
    return replace(layer, workload=workload, geometry=describe(layer.kind, workload))


def _is_half(layer: Layer, among: Set[int]) -> bool:
    is_half = layer.workload is not None and layer.workload.dtype == "float16"
    return is_half and layer.index in among


def _between(model: Model, layers: Sequence[Layer]) -> Set[int]:
    """Tensors that something of float16 computes and nothing but such reads: layers or operators.

    An operator is of float16 if all that it reads and writes is, but for constants. Delegates keep
    the tensors in float16 (csrc/claim/halving.c finds the same).
    """
    taken = [node for layer in model.layers if layer.workload for node in layer.nodes]
    operators = [
        step
        for step in between(model, taken)
        if step.code in HALF_OPERATORS and step.types <= {"float32"}
    ]
    units = {node: layer.index for layer in layers for node in layer.nodes}
    units |= {step.index: step.index for step in operators}
    constants = half_constants(model)
    while True:
        found = _private(model, units)
        left = [step for step in operators if not _is_among(step, found, constants)]
        if not left:
            return found
        operators = [step for step in operators if step not in left]
        for step in left:
            del units[step.index]


def _private(model: Model, units: Mapping[int, int]) -> Set[int]:
    """Tensors that one of the ``units`` of nodes computes and only others of these read."""
    writers = {
        tensor: units[step.index]
        for step in model.steps
        if step.index in units
        for tensor in step.outputs
        if tensor not in model.outputs
    }
    others = {
        tensor
        for step in model.steps
        for tensor in step.inputs
        if units.get(step.index) in (None, writers.get(tensor))
    }
    return writers.keys() - others


def _is_among(step: Step, halves: Set[int], constants: Set[int]) -> bool:
    """Whether an operator reads and writes nothing but ``halves``, and ``constants``."""
    return halves >= {*step.outputs, *step.inputs} - constants


def _with_copies(layer: Layer, halves: Set[int]) -> Layer:
    """``layer`` with the bytes of its copies of all tensors but those that are float16."""
    assert layer.workload is not None, "it has a type"
    image = layer.workload.with_batch(1)
    tensors = [(layer.input, image.input_bytes)]
    tensors += [(layer.residual, image.output_bytes)] * image.residual
    tensors += [(layer.output, image.output_bytes)]
    copied = tuple(size for tensor, size in tensors if tensor not in halves)
    return replace(layer, copied_bytes=copied)
