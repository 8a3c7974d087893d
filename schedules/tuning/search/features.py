"""What a cost model sees of a candidate: numbers that mean the same for every layer.

Knobs as they are, and what they come to for the layer at hand: multiply-accumulates, modelled
instructions, registers, how full tiles are, bytes beside the caches'. Ratios, so that one layer
teaches what holds for another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from schedules.algorithms import REGISTRY
from schedules.kernel.costs import peak
from schedules.kernel.knobs import Knob
from schedules.kernel.loop_nests import LoopNest
from schedules.layer.block import Workload
from schedules.plan.plan import Plan
from schedules.target.simd import Simd

#: Of a knob that a candidate does not have, or a figure that means nothing for it.
ABSENT = -1.0


def features(plan: Plan, simd: Simd) -> dict[str, float]:
    """Numbers about ``plan`` by name; what has none is :data:`ABSENT`."""
    lanes = simd.lanes(plan.layers[0].dtype)
    macs = plan.workload.macs
    nests = plan.loop_nests(simd)
    slots = sum(nest.slots for nest in nests)
    knobs = _knobs(plan.algorithm, plan.workload, simd)
    return {
        f"is_{plan.algorithm}": 1.0,
        **{f"knob_{name}": knobs[name].number(value) for name, value in plan.knobs.items()},
        **_tile_features(nests, simd),
        "macs_ratio": _log_ratio(plan.macs, macs),
        "cost_ratio": _log_ratio(plan.cost * peak(simd, plan.layers[0].dtype), macs),
        **({"slots_ratio": _log_ratio(slots * lanes, macs)} if nests else {}),
        **_layer_features(plan.workload),
        **_memory_features(plan, nests, simd),
        **_bound_features(plan, simd, lanes),
        **_simd_features(simd, lanes),
    }


@lru_cache(maxsize=256)
def _knobs(algorithm: str, workload: Workload, simd: Simd) -> Mapping[str, Knob]:
    return REGISTRY.get(algorithm).applied_to(workload).knobs(workload, simd)


def _tile_features(nests: Sequence[LoopNest], simd: Simd) -> dict[str, float]:
    """Of the loop nest that takes longest."""
    if not nests:
        return {}
    nest = max(nests, key=lambda nest: nest.slots)
    return {
        "sums": float(nest.sums),
        "registers": nest.registers / simd.vector_registers,
        "pixels_used": nest.pixels_used,
        "channels_used": nest.channels_used,
    }


def _memory_features(plan: Plan, nests: Sequence[LoopNest], simd: Simd) -> dict[str, float]:
    """Logarithms of bytes over those of the cache that they compete for."""
    element = plan.workload.element_bytes
    weights = sum(part.elements for part in plan.parts) * element
    input_bytes, output_bytes = (
        math.prod(shape) * element
        for shape in (plan.workload.input_shape, plan.workload.output_shape)
    )
    panel = max((nest.panel_bytes for nest in nests), default=0)
    patches = max((nest.patch_bytes for nest in nests), default=0)
    return {
        "workspace": _log_ratio(plan.workspace_bytes, simd.l2_bytes),
        "weights_l2": _log_ratio(weights, simd.l2_bytes),
        "input_l2": _log_ratio(input_bytes, simd.l2_bytes),
        "output_l2": _log_ratio(output_bytes, simd.l2_bytes),
        "panel_l1": _log_ratio(panel, simd.l1_bytes),
        "patches_l1": _log_ratio(patches, simd.l1_bytes),
    }


def _bound_features(plan: Plan, simd: Simd, lanes: int) -> dict[str, float]:
    """Cycles of reading what lies beyond the cache, over those of all multiply-adds.

    By the bandwidths of the target's core, so that what holds for one processor can be told of
    another, whose caches are of other sizes and speeds.
    """
    macs = plan.macs / (lanes * simd.fmas)
    sizes = {
        "weights": sum(part.weight_bytes for part in plan.parts),
        "workspace": plan.workspace_bytes,
        "tensors": sum(map(math.prod, (plan.workload.input_shape, plan.workload.output_shape)))
        * plan.workload.element_bytes,
    }
    return {
        f"{name}_bound": _log_ratio(size / _bandwidth(size, simd), macs)
        for name, size in sizes.items()
    }


def _bandwidth(size: int, simd: Simd) -> float:
    """Bytes a cycle that one core reads of a buffer, from the nearest cache that holds it."""
    if size <= simd.l2_bytes:
        return float(simd.vector_bytes)
    return simd.l3_bandwidth if size <= simd.l3_bytes else simd.memory_bandwidth


@lru_cache(maxsize=1024)
def _layer_features(workload: Workload) -> dict[str, float]:
    """Of a block, those of its layers taken together: it maps an input to an output as well."""
    layers = workload.layers
    outputs, channels = math.prod(workload.output_shape), workload.output_shape[-1]
    numbers = {
        "macs": workload.macs,
        "pixels": outputs // channels,
        "in_channels": workload.input_shape[-1],
        "inner_channels": max(layer.in_channels for layer in layers),
        "out_channels": channels,
        "reduction": workload.macs / outputs,
        "kernel_height": max(layer.kernel_height for layer in layers),
        "kernel_width": max(layer.kernel_width for layer in layers),
        "stride": math.prod(layer.stride_height for layer in layers),
        "dilation": max(layer.dilation_height for layer in layers),
        "group_of": workload.calls,
    }
    return {
        **{name: math.log2(number) for name, number in numbers.items()},
        "padded": float(any(layer.is_padded for layer in layers)),
        "residual": float(layers[-1].residual),
    }


@lru_cache(maxsize=64)
def _simd_features(simd: Simd, lanes: int) -> dict[str, float]:
    """Of the board: the same for every candidate of one model."""
    return {
        "lanes": float(lanes),
        "vector_registers": float(simd.vector_registers),
        "l1": math.log2(simd.l1_bytes),
        "l2": math.log2(simd.l2_bytes),
        "fmas": float(simd.fmas),
        "l3_bandwidth": float(simd.l3_bandwidth),
        "memory_bandwidth": float(simd.memory_bandwidth),
        "loads_per_fma": float(simd.loads_per_fma),
        "in_order": float(simd.in_order),
        "by_element": float(simd.fma_by_element),
    }


def _log_ratio(value: float, base: float) -> float:
    """log2, of zero as of a thousandth."""
    return math.log2(max(value / base, 1e-3))
