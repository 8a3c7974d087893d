"""How weights are laid out for the micro-kernel.

Layout ``panels``: ``[ceil(M / panel)][K_h K_w C][panel]``. The weights that one step of a
register tile needs stand side by side, in the order in which the steps come. Channels that fill
up the last panel are zero, in the weights and in the bias.

Layout ``channels``: ``[ceil(M / panel)][C][K_h K_w][panel]``, panels with all taps of a channel
side by side.

Layout ``rows``: ``[M][K_h K_w C]``, the order of TFLite's CONV_2D and FULLY_CONNECTED. Layout
``taps``: ``[K_h][K_w][M]``, that of its DEPTHWISE_CONV_2D. Neither weights nor bias are filled up,
so that a kernel can read them where the model has them.

Layout ``words``: ``[ceil(M / panel)][steps][panel]`` words of four int8, the elements of a *run*
after those of another, each run filled up with zeros to whole words. A run are the channels of a
tap, or those of all taps of a kernel row, as they stand side by side in the image. Words may also
be of 16, for sums that are spread over lanes, or of 8, for products of matrices.

Layout ``winograd``: ``[n_h n_w][ceil(M / panel)][C][panel]``, one matrix of ``panels`` for each
point of the Winograd domain. Point ``(a, b)`` of the kernel ``g`` that leads from input channel
``c`` to output channel ``m`` is ``(G_h g G_w^T)[a, b]``, computed in double precision and rounded
once, or exactly in int16 by matrices of integers. Weights that the model has in this domain stay as
they are. So they do in layout ``blocks``, see :mod:`schedules.kernel.sparse.blocks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from schedules.kernel.sparse.blocks import index_bytes, pack_blocks, pointer_bytes
from schedules.layer.rounding import ROUNDINGS
from schedules.layer.words import SPREAD, WORD, run_of
from schedules.layer.workload import DTYPE_BYTES, Conv2dWorkload
from schedules.lower.memory import ALIGNMENT, align

#: Where weights come from, as algorithms' knob ``weights`` says: packed for the kernel in the type
#: of its products; packed in the model's own type; or not packed, where and as the model has them.
PACKED, NARROW, IN_PLACE = "packed", "narrow", "in_place"
#: Likewise, packed in words of 16 int8, or one by one, or in words of 8 for products of matrices.
SPREAD_OUT, ONE_BY_ONE, MATRICES = "spread", "elements", "matrices"

#: Bytes of one element of the bias: float32, or int32 in sums of integers.
BIAS_BYTES = 4

#: A small matrix is a tuple of its rows.
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class PackedWeights:
    """Shape of a kernel's weights and bias after packing.

    Parameters
    ----------
    layout : {"panels", "channels", "words", "rows", "taps", "winograd", "blocks"}
        Name of the layout, as the delegate knows it.
    panel : int
        Output channels side by side in one panel; 1 for ``rows`` and ``taps``.
    shape : tuple of int
        Packed weights, in elements.
    bias_elements : int
        Bias, filled up with zeros.
    transform : (Matrix, Matrix) or None
        Layout ``winograd``: ``G_h`` of shape (n_h, K_h) and ``G_w`` of shape (n_w, K_w).
    dtype : str
        Element type of the weights as a kernel reads them.
    run : int
        Layout ``words``: elements of a run. Layout ``blocks`` of a matrix: input channels
        of a row, of which those of the next point follow.
    word : int
        Likewise, of a word: 4, or 8 or 16 as two or four int32, or 1.
    adds_pairs : bool
        Of int8, whether products of two weights are added in 16 bits: those that are eight apart in
        a word of 16, or those of two taps that follow each other. Not both may be -128.
    ratios : tuple of str
        Of a quantised layer, behind the bias and each aligned, there are as many elements of each
        of these types (:data:`schedules.layer.rounding.ROUNDINGS`), and the parameters of
        :mod:`schedules.kernel.quantised`, of a cache line.
    is_dynamic : bool
        Instead of the parameters, there are as many sums of weights.
    rows : int
        Layout ``blocks``: rows of different lengths, or 0 if they are all alike.
    """

    layout: str
    panel: int
    shape: tuple[int, ...]
    bias_elements: int
    transform: tuple[Matrix, Matrix] | None = None
    dtype: str = "float32"
    run: int = 0
    word: int = WORD
    adds_pairs: bool = False
    ratios: tuple[str, ...] = ()
    is_dynamic: bool = False
    rows: int = 0

    def is_in_place(self, layer: Conv2dWorkload) -> bool:
        """Whether the kernel can read the weights of ``layer`` where a model stores them."""
        return self.layout in ("rows", "taps") and self.dtype == layer.weight_dtype

    @property
    def has_scales(self) -> bool:
        """Whether float scales of int8 weights, which are multiplied as floats, follow the bias."""
        return self.dtype == "int8" and not self.ratios and not self.is_dynamic

    @property
    def elements(self) -> int:
        """Elements of the packed weights."""
        return math.prod(self.shape)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the packed weights, without the bias."""
        size = self.elements * DTYPE_BYTES[self.dtype]
        if self.layout == "blocks":
            size += pointer_bytes(self.rows) + index_bytes(self.shape[0])
        return size

    @property
    def bytes(self) -> int:
        """Bytes that a delegate holds: the weights, and behind them, aligned, the bias."""
        return align(self.weight_bytes) + self.constant_bytes

    @property
    def constant_bytes(self) -> int:
        """Bytes of the bias, and of what is behind it."""
        bias = self.bias_elements * BIAS_BYTES
        if self.has_scales:
            return align(bias) + bias
        if self.is_dynamic:
            return 2 * align(bias) + bias
        if not self.ratios:
            return bias
        sizes = (self.bias_elements * np.dtype(name).itemsize for name in self.ratios)
        return align(bias) + sum(map(align, sizes)) + ALIGNMENT


