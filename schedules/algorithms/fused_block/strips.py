"""What ``fused_block`` computes: the strips of a block of layers, and the sums in them.

See :mod:`schedules.algorithms.fused_block.fused_block` for the source. Tensors are named ``E``
(expanded, by the producer) and ``D`` (the depthwise layer's output).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tvm import te, tirx
from tvm.tirx import Expr

from schedules.kernel.epilogue import finish, finished
from schedules.kernel.knobs import Knobs
from schedules.kernel.microkernel import patch_sums
from schedules.kernel.patches import (
    ImagePatches,
    Taps,
    image_patches,
    masked,
    pair_of_taps,
    replaced,
)
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.tiles import Tile
from schedules.layer.block import Block
from schedules.layer.words import WORD
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.integers import dot4, word
from schedules.lower.memory import align
from schedules.target.simd import Simd


@dataclass(frozen=True)
class Strips:
    """How a block is cut into strips of output rows, and those into blocks of channels.

    Parameters
    ----------
    block : Block
    strip_rows : int
        Output rows of a strip; the last one may reach beyond the image.
    row_block : int
        Rows of D that are stored at a time; a divisor of ``strip_rows``.
    c_block : int
        Channels of E and D that are stored at a time; a divisor of all of them.
    depthwise_columns : int
        Pixels side by side in the depthwise layer's tile.
    """

    block: Block
    strip_rows: int
    row_block: int
    c_block: int
    depthwise_columns: int = 1

    @classmethod
    def of(cls, block: Block, knobs: Knobs) -> Strips:
        """The strips in an algorithm's knobs."""
        names = ("strip_rows", "row_block", "c_block", "depthwise_columns")
        return cls(block, **{name: knobs[name] for name in names})

    @property
    def producer(self) -> Conv2dWorkload | None:
        """The layer before the depthwise one."""
        return self.block.layers[0] if len(self.block.layers) == 3 else None

    @property
    def depthwise(self) -> Conv2dWorkload:
        """The depthwise layer."""
        return self.block.layers[-2]

    @property
    def projection(self) -> Conv2dWorkload:
        """The last, pointwise layer."""
        return self.block.layers[-1]

    @property
    def channels(self) -> int:
        """Of E and D."""
        return self.depthwise.in_channels

    @property
    def c_blocks(self) -> int:
        """Blocks of channels."""
        return self.channels // self.c_block

    @property
    def count(self) -> int:
        """Strips of one image."""
        return -(-self.depthwise.out_height // self.strip_rows)

    def reached_rows(self, rows: int) -> int:
        """Rows of the depthwise layer's padded input under so many rows of its output."""
        layer = self.depthwise
        last = (rows - 1) * layer.stride_height
        return last + (layer.kernel_height - 1) * layer.dilation_height + 1

    def input_row(self, strip: Expr | int, row: Expr | int) -> Expr | int:
        """Row of the depthwise layer's input that is row ``row`` of those a strip reaches."""
        layer = self.depthwise
        return strip * (self.strip_rows * layer.stride_height) + row - layer.pad_top

    def row_mask(self, row: Expr) -> list[Expr]:
        """Conditions under which such a row is in the image: only those that can fail."""
        layer = self.depthwise
        last = self.input_row(self.count - 1, self.reached_rows(self.strip_rows) - 1)
        inside = [row >= 0] * (layer.pad_top > 0)
        return inside + [row < layer.in_height] * (last >= layer.in_height)

    @property
    def rolls(self) -> bool:
        """Whether row blocks of a strip share rows of E."""
        shared = self.reached_rows(1) > self.depthwise.stride_height
        return shared and self.producer is not None and self.strip_rows > self.row_block

    @property
    def expanded_rows(self) -> int:
        """Rows of E that are computed for an image: those between strips more than once."""
        reach = self.reached_rows(self.strip_rows)
        first = [self.input_row(strip, 0) for strip in range(self.count)]
        height = self.depthwise.in_height
        return sum(max(0, min(row + reach, height) - max(row, 0)) for row in first)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers, with those for rows between strips done again."""
        again = 0
        if self.producer is not None:
            rows = self.expanded_rows - self.depthwise.in_height
            again = rows * (self.producer.macs // self.producer.out_height)
        return self.block.macs + again

    @property
    def moved_elements(self) -> int:
        """Sums that are read and written again: all of the output for every block of channels."""
        if self.c_blocks == 1:
            return 0
        return self.c_blocks * math.prod(self.block.output_shape)

    @property
    def expanded_bytes(self) -> int:
        """Bytes of E: one block of channels of the rows that a row block reaches."""
        if self.producer is None:
            return 0
        pixels = self.reached_rows(self.row_block) * self.depthwise.in_width
        return pixels * self.c_block * self.block.element_bytes

    @property
    def depthwise_bytes(self) -> int:
        """Bytes of D: one block of channels of a row block."""
        pixels = self.row_block * self.depthwise.out_width
        return pixels * self.c_block * self.block.element_bytes

    @property
    def workspace_bytes(self) -> int:
        """Bytes of E and D for one thread."""
        return align(self.expanded_bytes) + self.depthwise_bytes


def expand(
    strips: Strips,
    simd: Simd,
    tile: Tile,
    image: te.Tensor,
    weights: te.Tensor,
    constants: Sequence[Constants],
    has_bias: bool,
) -> te.Tensor:
    """Block ``E`` of shape (N, strips, rows, W, C): the producer's output.

    Its sums are block ``ACC0``, which may have the bias already. Rows above and below the image
    are zeros, or zero points, which the depthwise layer pads with: activated biases would be wrong.
    """
    layer = strips.producer
    assert layer is not None
    own, following = constants[:2]
    patches = image_patches(layer, image, Taps.in_image(layer, simd), own, tile.columns)
    sums = patch_sums(layer, patches, weights, tile, layer="0")

    def element(n: Expr, s: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        row = strips.input_row(s, h)
        inside = strips.row_mask(row)
        # Any row serves where none is inside; its sums are never computed.
        nearest = tirx.max(tirx.min(row, layer.out_height - 1), 0) if inside else row
        total = sums[n, nearest, w, c]
        if layer.is_quantised:
            value = own.requantise(total, c, layer.out_channels)
            return replaced(inside, value, zero_of(following, layer))
        added = tirx.const(0, layer.dtype) if has_bias else own.bias[c]
        return masked(inside, finish(total, added, layer), layer.dtype)

    rows = strips.reached_rows(strips.strip_rows)
    shape = (layer.batch, strips.count, rows, layer.out_width, layer.out_channels)
    return te.compute(shape, element, name="E")


def zero_of(constants: Constants, layer: Conv2dWorkload) -> Expr:
    """The element that stands for zero in the input of the quantised layer of ``constants``."""
    return constants.parameter("zero_word").astype(layer.dtype)


def convolve_depthwise(
    strips: Strips,
    source: te.Tensor,
    weights: te.Tensor,
    constants: Constants,
    paired: bool = False,
) -> te.Tensor:
    """Block ``D`` of shape (N, strips, rows, W', C): the depthwise layer's output, without bias.

    ``source`` is E or, without a producer, the image. Its sums are block ``ACC1``, in whole tiles;
    those of integers may be of products ``paired`` in 16 bits.
    """
    layer = strips.depthwise
    taps = Taps(layer.kernel_height, layer.kernel_width, 1)
    patches = ImagePatches(layer, source, taps, strips.depthwise_columns)
    kh, kw, _ = taps.axes()

    def read(place: Sequence[Expr], kh: Expr, kw: Expr) -> tuple[Expr, list[Expr]]:
        """What a tap multiplies, and whether that is in the image, but for its columns."""
        n, s, h, w, c = place
        row = h * layer.stride_height + kh * layer.dilation_height
        if strips.producer is None:
            row = strips.input_row(s, row)
            return source[n, row, patches.column_offset(w, kw) + c], strips.row_mask(row)
        return source[n, s, row, patches.column(w, kw), c], []

    def factors(place: Sequence[Expr], kh: Expr, kw: Expr) -> list[Expr]:
        element, mask = read(place, kh, kw)
        *_, w, c = place
        mask = mask + patches.column_mask(w, kw, c)
        element = replaced(mask, element, zero_of(constants, layer))
        return [factor.astype("int16") for factor in (element, weights[kh, kw, c])]

    def sum_of_integers(*place: Expr) -> Expr:
        # Instructions widen what they multiply of 16 bits.
        element, weight = (factor.astype("int32") for factor in factors(place, kh, kw))
        return te.sum(element * weight, axis=[kh, kw])

    pair = te.reduce_axis((0, -(-layer.reduction // 2)), name="pair")

    def sum_of_pairs(*place: Expr) -> Expr:
        return te.sum(pair_of_taps(layer, pair, partial(factors, place)), axis=pair)

    def sum_of_products(*place: Expr) -> Expr:
        element, mask = read(place, kh, kw)
        *_, w, c = place
        product = element * weights[kh, kw, c].astype(layer.dtype)
        value = masked(patches.column_mask(w, kw, c), product, layer.dtype)
        return te.sum(masked(mask, value, layer.dtype), axis=[kh, kw])

    shape = (layer.batch, strips.count, strips.strip_rows, patches.columns, layer.out_channels)
    definition = sum_of_integers if layer.is_quantised else sum_of_products
    sums = te.compute(shape, sum_of_pairs if paired else definition, name="ACC1")
    no_bias = tirx.const(0, layer.dtype)  # the sums begin with it

    def output(*i: Expr) -> Expr:
        if layer.is_quantised:
            return constants.requantise(sums[i], i[-1], layer.out_channels)
        return finish(sums[i], no_bias, layer)

    return te.compute((*shape[:3], layer.out_width, layer.out_channels), output, name="D")


def project(
    strips: Strips,
    tile: Tile,
    depthwise: te.Tensor,
    weights: te.Tensor,
    constants: Constants,
    has_bias: bool,
) -> tuple[list[te.Tensor], list[te.Tensor]]:
    """Argument ``R``, if there is one; block ``Y``, and its view ``S``, sums of blocks of channels.

    Sums over one block of channels are block ``ACC``. If there is but one, there is no ``S``.
    The sums over all blocks may have the bias already. Those of integers are not blocked.
    """
    layer, size = strips.projection, strips.c_block
    depth = WORD if layer.is_quantised else 1  # channels that a step multiplies
    columns = tile.rounded(layer.out_width)

    def inside(w: Expr) -> list[Expr]:
        return [w < layer.out_width] * (columns > layer.out_width)

    def step(n: Expr, s: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        elements = [depthwise[n, s, h, w, c * depth + place] for place in range(depth)]
        if layer.is_quantised:
            return masked(inside(w), word(*elements), "int32")
        return masked(inside(w), elements[0], layer.dtype)

    element = te.compute(
        (layer.batch, strips.count, strips.strip_rows, columns, strips.channels // depth),
        step,
        name="A",
    )
    k = te.reduce_axis((0, size // depth), name="c")

    def sum_of_products(b: Expr, n: Expr, s: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        c = b * (size // depth) + k
        weight = weights[o // tile.panel, c, o % tile.panel]
        if layer.is_quantised:
            return te.sum(dot4(weight, element[n, s, h, w, c]), axis=[k])
        value = element[n, s, h, w, c] * weight
        return te.sum(masked(inside(w), value, layer.dtype), axis=[k])

    shape = (strips.c_blocks, *element.shape[:-1], weights.shape[0] * tile.panel)
    products = te.compute(shape, sum_of_products, name="ACC")

    def product(b: Expr, n: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        return products[b, n, h // strips.strip_rows, h % strips.strip_rows, w, o]

    if strips.c_blocks == 1:
        *added, output = finished(layer, partial(product, 0), constants, has_bias=has_bias)
        return added, [output]
    block = te.reduce_axis((0, strips.c_blocks), name="block")
    sums = te.compute(
        layer.output_shape, lambda *i: te.sum(product(block, *i), axis=[block]), name="S"
    )
    *added, output = finished(layer, sums, constants, has_bias=has_bias)
    return added, [output, sums]
