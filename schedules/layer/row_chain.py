"""Chains of any length that one kernel may compute row by row, and where a network has them.

Unlike a :class:`Block`, such a chain may have residuals inside: what is added is the input of one
of its layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schedules.errors import LeanconvError
from schedules.layer.block import Consecutive
from schedules.layer.network import CONV, DEPTHWISE, Chain, Layer, Network
from schedules.layer.workload import Conv2dWorkload

#: Layers of one chain at most: LC_MAX_LAYERS of csrc/host/kernel_table.h.
MOST_LAYERS = 16
#: Element types of input and output, and of weights, of its layers.
TYPES = frozenset({("float32", "float32"), ("int8", "int8"), ("uint8", "uint8")})


@dataclass(frozen=True)
class RowChain(Consecutive):
    """Layers one after another, computed for one image.

    Parameters
    ----------
    layers : tuple of Conv2dWorkload
        Of one batch, at least two.
    sources : tuple of int or None
        For each, the place of the layer whose input is its residual; ``None`` without one.

    Raises
    ------
    LeanconvError
        If the layers are no chain, or a residual is none of their inputs.
    """

    layers: tuple[Conv2dWorkload, ...]
    sources: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if len(self.layers) < 2 or len(self.layers) != len(self.sources):
            raise LeanconvError("a chain has at least two layers, and a source for each")
        self.check_order()
        for place, (layer, source) in enumerate(zip(self.layers, self.sources, strict=True)):
            if layer.residual != (source is not None):
                raise LeanconvError(f"{layer.describe()} has a residual without a source")
            if source is not None and (
                source > place or self.layers[source].input_shape != layer.output_shape
            ):
                raise LeanconvError(f"{layer.describe()} cannot add the input of layer {source}")

    @property
    def fits_in_place(self) -> bool:
        """Whether a row of the output may lie where that row of the input was.

        Rows are read from top to bottom then, and none above those that are written already.
        """
        return self.output_shape == self.input_shape and all(
            layer.stride_height == 1 and layer.pad_top < reach_of(layer) for layer in self.layers
        )

    def all_groups(self) -> RowChain:
        """Itself: its layers are whole."""
        return self

    def describe(self) -> str:
        """The tensors around it, for tables and profiles."""
        ends = ("x".join(map(str, shape[1:])) for shape in (self.input_shape, self.output_shape))
        return f"{len(self.layers)} layers {' -> '.join(ends)}"

    def to_text(self) -> str:
        """Every field in one line."""
        places = ("" if source is None else f" from{source}" for source in self.sources)
        texts = (layer.to_text() for layer in self.layers)
        return " > ".join(map("".join, zip(texts, places, strict=True)))


def reach_of(layer: Conv2dWorkload) -> int:
    """Rows of the input that one row of the output reads."""
    return (layer.kernel_height - 1) * layer.dilation_height + 1


def find_row_chains(network: Network) -> Iterator[tuple[Chain, RowChain]]:
    """Every chain worth trying: from one narrow tensor to another, with residuals inside.

    What is wide in between is what it saves; its own input and output are held as before, unless
    these are one: a residual block's. A tensor is narrow if its neighbours are no smaller, or are
    in no chain with it.
    """
    readers = Counter(tensor for step in network.steps for tensor in set(step.inputs))
    layers = network.layers
    for first in range(len(layers) if network.walks_rows else 0):
        if not _can_be_inside(layers[first]):
            continue
        begins = _may_begin(layers, first)
        for last in range(first, min(first + MOST_LAYERS, len(layers))):
            if not _can_be_inside(layers[last]) or (
                last > first and layers[last].input != layers[last - 1].output
            ):
                break
            run = layers[first : last + 1]
            is_block = layers[last].residual == layers[first].input
            if len(run) < 2 or not (is_block or (begins and _may_end(layers, last))):
                continue
            sources = _sources(run)
            if sources is None or not _runs_at_once(run, network):
                continue
            if _is_private(run, readers, network):
                workloads = [_one_image(layer) for layer in run]
                yield tuple(range(first, last + 1)), RowChain(tuple(workloads), sources)


def _one_image(layer: Layer) -> Conv2dWorkload:
    assert layer.workload is not None, "what can be inside of a chain has a workload"
    return layer.workload.with_batch(1)


def _can_be_inside(layer: Layer) -> bool:
    workload = layer.workload
    return (
        workload is not None
        and layer.kind in (CONV, DEPTHWISE)
        and (workload.groups == 1 or workload.is_depthwise)
        and workload.types in TYPES
        and not (workload.domain or layer.copied_bytes or layer.staged_bytes)
    )


def _may_begin(layers: Sequence[Layer], first: int) -> bool:
    own = _one_image(layers[first])
    follows = first > 0 and layers[first - 1].output == layers[first].input
    return own.input_bytes <= own.output_bytes or not follows


def _may_end(layers: Sequence[Layer], last: int) -> bool:
    own, following = _one_image(layers[last]), layers[last + 1 : last + 2]
    goes_on = any(layer.input == layers[last].output for layer in following)
    return own.output_bytes < own.input_bytes or not goes_on


def _sources(run: tuple[Layer, ...]) -> tuple[int | None, ...] | None:
    """For each layer where its residual comes from; ``None`` if one is from elsewhere."""
    inputs = [layer.input for layer in run]
    found: list[int | None] = []
    for place, layer in enumerate(run):
        if layer.residual is None:
            found.append(None)
        elif layer.residual in inputs[: place + 1]:
            found.append(inputs.index(layer.residual))
        else:
            return None
    return tuple(found)


def _runs_at_once(run: tuple[Layer, ...], network: Network) -> bool:
    """Whether the layers run one right after the other."""
    own = {node for layer in run for node in layer.nodes}
    within = range(min(own), max(own) + 1)
    return all(step.index in own for step in network.steps if step.index in within)


def _is_private(run: tuple[Layer, ...], readers: Counter[int], network: Network) -> bool:
    """Whether nobody else reads what lies between the layers."""
    added = Counter(layer.residual for layer in run if layer.residual is not None)
    return all(
        layer.input is not None
        and layer.input not in network.outputs
        and readers[layer.input] == 1 + added[layer.input]
        for layer in run[1:]
    )
