"""Pack the weights of kernels as the delegate would, into read-only data of its library.

A block for each layer or chain, as csrc/kernels/weights.c lays it out: for one group after another
the weights of all layers, then their biases, each on a cache line of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from schedules.kernel.packing import PackedWeights, pack, pack_bias
from schedules.layer.network import Chain
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from schedules.select.selection import Selection
from schedules.target.elf_object import write_object
from schedules.target.simd import Simd
from tflite_delegate.embedding.constants import LayerConstants, read_constants
from tflite_delegate.embedding.hashes import joined, sample_hash, whole_hash
from tflite_delegate.read.model import Model

#: The symbol of the data, and the object that defines it.
SYMBOL, OBJECT = "lc_embedded_weights", "embedded_weights.o"
#: See :func:`contents`.
Contents = tuple[Chain, tuple[PackedWeights, ...], int, int]
#: Behind what a call reads: the next one's begins on a cache line.
NOTHING = np.zeros(0, np.uint8)


@dataclass(frozen=True)
class Embedded:
    """Where the packed weights of a kernel are in the data, and what their model's hash to."""

    offset: int
    bytes: int
    sample_hash: int
    whole_hash: int


def contents(chain: Chain, plan: Plan) -> Contents:
    """What tells the data of one unit from others: plans that pack weights alike share them."""
    return chain, plan.parts, plan.calls, plan.layers[-1].out_channels


def embed(
    folder: Path, model: Model, selections: Sequence[Selection]
) -> Mapping[Contents, Embedded]:
    """Write :data:`OBJECT` into ``folder`` with what the plans of a model's first graph embed.

    Returns where it is.

    Raises
    ------
    LeanconvError
        If the model cannot be read.
    """
    units = [(chain, each) for each in selections for chain in sorted(each.embedded)]
    if not units:
        return {}
    data = folder / "embedded_weights.bin"
    found: dict[Contents, Embedded] = {}
    with data.open("wb") as out:
        for chain, selection in units:
            plan = selection.units[chain].plan
            if contents(chain, plan) not in found:
                layers = [selection.layers[position].layer for position in chain]
                constants = read_constants(model, layers)
                constants = [
                    all_.of_filters(layer.out_channels * plan.calls)
                    for all_, layer in zip(constants, plan.layers, strict=True)
                ]
                found[contents(chain, plan)] = _write(out, plan, constants, selection.simd)
    write_object(folder / OBJECT, SYMBOL, data, selections[0].simd)
    data.unlink()
    return found


def _write(out: BinaryIO, plan: Plan, constants: Sequence[LayerConstants], simd: Simd) -> Embedded:
    out.write(bytes(align(out.tell()) - out.tell()))
    start = out.tell()
    for call in range(plan.calls):
        _write_aligned(out, start, [*_of_call(plan, constants, call, simd), NOTHING])
    hashes = (joined(_hashes(constants, of)) for of in (sample_hash, whole_hash))
    return Embedded(start, out.tell() - start, *hashes)


def _hashes(constants: Sequence[LayerConstants], of: Callable[[np.ndarray], int]) -> Iterable[int]:
    for layer in constants:
        yield of(layer.stored)
        yield from map(whole_hash, layer.exact)


def _write_aligned(out: BinaryIO, start: int, arrays: Iterable[np.ndarray]) -> None:
    """Each on a cache line of its own behind the one before."""
    for array in arrays:
        size = out.tell() - start
        out.write(bytes(align(size) - size))
        out.write(np.ascontiguousarray(array).tobytes())


def _of_call(
    plan: Plan, constants: Sequence[LayerConstants], call: int, simd: Simd
) -> Iterable[np.ndarray]:
    """What one call reads: the weights of all layers, then their biases and what is behind."""
    behind = []
    for layer, part in zip(constants, plan.parts, strict=True):
        own = _own(layer, plan, call)
        weights, bias, codes = layer.weights[own], layer.bias[own], layer.quantisation
        if codes is None:
            yield pack(weights, part)
            behind.append(pack_bias(bias, part))
        else:
            codes = codes.of_channels(own)
            yield pack(codes.packable(weights, part, simd), part)
            behind.append(codes.packed(weights, bias, part, simd))
    yield from behind


def _own(layer: LayerConstants, plan: Plan, call: int) -> slice:
    """The output channels of one call."""
    count = len(layer.bias) // plan.calls
    return slice(call * count, (call + 1) * count)
