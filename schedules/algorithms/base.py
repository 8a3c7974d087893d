"""The contract that every algorithm obeys, and the registry that finds one by name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import s_tir

from schedules.errors import LeanconvError
from schedules.kernel import accuracy, packing
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs
from schedules.kernel.loop_nests import LoopNest, product_nest
from schedules.kernel.packing import PackedWeights
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Kernels index with 32-bit integers.
MAX_ELEMENTS = 2**31 - 1


class Unsupported(LeanconvError):
    """An algorithm cannot serve a workload; the text says why."""


class Algorithm(ABC):
    """One convolution algorithm of the literature.

    Workspace is in bytes and counts one thread. Every number here is what the compiled kernel
    asks for, to the byte.
    """

    #: The literature's name.
    name: str
    #: Where it comes from.
    source: str
    #: Whether it multiplies transformed operands, so that its rounding error is one of its own.
    transforms: bool = False

    def applied_to(self, workload: Conv2dWorkload) -> Algorithm:
        """What serves ``workload`` under this name: itself, or a simpler one that it comes down to.

        Everything but :meth:`supports` and :meth:`forms` is to be asked of that.
        """
        del workload
        return self

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        """``None``, or the reason, for users, why this algorithm cannot serve ``workload``.

        A kernel serves what :meth:`Conv2dWorkload.of_one_kernel` says. By default none that
        convolves every channel by itself.
        """
        del simd
        if workload.groups > 1:
            return "it has no sum over channels to block"
        if workload.group_of > 1 and workload.residual:
            return "a residual of one group has pixels in between that are not its own"
        return self.index_limit(workload)

    def index_limit(self, workload: Conv2dWorkload) -> str | None:
        """``None``, or which tensor has too many elements for a kernel's indices."""
        tensors = workload.all_groups()
        for what, shape in (
            ("input", tensors.input_shape),
            ("output", tensors.output_shape),
            ("weights", workload.weight_shape),
        ):
            if math.prod(shape) > MAX_ELEMENTS:
                return f"its {what} of {math.prod(shape)} elements needs 64-bit indices"
        return None

    @abstractmethod
    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        """The named choices for ``workload``: for users, a search and its cost model."""

    @abstractmethod
    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        """Bytes of intermediate buffers in memory."""

    @abstractmethod
    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        """The scheduled kernel, with buffers X, W, B, Y in this order."""

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        """Multiply-accumulates that the kernel does, borders and tails counted as if full."""
        del knobs
        return workload.macs

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        """Elements that the kernel copies, transforms or stores on the way to the output."""
        del workload, knobs
        return 0

    def expected_error(self, workload: Conv2dWorkload, knobs: Knobs) -> float:
        """Expected relative error of the output (see :mod:`schedules.kernel.accuracy`)."""
        del knobs
        return accuracy.relative_error(workload.reduction)

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        """How the kernel expects its weights."""
        return packing.panels(workload, knobs["panel"])

    def pack(self, weights: np.ndarray, workload: Conv2dWorkload, knobs: Knobs) -> np.ndarray:
        """OHWI ``weights`` as the kernel expects them."""
        return packing.pack(weights, self.packed_weights(workload, knobs))

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product | None:
        """The matrix product that the micro-kernel tiles; ``None`` if there is none."""
        del workload, simd
        return None

    def loop_nests(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        """The loops in which its kernel spends its time: by default, those of the product."""
        product = self.product(workload, simd)
        if product is None:
            return []
        return [product_nest(product, self.macs(workload, knobs), simd, Tile.of(knobs))]

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        """Knobs that make different algorithms of it, for a planner to choose from."""
        del workload
        return ({},)

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        """``fixed``, and the untuned choice of every other knob.

        Raises
        ------
        Unsupported
            If ``workload`` leaves no such choice: no knob of that name, or not that value of it.
        """
        knobs = self.knobs(workload, simd)
        for name, value in fixed.items():
            if name not in knobs:
                known = ", ".join(knobs)
                raise Unsupported(f"{self.name} has no knob {name!r}: one of {known}")
            if value not in knobs[name].choices:
                values = ", ".join(map(str, knobs[name].choices))
                raise Unsupported(f"{self.name} has no {name} = {value}: one of {values}")
        return {name: fixed.get(name, knob.default) for name, knob in knobs.items()}


class Registry:
    """Algorithms by name, in the order in which they were added."""

    def __init__(self) -> None:
        self._algorithms: dict[str, Algorithm] = {}

    def add(self, algorithm: Algorithm) -> None:
        """Make ``algorithm`` known; its name must be new."""
        if algorithm.name in self._algorithms:
            raise LeanconvError(f"an algorithm named {algorithm.name!r} is registered already")
        self._algorithms[algorithm.name] = algorithm

    def get(self, name: str) -> Algorithm:
        """The algorithm of that name; raises LeanconvError, which lists those known."""
        if name not in self._algorithms:
            raise LeanconvError(f"unknown algorithm {name!r}: one of {', '.join(self.names())}")
        return self._algorithms[name]

    def names(self) -> Sequence[str]:
        """Every registered name."""
        return tuple(self._algorithms)
