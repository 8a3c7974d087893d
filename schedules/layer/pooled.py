"""A layer whose output is pooled, so that nobody needs all of it at once; and where there is one.

The pool is a MAX_POOL_2D or AVERAGE_POOL_2D that alone reads the layer's output, perhaps behind a
pad. What lies beyond the borders takes no part in it: zeros of a pad do, and may be left out only
of the largest of numbers that are not negative. Codes are pooled as they are, and have one scale.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from schedules.errors import LeanconvError
from schedules.layer.graph import Graph, Operation, follower
from schedules.layer.network import CONV, DEPTHWISE, Layer, describe
from schedules.layer.padding import same_padding
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload

#: What is made of the pixels of a window.
LARGEST, AVERAGE = "max_pool", "average_pool"
#: Of what is pooled.
TYPES = ("float32", "int8", "uint8")


@dataclass(frozen=True)
class PooledWorkload(Conv2dWorkload):
    """One convolution, and a pool of its output.

    Parameters
    ----------
    pool : {"max_pool", "average_pool"}
        What is made of the pixels of a window.
    pool_height, pool_width, pool_stride_height, pool_stride_width : int
        The window, and the steps between windows.
    pad_pool_top, pad_pool_bottom, pad_pool_left, pad_pool_right : int
        Rows and columns around the convolution's output that windows reach into: fewer than they
        have themselves.
    pool_activation : str
        Of the pool.

    All others are those of the convolution, as :class:`Conv2dWorkload` says; so are its rows,
    columns and pixels.
    """

    pool: str = LARGEST
    pool_height: int = 1
    pool_width: int = 1
    pool_stride_height: int = 1
    pool_stride_width: int = 1
    pad_pool_top: int = 0
    pad_pool_bottom: int = 0
    pad_pool_left: int = 0
    pad_pool_right: int = 0
    pool_activation: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool not in (LARGEST, AVERAGE) or self.pool_activation not in ACTIVATIONS:
            raise LeanconvError(f"unknown pool {self.pool} {self.pool_activation}")
        is_one_group = self.group_of > 1 or (self.groups > 1 and not self.is_depthwise)
        if self.residual or self.dtype not in TYPES or self.is_dynamic or is_one_group:
            raise LeanconvError("a layer that is pooled is whole, without a residual")
        if self.is_quantised and self.pool_activation != "none":
            raise LeanconvError("a pool of codes has no activation")
        if min(self.pooled_height, self.pooled_width) < 1:
            raise LeanconvError("a window that does not fit into the image: the output is empty")
        edges = (self.pad_pool_top, self.pad_pool_bottom), (self.pad_pool_left, self.pad_pool_right)
        if max(edges[0]) >= self.pool_height or max(edges[1]) >= self.pool_width:
            raise LeanconvError("a window that has nothing of the image in it")

    @property
    def pooled_height(self) -> int:
        """Rows of the pool's output."""
        padded = self.out_height + self.pad_pool_top + self.pad_pool_bottom
        return (padded - self.pool_height) // self.pool_stride_height + 1

    @property
    def pooled_width(self) -> int:
        """Columns of the pool's output."""
        padded = self.out_width + self.pad_pool_left + self.pad_pool_right
        return (padded - self.pool_width) // self.pool_stride_width + 1

    @cached_property
    def output_shape(self) -> tuple[int, int, int, int]:
        """``(N, H'', W'', M)`` of the pool."""
        return (self.batch, self.pooled_height, self.pooled_width, self.out_channels)

    def convolution(self) -> Conv2dWorkload:
        """The layer without its pool."""
        return Conv2dWorkload(**_values(self))

    def strip(self, rows: int) -> Conv2dWorkload:
        """The convolution of as many input rows as ``rows`` of its output need, none beyond."""
        span = (self.kernel_height - 1) * self.dilation_height + 1
        height = (rows - 1) * self.stride_height + span
        return replace(self.convolution(), in_height=height, pad_top=0, pad_bottom=0)

    def most_rows(self, rows: int) -> int:
        """Rows of the convolution's output that are held if ``rows`` are computed at a time.

        That is those, and what windows still need that are not complete: see
        csrc/run/strips/strips.c.
        """
        most = first = ready = pooled = 0
        while ready < self.out_height:
            start = min(ready, self.out_height - rows)
            needed = max(pooled * self.pool_stride_height - self.pad_pool_top, 0)
            first, ready = max(first, min(needed, start)), start + rows
            most = max(most, ready - first)
            pooled = self.complete_rows(ready)
        return most

    def complete_rows(self, ready: int) -> int:
        """Rows of the pool's output that need no more than the first ``ready`` rows."""
        if ready >= self.out_height:
            return self.pooled_height
        behind = ready + self.pad_pool_top - self.pool_height
        return max(behind // self.pool_stride_height + 1, 0)

    def describe(self) -> str:
        """The convolution's short name, and behind it such as ``| max_pool3x3 s2``."""
        text = f"{super().describe()} | {self.pool}{self.pool_height}x{self.pool_width}"
        steps = dict.fromkeys((self.pool_stride_height, self.pool_stride_width))
        text += "" if set(steps) == {1} else f" s{'x'.join(map(str, steps))}"
        return text if self.pool_activation == "none" else f"{text} {self.pool_activation}"

    def to_text(self) -> str:
        """The convolution's, and every field of the pool."""
        window = f"k{self.pool_height}x{self.pool_width}"
        steps = f"s{self.pool_stride_height}x{self.pool_stride_width}"
        pads = (self.pad_pool_top, self.pad_pool_bottom, self.pad_pool_left, self.pad_pool_right)
        edges = f"p{','.join(map(str, pads))}"
        words = [super().to_text(), self.pool, window, steps, edges, self.pool_activation]
        return " ".join(words)


def pooled_layer(graph: Graph, layer: Layer) -> Layer | None:
    """``layer`` with the pool of its output; ``None`` if there is none that it may do."""
    workload, output = layer.workload, layer.output
    if workload is None or output is None or layer.kind not in (CONV, DEPTHWISE):
        return None
    behind, nodes = follower(graph, output), layer.nodes
    pads: tuple[int, ...] = (0,) * 8
    if behind is not None and behind.name == "pad":
        pads, nodes = behind.paddings, (*nodes, behind.node)
        behind = follower(graph, behind.output)
    if behind is None or behind.window is None or graph.dtype(behind.output) != workload.dtype:
        return None
    lower, _ = ACTIVATIONS.get(workload.activation, (None, None))
    leaves_out_zeros = behind.name == LARGEST and lower == 0.0
    if any(pads) and (not leaves_out_zeros or any(pads[:2] + pads[6:]) or min(pads) < 0):
        return None
    try:
        pooled = _with_window(workload, behind, pads[2:6])
    except LeanconvError:
        return None
    if graph.shape(behind.output) != pooled.output_shape:  # the network contradicts itself
        return None
    return replace(
        layer,
        workload=pooled,
        geometry=describe(layer.kind, pooled),
        nodes=(*nodes, behind.node),
        output=behind.output,
    )


def _with_window(
    workload: Conv2dWorkload, pool: Operation, pads: tuple[int, ...]
) -> PooledWorkload:
    window, (top, bottom, left, right) = pool.window, pads
    assert window is not None
    if window.same:
        height, width = workload.out_height + top + bottom, workload.out_width + left + right
        rows = same_padding(height, window.height, window.stride_height, 1)
        columns = same_padding(width, window.width, window.stride_width, 1)
        top, bottom = top + rows[0], bottom + rows[1]
        left, right = left + columns[0], right + columns[1]
    return PooledWorkload(
        **_values(workload),
        pool=pool.name,
        pool_height=window.height,
        pool_width=window.width,
        pool_stride_height=window.stride_height,
        pool_stride_width=window.stride_width,
        pad_pool_top=top,
        pad_pool_bottom=bottom,
        pad_pool_left=left,
        pad_pool_right=right,
        pool_activation=pool.activation,
    )


def _values(workload: Conv2dWorkload) -> dict[str, Any]:
    """All that says what the convolution is."""
    return {field.name: getattr(workload, field.name) for field in fields(Conv2dWorkload)}
