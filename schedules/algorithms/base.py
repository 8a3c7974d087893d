"""The contract that every algorithm obeys, and the registry that finds one by name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from tvm import s_tir

from schedules.errors import LeanconvError
from schedules.kernel import accuracy, packing
from schedules.kernel.costs import Work, inside, moves, reads, shared_seconds
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, never
from schedules.kernel.loop_nests import LoopNest, product_nest
from schedules.kernel.packing import (
    MATRICES,
    NARROW,
    ONE_BY_ONE,
    PACKED,
    SPREAD_OUT,
    PackedWeights,
)
from schedules.kernel.quantised import constants as quantised_constants
from schedules.kernel.sharing import Share
from schedules.kernel.tiles import Product, Tile
from schedules.layer.block import Workload
from schedules.layer.pooled import PooledWorkload
from schedules.layer.row_chain import RowChain
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.words import PAIR, SPREAD, WORD, step_bytes
from schedules.layer.workload import Conv2dWorkload
from schedules.target.byte_products import multiplies_matrices, spreads
from schedules.target.simd import Simd

#: A tensor has at most so many elements: kernels index with 32-bit integers.
MAX_ELEMENTS = 2**31 - 1

#: What an algorithm computes: single layers, or blocks of them.
W = TypeVar("W", bound=Workload)


#: Types that algorithms compute: of input and output, and of weights.
FLOAT32 = frozenset(("float32", weights) for weights in ("float32", "float16", "int8"))
FLOAT16 = frozenset({("float16", "float32"), ("float16", "float16")})
FLOAT = FLOAT32 | FLOAT16
INT8 = frozenset({("int8", "int8")})
FLOAT_OR_INT8 = FLOAT | INT8
FLOAT_OR_BYTES = FLOAT_OR_INT8 | {("uint8", "uint8")}
#: Floats that are multiplied as integers.
HYBRID = frozenset({("dynamic int8", "int8")})


class Unsupported(LeanconvError):
    """An algorithm cannot serve a workload; the text says why."""


#: What an algorithm may compute, for who names one for something else.
KINDS = {
    "layer": "single layers, of images",
    "volume": "layers of volumes, as CONV_3D",
    "pruned": "layers of 3x3 or 5x5 whose weights were pruned in Winograd's domain, as "
    "`python -m scripts.prune` writes them",
    "sparse": "layers of which most weights are zero",
    "pointwise": "layers of 1x1 kernels",
    "pooled": "layers along with a pool of their output",
    "block": "blocks of layers, and this layer is in none",
    "rows": "chains of layers, and this layer is in none",
}


#: What an output may lie in the place of.
INPUT, RESIDUAL = "input", "residual"


class Algorithm(ABC, Generic[W]):
    """One algorithm of the literature, for layers or for blocks of layers.

    Workspace is in bytes and counts one thread. Every number here is what the compiled kernel
    asks for, to the byte.
    """

    #: The literature's name.
    name: str
    #: Where it comes from.
    source: str
    #: Its workspace in elements, in words; and the layers that it suits.
    workspace: str = ""
    good_for: str = ""
    #: Whether it multiplies transformed operands, so that its rounding error is one of its own.
    transforms: bool = False
    #: Element types of input and output, and of weights, that it computes.
    types: frozenset[tuple[str, str]] = FLOAT
    #: What it computes, one of :data:`KINDS`.
    kind: str = "layer"
    #: By what several threads compute it in less time, with the same packed weights, if not by it.
    shared_as: str | None = None

    def applied_to(self, workload: W) -> Algorithm[W]:
        """What serves ``workload`` under this name: itself, or a simpler one that it comes down to.

        Everything but :meth:`supports` and :meth:`forms` is to be asked of that.
        """
        del workload
        return self

    @property
    def computes(self) -> str:
        """The element types of input and output that it serves, for users."""
        return ", ".join(sorted({dtype for dtype, _ in self.types - HYBRID}))

    @abstractmethod
    def supports(self, workload: W, simd: Simd) -> str | None:
        """``None``, or the reason, for users, why this algorithm cannot serve ``workload``."""

    @abstractmethod
    def knobs(self, workload: W, simd: Simd) -> Mapping[str, Knob]:
        """The named choices for ``workload``: for users, a search and its cost model."""

    @abstractmethod
    def workspace_bytes(self, workload: W, knobs: Knobs) -> int:
        """Bytes of intermediate buffers in memory."""

    def thread_bytes(self, workload: W, knobs: Knobs) -> int:
        """Those of them that every thread has for itself, behind those that all share."""
        del workload, knobs
        return 0

    def host_bytes(self, workload: W, knobs: Knobs) -> tuple[int, int]:
        """Bytes for whoever calls the kernel for one strip after another: output, and input.

        They lie behind the kernel's own workspace, for all threads once.
        """
        del workload, knobs
        return 0, 0

    def overwrites(self, workload: W, knobs: Knobs) -> str | None:
        """:data:`INPUT` or :data:`RESIDUAL` if the output may lie where that is."""
        del workload, knobs
        return None

    @abstractmethod
    def packed_parts(self, workload: W, knobs: Knobs) -> tuple[PackedWeights, ...]:
        """How the kernel expects the weights of each layer."""

    @abstractmethod
    def schedule(self, workload: W, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        """The scheduled kernel.

        Its buffers are X, R if there is a residual, W and B of every layer, Y, in this order.
        """

    def schedules(self, workload: W, simd: Simd, knobs: Knobs) -> Mapping[str, s_tir.Schedule]:
        """By the end of its name, every function that is compiled: by default the kernel itself."""
        return {"": self.schedule(workload, simd, knobs)}

    def macs(self, workload: W, knobs: Knobs) -> int:
        """Multiply-accumulates that the kernel does, borders and tails counted as if full."""
        del knobs
        return workload.macs

    def moved_elements(self, workload: W, knobs: Knobs) -> int:
        """Elements that the kernel copies, transforms or stores on the way to the output."""
        del workload, knobs
        return 0

    @abstractmethod
    def stages(self, workload: W, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        """What is done one after the other, as :mod:`schedules.kernel.costs` sees it."""

    def shares(self, workload: W, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        """How threads share each stage of the kernel: by default there is one, of output rows."""
        del simd, knobs
        return (Share(workload.layers[-1].out_height),)

    def cost(self, workload: W, simd: Simd, knobs: Knobs, threads: int = 1) -> float:
        """Modelled time of so many threads, in seconds."""
        works = self.stages(workload, simd, knobs)
        shares = self.shares(workload, simd, knobs) if threads > 1 else ()
        return shared_seconds(works, shares, threads, simd, workload.layers[0].dtype)

    def expected_error(self, workload: W, knobs: Knobs) -> float:
        """Expected relative error of the output (see :mod:`schedules.kernel.accuracy`).

        Each layer passes on the relative error of its input, and adds its own.
        """
        del knobs
        return math.hypot(*map(accuracy.definition_error, workload.layers))

    def product(self, workload: W, simd: Simd) -> Product | None:
        """The matrix product that the micro-kernel tiles; ``None`` if there is none."""
        del workload, simd
        return None

    def loop_nests(self, workload: W, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        """The loops in which its kernel spends its time: by default, those of the product."""
        product = self.product(workload, simd)
        if product is None:
            return []
        return [product_nest(product, self.macs(workload, knobs), simd, Tile.of(knobs))]

    def forms(self, workload: W) -> Sequence[Knobs]:
        """Knobs that make different algorithms of it, for a planner to choose from."""
        del workload
        return ({},)

    def trades(self, workload: W, simd: Simd) -> Sequence[Knobs]:
        """Further knobs, which trade time for workspace: for a budget to choose from."""
        del workload, simd
        return ()

    def misfit(self, workload: W, knobs: Knobs) -> str | None:
        """``None``, or why values of several knobs do not go together."""
        del workload, knobs
        return None

    def default_knobs(self, workload: W, simd: Simd, fixed: Knobs = NO_KNOBS) -> dict[str, Any]:
        """``fixed``, and the untuned choice of every other knob.

        Raises
        ------
        Unsupported
            If ``workload`` leaves no such choice: no knob of that name, or not that value of it.
        """
        return self.choose(workload, self.knobs(workload, simd), fixed)

    def choose(self, workload: W, knobs: Mapping[str, Knob], fixed: Knobs) -> dict[str, Any]:
        """``fixed``, and the default of every other of ``knobs``; raises as above."""
        for name, value in fixed.items():
            if name not in knobs:
                known = ", ".join(knobs)
                raise Unsupported(f"{self.name} has no knob {name!r}: one of {known}")
            if value not in knobs[name].choices:
                values = ", ".join(map(str, knobs[name].choices))
                raise Unsupported(f"{self.name} has no {name} = {value}: one of {values}")
        chosen = {name: fixed.get(name, knob.default) for name, knob in knobs.items()}
        reason = self.misfit(workload, chosen)
        if reason is not None:
            raise Unsupported(reason)
        return chosen


class LayerAlgorithm(Algorithm[Conv2dWorkload]):
    """A convolution algorithm: one kernel computes one layer.

    A schedule has the buffers X, W, B and Y.
    """

    #: Whether nothing is multiplied that lies beyond the image.
    skips_borders: bool = False
    #: Whether every element of the output is written once, by who reads that of the residual.
    writes_once: bool = False

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        """``None``, or the reason, for users, why this algorithm cannot serve ``workload``.

        A kernel serves what :meth:`Conv2dWorkload.of_one_kernel` says. By default none that
        convolves every channel by itself.
        """
        del simd
        if workload.groups > 1:
            return "it has no sum over channels to block"
        reason = quantised_constants.unsupported(workload)
        if reason is not None:
            return reason
        if workload.group_of > 1 and workload.residual:
            return "a residual of one group has pixels in between that are not its own"
        return index_limit(workload)

    def overwrites(self, workload: Conv2dWorkload, knobs: Knobs) -> str | None:
        """A residual, where each element is added as that of the output is written, once."""
        is_narrow = workload.dtype == "float16"  # which may be copies of what TFLite has
        is_plain = workload.batch == 1 and not (workload.domain or is_narrow)
        return RESIDUAL if self.writes_once and workload.residual and is_plain else None

    def stages(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        packed = self.packed_weights(workload, knobs)
        # The last panel of output channels counts as if full.
        macs = self.macs(workload, knobs) * packed.bias_elements / workload.out_channels
        if knobs.get("weights") == MATRICES:  # twice as many in an instruction
            macs /= 2
        if self.skips_borders:
            macs *= inside(workload)
        size = step_bytes(workload)
        elements = self.moved_elements(workload, knobs)
        moved = moves(elements, simd, size, self.workspace_bytes(workload, knobs))
        return moved, Work(macs) + self.weight_work(workload, simd, knobs)

    def weight_work(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Work:
        """Getting at the weights: by default, reading them once."""
        packed = self.packed_weights(workload, knobs)
        return reads(packed.weight_bytes, 1, simd)

    def packed_parts(self, workload: Conv2dWorkload, knobs: Knobs) -> tuple[PackedWeights, ...]:
        return (self.packed_weights(workload, knobs),)

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        """How the kernel expects its weights: by default in the type of its products."""
        if workload.is_quantised:
            if knobs.get("weights") == SPREAD_OUT:  # its panels are of lanes, not of channels
                return packing.words(workload, knobs["panel"] // SPREAD, SPREAD * WORD)
            if knobs.get("weights") == MATRICES:  # likewise
                return packing.words(workload, knobs["panel"] // PAIR, PAIR * WORD)
            if knobs.get("weights") == ONE_BY_ONE:
                return packing.words(workload, knobs["panel"], 1)
            return packing.words(workload, knobs["panel"])
        packed = packing.panels(workload, knobs["panel"])
        narrow = knobs.get("weights") == NARROW
        return packed if narrow else replace(packed, dtype=workload.dtype)

    def pack(self, weights: np.ndarray, workload: Conv2dWorkload, knobs: Knobs) -> np.ndarray:
        """OHWI ``weights`` as the kernel expects them."""
        return packing.pack(weights, self.packed_weights(workload, knobs))


def weights_knob(workload: Conv2dWorkload, simd: Simd, sources: Sequence[str]) -> Knob:
    """Where weights come from, of ``sources``; those that have to be converted stay as they are."""
    narrow = packing.has_narrow_weights(workload)
    if narrow and not converts(workload, simd):
        sources = (PACKED,)
    if not spreads(simd):
        sources = [source for source in sources if source not in (SPREAD_OUT, ONE_BY_ONE)]
    if not multiplies_matrices(simd):
        sources = [source for source in sources if source != MATRICES]
    # Not tried: they are forms, of which a search takes those that are no other's kernel.
    return Knob("weights", tuple(sources), NARROW if NARROW in sources else PACKED, tried=never)


def converts(workload: Conv2dWorkload, simd: Simd) -> bool:
    """Whether kernels for ``simd`` make floats of the model's weights."""
    return workload.weight_dtype != "float16" or simd.converts_float16


