"""Weights that a model has in Winograd's domain: trained there, and perhaps pruned there.

Li, Park and Tang, "Enabling Sparse Winograd Convolution by Native Pruning" (arXiv 1702.08597); with
a ReLU there, Liu, Pool, Han and Dally, "Efficient Sparse-Winograd Convolutional Neural Networks"
(arXiv 1802.06367).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schedules.errors import LeanconvError

if TYPE_CHECKING:
    import numpy as np

#: Output channels of a block of weights that are zero together, the largest first.
BLOCKS = (32, 16, 8)
#: Blocks of so many channels count where at most so many times as many weights are in those that
#: are left as in those of half the size: products with longer vectors take so much less time. On a
#: Zen 4, blocks of 8 take 1.2 times as long for each weight as those of 16 and 32, which are alike
#: (`scripts.benchmarks.sparse.crossover`); a Cortex-A76 takes 1.17 times as many instructions in
#: blocks of 8 as of 16, and 1.07 in those as in blocks of 32.
WORTH = {32: 1.05, 16: 1.2}

#: What :meth:`WinogradWeights.to_text` writes.
_TEXT = re.compile(
    r"f(?P<outputs>[24])(?P<relu>r)?(?:z(?P<zeros>\d\d?)x(?P<block>8|16|32)(?P<balanced>=)?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class WinogradWeights:
    """What is known of them before they are: a kernel serves all that match.

    Parameters
    ----------
    outputs : int
        The m of F(m, r).
    relu : bool
        Whether the transformed image passes a ReLU before it is multiplied.
    zeros : int
        Percent, rounded down, of blocks that are all zero: of ``block`` output channels, at one
        point and of one input channel.
    block : int
        One of :data:`BLOCKS`, or 0 without zeros.
    balanced : bool
        Whether as many blocks are left of all input channels, for each block of output channels at
        each point.
    """

    outputs: int
    relu: bool = False
    zeros: int = 0
    block: int = 0
    balanced: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.zeros < 100:
            raise LeanconvError(f"{self.zeros} % of weights are zero: 0 to 99")
        if (self.block not in BLOCKS) if self.zeros else (self.block or self.balanced):
            raise LeanconvError(f"{self.zeros} % zeros in blocks of {self.block} channels")

    @classmethod
    def of(cls, weights: np.ndarray, outputs: int, relu: bool = False) -> WinogradWeights:
        """Of ``weights`` (M, n_h, n_w, C), by the size of blocks that leaves the least to do."""
        counts = {block: kept_blocks(weights, block) for block in BLOCKS}
        left = {block: count.sum() / _all(count, weights) for block, count in counts.items()}
        block = next(
            (size for size, most in WORTH.items() if left[size] <= most * left[size // 2]),
            BLOCKS[-1],
        )
        percent = min(int(100 * (1 - left[block])), 99)
        if percent == 0:
            return cls(outputs, relu)
        count = counts[block]
        capacity = blocks_per_panel(percent, weights.shape[3])
        balanced = bool((count == count.max()).all()) and int(count.max()) <= capacity
        return cls(outputs, relu, percent, block, balanced)

    def to_text(self) -> str:
        """Every field in one word that :meth:`from_text` reads, e.g. ``f4rz80x16``."""
        text = f"f{self.outputs}" + "r" * self.relu
        return text + (f"z{self.zeros}x{self.block}" + "=" * self.balanced if self.zeros else "")

    @classmethod
    def from_text(cls, text: str) -> WinogradWeights:
        """The inverse of :meth:`to_text`; raises LeanconvError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise LeanconvError(f"{text!r} describes no weights of Winograd's domain")
        return cls(
            int(match["outputs"]),
            bool(match["relu"]),
            int(match["zeros"] or 0),
            int(match["block"] or 0),
            bool(match["balanced"]),
        )

    def describe(self) -> str:
        """For tables and profiles, e.g. ``F4 80% zero``."""
        text = f"F{self.outputs}" + " with ReLU" * self.relu
        return text + (f" {self.zeros}% zero" if self.zeros else "")


def blocks_per_panel(zeros: int, channels: int) -> int:
    """Blocks that are left of ``channels`` input channels, at most, if each panel has as many."""
    return max(1, -(-channels * (100 - zeros) // 100))


def kept_blocks(weights: np.ndarray, block: int) -> np.ndarray:
    """Blocks of ``weights`` (M, n_h, n_w, C) with a weight that is not zero.

    Their number for each panel of ``block`` output channels: (n_h, n_w, ceil(M / block)).
    """
    import numpy as np  # not for who asks for help alone

    starts = np.arange(0, len(weights), block)
    kept = np.logical_or.reduceat(weights != 0, starts, axis=0)
    return np.moveaxis(kept.sum(axis=3), 0, 2)


def _all(counts: np.ndarray, weights: np.ndarray) -> int:
    return int(counts.size * weights.shape[3])
