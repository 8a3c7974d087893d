"""A chain of layers that one kernel may compute: each layer's output is the next one's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload


@dataclass(frozen=True)
class Block:
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
        for layer, following in pairwise(self.layers):
            if (layer.output_shape, layer.dtype) != (following.input_shape, following.dtype):
                raise LeanconvError(
                    f"{following.describe()} does not read the output of {layer.describe()}"
                )
            if layer.residual:
                raise LeanconvError(
                    f"{layer.describe()} has a residual, but is not the block's last layer"
                )
        if any(layer.group_of > 1 for layer in self.layers):
            raise LeanconvError("one group of a layer is not a layer of a block")

    @property
    def dtype(self) -> str:
        """Element type of all tensors."""
        return self.layers[0].dtype

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return self.layers[0].element_bytes

    @property
    def residual(self) -> bool:
        """Whether another tensor of the output's shape is added at the end."""
        return self.layers[-1].residual

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """``(N, H, W, C)`` of the first layer."""
        return self.layers[0].input_shape

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """``(N, H', W', M)`` of the last layer."""
        return self.layers[-1].output_shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layers' definitions."""
        return sum(layer.macs for layer in self.layers)

    @property
    def intermediate_bytes(self) -> int:
        """Bytes of all tensors between the layers, stored whole."""
        return sum(layer.output_bytes for layer in self.layers[:-1])

    def with_batch(self, batch: int) -> Block:
        """The same layers for another batch size."""
        return Block(tuple(layer.with_batch(batch) for layer in self.layers))

    def describe(self) -> str:
        """A short name for tables and profiles: its layers', joined by ``|``."""
        return " | ".join(layer.describe() for layer in self.layers)

    def to_text(self) -> str:
        """Every field in one line: the layers' (:meth:`Conv2dWorkload.to_text`), with ``|``."""
        return " | ".join(layer.to_text() for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Block:
        """The inverse of :meth:`to_dict`."""
        return cls(tuple(Conv2dWorkload.from_dict(layer) for layer in values["layers"]))


def workload_from_text(text: str) -> Conv2dWorkload | Block:
    """The layer or block of layers that ``to_text`` wrote; raises LeanconvError for other text."""
    layers = [Conv2dWorkload.from_text(part) for part in text.split(" | ")]
    return layers[0] if len(layers) == 1 else Block(tuple(layers))