def index_limit(layer: Conv2dWorkload) -> str | None:
    """``None``, or which tensor of ``layer`` has too many elements for a kernel's indices."""
    tensors = layer.all_groups()
    for what, shape in (
        ("input", tensors.input_shape),
        ("output", tensors.output_shape),
        ("weights", layer.weight_shape),
    ):
        if math.prod(shape) > MAX_ELEMENTS:
            return f"its {what} of {math.prod(shape)} elements needs 64-bit indices"
    return None


def is_one_by_one(layer: Conv2dWorkload) -> bool:
    """Whether each output pixel is a product of one image pixel."""
    return layer.kernel_height == layer.kernel_width == 1 and not layer.is_padded


class Registry:
    """Algorithms by name, in the order in which they were added."""

    def __init__(self) -> None:
        self._algorithms: dict[str, Algorithm] = {}

    def __iter__(self) -> Iterator[Algorithm]:
        """Every algorithm, those of blocks too."""
        return iter(self._algorithms.values())

    def add(self, algorithm: Algorithm) -> None:
        """Make ``algorithm`` known; its name must be new."""
        if algorithm.name in self._algorithms:
            raise LeanconvError(f"an algorithm named {algorithm.name!r} is registered already")
        self._algorithms[algorithm.name] = algorithm

    def get(self, name: str) -> Algorithm:
        """The algorithm of that name; raises LeanconvError, which lists those known."""
        if name not in self._algorithms:
            raise LeanconvError(f"unknown algorithm {name!r}: one of {', '.join(self._algorithms)}")
        return self._algorithms[name]

    def names(self, kind: str = "layer") -> Sequence[str]:
        """Names of those of one of :data:`KINDS`."""
        return tuple(known.name for known in self if known.kind == kind)

    def made_for(self, workload: Workload) -> Sequence[Algorithm]:
        """Those that may compute a layer, if it is one, or a block of layers."""
        first, *others = workload.layers
        kinds = {"block"} if others else {"layer"}
        if isinstance(workload, RowChain):
            kinds = {"rows"}
        elif isinstance(first, Conv3dWorkload):
            kinds = {"volume"}
        elif isinstance(first, PooledWorkload):
            kinds = {"pooled"}
        elif not others and first.domain:
            kinds.add("pruned")
        elif not others and first.zeros:
            kinds.add("sparse")
        elif not others and is_one_by_one(first):
            kinds.add("pointwise")
        return tuple(known for known in self if known.kind in kinds)
