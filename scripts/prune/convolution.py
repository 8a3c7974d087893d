"""What a convolution with weights in the Winograd domain computes, apart from its weights.

Output tile ``y`` (m, m) of an input tile ``d`` (n, n), ``n = m + r - 1``, for output channel o::

    y_o = activation(A^T [sum_c U[:, :, c, o] * f(B^T d_c B)] A + bias_o)

with ``f`` the identity, or ReLU for a Winograd-ReLU layer. ``A`` and ``B`` are those of
:func:`schedules.transforms.cook_toom.filtering`, at its default points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from schedules.errors import LeanconvError
from schedules.transforms.cook_toom import as_floats, filtering

PADDINGS = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU6")


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of one image axis lie.

    Parameters
    ----------
    outputs, tiles : int
        Output positions, and tiles that cover them: the last one may reach beyond.
    before, after : int
        Zeros around the input such that every tile has all of its inputs.
    """

    outputs: int
    tiles: int
    before: int
    after: int


@dataclass(frozen=True)
class Convolution:
    """A layer of stride 1 in the Winograd domain.

    Parameters
    ----------
    m, r : int
        Output tile and kernel, both square: F(m x m, r x r).
    winograd_relu : bool
        Whether ReLU is applied to the transformed input tiles.
    padding : {"SAME", "VALID"}
        As TensorFlow means it.
    activation : {"NONE", "RELU", "RELU6"}
        Of the output.

    Raises
    ------
    LeanconvError
        If a value is none of these, or no F(m, r) is known.
    """

    m: int = 4
    r: int = 3
    winograd_relu: bool = False
    padding: str = "SAME"
    activation: str = "NONE"

    def __post_init__(self) -> None:
        if self.padding not in PADDINGS:
            raise LeanconvError(f"padding {self.padding!r} is not {' or '.join(PADDINGS)}")
        if self.activation not in ACTIVATIONS:
            raise LeanconvError(f"activation {self.activation!r}: not of {', '.join(ACTIVATIONS)}")
        filtering(self.m, self.r)

    @property
    def n(self) -> int:
        """Inputs of a tile along one axis."""
        return self.m + self.r - 1

    def tiling(self, inputs: int) -> Tiling:
        """The tiles of an axis with ``inputs`` positions."""
        is_same = self.padding == "SAME"
        outputs = inputs if is_same else inputs - self.r + 1
        if outputs < 1:
            raise LeanconvError(
                f"{inputs} positions hold no {self.r}x{self.r} kernel without zeros"
            )
        tiles = -(-outputs // self.m)
        before = (self.r - 1) // 2 if is_same else 0
        return Tiling(outputs, tiles, before, tiles * self.m + self.r - 1 - before - inputs)

    @cached_property
    def image_transform(self) -> np.ndarray:
        """``B^T`` of whole tiles, float32 (n, n, n²).

        ``[i, j, a n + b] = B^T[a, i] B^T[b, j]``.
        """
        image = as_floats(filtering(self.m, self.r).image)
        product = np.einsum("ai,bj->ijab", image, image)
        return product.reshape(self.n, self.n, self.n**2).astype(np.float32)

    @cached_property
    def output_transform(self) -> np.ndarray:
        """``A^T`` of whole tiles, float32 (m², n²).

        ``[y m + x, a n + b] = A^T[y, a] A^T[x, b]``.
        """
        output = as_floats(filtering(self.m, self.r).output)
        product = np.einsum("ya,xb->yxab", output, output)
        return product.reshape(self.m**2, self.n**2).astype(np.float32)

    def transformed(self, kernel: np.ndarray) -> np.ndarray:
        """``G g G^T`` of a kernel (r, r, C, O), in float64: (n², C, O)."""
        transform = as_floats(filtering(self.m, self.r).kernel)
        product = np.einsum("ai,ijco,bj->abco", transform, kernel, transform)
        return product.reshape(self.n**2, *kernel.shape[2:])
