"""What one kernel computes: a layer, or a block of layers, each of which reads the one before."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from schedules.errors import LeanconvError
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.workload import Conv2dWorkload


class Workload(Hashable, Protocol):
    """What one kernel computes: a layer, or a block of layers."""

    @property
    def layers(self) -> tuple[Conv2dWorkload, ...]:
        """The layers, one after the other."""

    @property
    def calls(self) -> int:
        """Calls of the kernel that compute all of it for one image: one a group."""

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(N, H, W, C)`` of the first layer."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(N, H', W', M)`` of the last layer."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layers' definitions."""

    def all_groups(self) -> Workload:
        """What all calls compute."""

    def describe(self) -> str:
        """A short name for tables and profiles."""

    def to_text(self) -> str:
        """Every field in one line."""


class Consecutive:
    """Layers, each of which reads the one before, that one kernel computes."""

    layers: tuple[Conv2dWorkload, ...]

    def check_order(self) -> None:
        """Raise LeanconvError if a layer does not read the one before."""
        for layer, following in pairwise(self.layers):
            if (layer.output_shape, layer.dtype) != (following.input_shape, following.dtype):
                raise LeanconvError(
                    f"{following.describe()} does not read the output of {layer.describe()}"
                )

    @property
    def calls(self) -> int:
        """One kernel computes all of it at once."""
        return 1

    @property
    def dtype(self) -> str:
        """Element type of all tensors."""
        return self.layers[0].dtype

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return self.layers[0].element_bytes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(N, H, W, C)`` of the first layer."""
        return self.layers[0].input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(N, H', W', M)`` of the last layer."""
        return self.layers[-1].output_shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layers' definitions."""
        return sum(layer.macs for layer in self.layers)


@dataclass(frozen=True)
class Block(Consecutive):
    """Layers one after another, of which nobody else reads what lies between.

    Parameters
    ----------
    layers : tuple of Conv2dWorkload
        At least two. Only the last may have a residual; it may be the block's own input.

    Raises
    ------
    LeanconvError
        If the layers are no chain.
    """

    layers: tuple[Conv2dWorkload, ...]

    def __post_init__(self) -> None:
        if len(self.layers) < 2:
            raise LeanconvError("a block has at least two layers")
        self.check_order()
        for layer in self.layers[:-1]:
            if layer.residual:
                raise LeanconvError(
                    f"{layer.describe()} has a residual, but is not the block's last layer"
                )
        if any(layer.group_of > 1 for layer in self.layers):
            raise LeanconvError("one group of a layer is not a layer of a block")

    def all_groups(self) -> Block:
        """Itself: none of its layers is one group."""
        return self

    def describe(self) -> str:
        """A short name for tables and profiles: its layers', joined by ``|``."""
        return " | ".join(layer.describe() for layer in self.layers)

    def to_text(self) -> str:
        """Every field in one line: the layers' (:meth:`Conv2dWorkload.to_text`), with ``|``."""
        return " | ".join(layer.to_text() for layer in self.layers)


def workload_from_text(text: str) -> Workload:
    """The layer or block of layers that ``to_text`` wrote; raises LeanconvError for other text."""
    layers = [
        (Conv3dWorkload if " of " in part else Conv2dWorkload).from_text(part)
        for part in text.split(" | ")
    ]
    return layers[0] if len(layers) == 1 else Block(tuple(layers))
