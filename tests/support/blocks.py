"""Arguments of kernels of several layers, and what must come out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from schedules.algorithms.fused_block.fused_block import FusedBlock
from schedules.kernel import packing
from schedules.kernel.knobs import Knobs
from schedules.layer.block import Block
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from tests.support.kernels import UNWRITTEN
from tests.support.reference import conv2d, finish

FUSED_BLOCK = FusedBlock()


@dataclass(frozen=True)
class BlockCase:
    """Arguments of one block, and what must come out of it; ``residual`` may be ``x`` itself."""

    x: np.ndarray
    residual: np.ndarray | None
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    expected: np.ndarray
    bound: np.ndarray
    groups: int = 1

    @classmethod
    def random(cls, block: Block, own_input: bool = True, seed: int = 0) -> BlockCase:
        """Normally distributed arguments; a residual is the block's input if that is possible."""
        random = np.random.default_rng(seed)
        x = random.standard_normal(block.input_shape, np.float32).astype(block.dtype)
        residual = None
        if block.layers[-1].residual:
            residual = random.standard_normal(block.output_shape, np.float32).astype(block.dtype)
            if own_input and x.shape == block.output_shape:
                residual = x
        weights, biases = [], []
        for layer in block.layers:
            values = random.standard_normal(layer.weight_shape, np.float32)
            weights.append(values / np.float32(np.sqrt(layer.reduction)))
            biases.append(random.standard_normal(layer.out_channels, np.float32))
        exact, bound = chain(block, x, weights, biases, residual)
        return cls(x, residual, tuple(weights), tuple(biases), exact, bound)

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        """Input ``x``, perhaps ``r``, packed weights ``w`` and bias ``b`` of all layers."""
        weights = map(packing.pack, self.weights, plan.parts)
        biases = map(packing.pack_bias, self.biases, plan.parts)
        given = {"x": self.x, "w": one_memory(list(weights)), "b": one_memory(list(biases))}
        return given if self.residual is None else {**given, "r": self.residual}

    def check(self, y: np.ndarray) -> None:
        """Fail unless every element of ``y`` is within the bound."""
        worst = np.abs(y.reshape(self.expected.shape) - self.expected) - self.bound
        # Written so that an element that is not a number fails too.
        assert (worst <= 0).all(), f"off by up to {np.nanmax(worst):.3g} more than the bound"


def chain(
    block: Block,
    x: np.ndarray,
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    residual: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The exact result of all layers, and a bound on the error of any result in the block's type.

    Let every element of a layer's input be off by at most ``e``. The layer's products then differ
    by at most ``sum e |w|`` from the exact ones, and its own roundings (see :func:`conv2d`) are at
    most gamma(n) times ``sum (|x| + e) |w|``, as ``|x| + e`` is the largest that its input can be.
    """
    value, error = x.astype(np.float64), np.zeros(x.shape)
    for layer, w, b in zip(block.layers, weights, biases, strict=True):
        linear = replace(layer, activation="none", residual=False, output_activation="none")
        exact, _ = conv2d(linear, value, w, b)
        passed_on, _ = conv2d(linear, error, abs(w), None)
        _, own = conv2d(linear, abs(value) + error, w, b)
        added = residual if layer.residual else None
        value, error = finish(layer, exact, passed_on + own, added)
    return value, error


def one_memory(parts: Sequence[np.ndarray]) -> np.ndarray:
    """What a kernel takes as one argument: each part at the next cache line behind the last."""
    bytes_of_all = sum(align(part.nbytes) for part in parts)
    memory = np.full(bytes_of_all // 4, UNWRITTEN, np.float32).view(np.uint8)
    offset = 0
    for part in parts:
        memory[offset:][: part.nbytes] = part.ravel().view(np.uint8)
        offset = align(offset + part.nbytes)
    return memory


def plan_of(block: Block, knobs: Knobs) -> Plan:
    """The plan with exactly these knobs."""
    workspace = FUSED_BLOCK.workspace_bytes(block, knobs)
    parts = FUSED_BLOCK.packed_parts(block, knobs)
    return Plan(block, FUSED_BLOCK.name, knobs, workspace, parts)