def has_narrow_weights(layer: Conv2dWorkload) -> bool:
    """Whether the model has its weights in fewer bytes than the factors of its products."""
    return DTYPE_BYTES[layer.weight_dtype] < layer.element_bytes and not layer.is_dynamic


def panels(workload: Conv2dWorkload, panel: int) -> PackedWeights:
    """Layout ``panels`` for the weights of ``workload``."""
    count = -(-workload.out_channels // panel)
    shape = (count, workload.reduction, panel)
    return PackedWeights("panels", panel, shape, count * panel, dtype=workload.weight_dtype)


def channels(workload: Conv2dWorkload, panel: int) -> PackedWeights:
    """Layout ``channels`` for the weights of ``workload``."""
    count = -(-workload.out_channels // panel)
    taps = workload.kernel_height * workload.kernel_width
    shape = (count, workload.in_channels, taps, panel)
    return PackedWeights("channels", panel, shape, count * panel, dtype=workload.weight_dtype)


def words(workload: Conv2dWorkload, panel: int, word: int = WORD) -> PackedWeights:
    """Layout ``words`` for the weights of a quantised ``workload``."""
    run = run_of(workload)
    count = -(-workload.out_channels // panel)
    steps = workload.reduction // run * -(-run // word)
    shape = (count, steps, -(-word // WORD) * panel)
    return PackedWeights(
        "words",
        panel,
        shape,
        count * panel,
        dtype="int32" if word > 1 else "int8",
        run=run,
        word=word,
        adds_pairs=word == SPREAD * WORD,
        ratios=ROUNDINGS.get(workload.rounding, ()),
        is_dynamic=workload.is_dynamic,
    )


def rows(workload: Conv2dWorkload) -> PackedWeights:
    """Layout ``rows`` for the weights of ``workload``."""
    channels = workload.out_channels
    shape = (channels, workload.reduction)
    return PackedWeights(
        "rows",
        1,
        shape,
        channels,
        dtype=workload.weight_dtype,
        ratios=ROUNDINGS[workload.rounding] if workload.is_quantised else (),
    )


def taps(workload: Conv2dWorkload, adds_pairs: bool = False) -> PackedWeights:
    """Layout ``taps`` for the weights of a depthwise ``workload``."""
    assert workload.is_depthwise, "taps have no input channels"
    channels, height, width, _ = workload.weight_shape
    return PackedWeights(
        "taps",
        1,
        (height, width, channels),
        channels,
        dtype=workload.weight_dtype,
        adds_pairs=adds_pairs,
        ratios=ROUNDINGS.get(workload.rounding, ()),
        is_dynamic=workload.is_dynamic,
    )


def winograd(
    workload: Conv2dWorkload, panel: int, transform: tuple[Matrix, Matrix] | None
) -> PackedWeights:
    """Layout ``winograd`` for the weights of ``workload``; ``transform`` is ``(G_h, G_w)``.

    Transformed weights are of the type of the products, whatever the model's are. Without a
    ``transform``, the model has them transformed.
    """
    count = -(-workload.out_channels // panel)
    points = math.prod(map(len, transform) if transform else workload.weight_shape[1:3])
    shape = (points, count, workload.in_channels, panel)
    return PackedWeights(
        "winograd",
        panel,
        shape,
        count * panel,
        transform,
        "int16" if workload.is_quantised else workload.dtype,
        ratios=ROUNDINGS.get(workload.rounding, ()),
    )


def pack(weights: np.ndarray, packed: PackedWeights) -> np.ndarray:
    """OHWI weights in the layout and type of ``packed``."""
    if packed.layout == "words":
        return _pack_words(weights, packed)
    if packed.layout == "blocks":
        blocks = weights.reshape(len(weights), 1, -1, packed.run) if packed.run else weights
        return pack_blocks(blocks, packed)
    if packed.transform is None:
        weights = weights.astype(packed.dtype, copy=False)
    if packed.layout in ("rows", "taps"):
        order = (0, 1, 2, 3) if packed.layout == "rows" else (1, 2, 0, 3)
        return np.ascontiguousarray(weights.transpose(order)).reshape(packed.shape)
    if packed.layout == "channels":
        weights = weights.transpose(0, 3, 1, 2)
        count, *depth, panel = packed.shape
        shape = (count, math.prod(depth), panel)
        return pack(weights, replace(packed, layout="panels", shape=shape)).reshape(packed.shape)
    *points, count, reduction, panel = packed.shape
    if packed.transform is not None:
        rows, columns = (np.array(matrix) for matrix in packed.transform)
        taps = weights.astype(np.float64).reshape(len(weights), rows.shape[1], -1, reduction)
        exact = np.einsum("ai,mijc,bj->abmc", rows, taps, columns)
        matrices = exact.astype(packed.dtype).reshape(*points, len(weights), reduction)
    else:
        taps = weights.reshape(len(weights), *points, reduction)
        matrices = np.moveaxis(taps, 0, -2)
    padded = np.zeros((*points, count * panel, reduction), packed.dtype)
    padded[..., : len(weights), :] = matrices
    return np.ascontiguousarray(padded.reshape(*points, count, panel, reduction).swapaxes(-1, -2))


def _pack_words(weights: np.ndarray, packed: PackedWeights) -> np.ndarray:
    runs = weights.reshape(len(weights), -1, packed.run)
    count, steps, _ = packed.shape
    whole = steps // runs.shape[1] * packed.word
    padded = np.zeros((count * packed.panel, runs.shape[1], whole), np.int8)
    padded[: len(weights), :, : packed.run] = runs
    panels_ = padded.reshape(count, packed.panel, steps, packed.word).swapaxes(1, 2)
    return np.ascontiguousarray(panels_).view(packed.dtype).reshape(packed.shape)


def pack_bias(bias: np.ndarray, packed: PackedWeights) -> np.ndarray:
    """Bias of shape ``(M,)`` filled up with zeros to ``(bias_elements,)``."""
    padded = np.zeros(packed.bias_elements, bias.dtype)
    padded[: len(bias)] = bias
    return padded
