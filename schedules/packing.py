"""How weights are laid out for the micro-kernel.

Layout ``panels``: ``[ceil(M / panel)][K_h K_w C][panel]``. The weights that one step of a
register tile needs stand side by side, in the order in which the steps come. Channels that fill
up the last panel are zero, in the weights and in the bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from schedules.memory import align
from schedules.workload import Conv2dWorkload


@dataclass(frozen=True)
class PackedWeights:
    """Shape of a kernel's weights and bias after packing.

    Parameters
    ----------
    layout : {"panels"}
        Name of the layout, as the delegate knows it.
    panel : int
        Output channels side by side in one panel.
    shape : tuple of int
        Packed weights, in elements.
    bias_elements : int
        Bias, filled up with zeros.
    """

    layout: str
    panel: int
    shape: tuple[int, ...]
    bias_elements: int

    @property
    def elements(self) -> int:
        """Elements of the packed weights."""
        return math.prod(self.shape)

    def bytes(self, element_bytes: int) -> int:
        """Bytes that a delegate holds: the weights, and behind them, aligned, the bias."""
        return align(self.elements * element_bytes) + self.bias_elements * element_bytes


def panels(workload: Conv2dWorkload, panel: int) -> PackedWeights:
    """Layout ``panels`` for the weights of ``workload``."""
    count = -(-workload.out_channels // panel)
    return PackedWeights("panels", panel, (count, workload.reduction, panel), count * panel)


def pack(weights: np.ndarray, packed: PackedWeights) -> np.ndarray:
    """OHWI weights in layout ``panels``."""
    count, reduction, panel = packed.shape
    padded = np.zeros((count * panel, reduction), weights.dtype)
    padded[: len(weights)] = weights.reshape(len(weights), reduction)
    return np.ascontiguousarray(padded.reshape(count, panel, reduction).swapaxes(1, 2))


def pack_bias(bias: np.ndarray, packed: PackedWeights) -> np.ndarray:
    """Bias of shape ``(M,)`` filled up with zeros to ``(bias_elements,)``."""
    padded = np.zeros(packed.bias_elements, bias.dtype)
    padded[: len(bias)] = bias
    return padded
