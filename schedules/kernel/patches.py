"""The patch matrix: one row for each output pixel, one column for each kernel tap and channel.

It is described, not necessarily stored: :class:`ImagePatches` reads its elements where they lie in
the input, :class:`GatheredPatches` from a buffer that :func:`gather` has filled. The micro-kernel
takes either. Elements beyond the border are zero; a *mask* is the list of conditions under which an
element is not.

Patches of int8 images are words of four elements (:mod:`schedules.layer.words`). Elements beyond
the border are then the image's zero point, which is data: a kernel's bias is reduced by the zero
point times the sum of all weights, wherever these lie. Elements that fill up a run are multiplied
by zeros, and never loaded: the image may end there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import te, tirx
from tvm.tirx import Expr

from schedules.kernel.hybrid.constants import DynamicConstants
from schedules.kernel.packing import PackedWeights
from schedules.kernel.quantised.constants import Constants
from schedules.layer.words import WORD, run_of, words
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.integers import negated, word
from schedules.target.simd import Simd

#: Flat taps of so many elements are one block of reduction steps, of more equal ones: a 7x7 layer
#: of 3 channels takes .75 of the instructions that it takes in blocks of less than a vector.
MAX_FLAT_BLOCK = 21


def masked(mask: Sequence[Expr], value: Expr, dtype: str) -> Expr:
    """``value`` where every condition of ``mask`` holds, else zero."""
    return replaced(mask, value, tirx.const(0, dtype))


def replaced(mask: Sequence[Expr], value: Expr, other: Expr) -> Expr:
    """``value`` where every condition of ``mask`` holds, else ``other``."""
    return tirx.if_then_else(tirx.all(*mask), value, other) if mask else value


@dataclass(frozen=True)
class Taps:
    """The columns of the patch matrix as three loops: kernel rows, kernel columns, channels.

    ``flat`` taps have all kernel columns of a row in ``depth``: ``K_w C`` contiguous elements of
    the image. With few channels, as in a network's first layer, vectors would else be mostly empty.
    Those of a quantised layer are words: ``depth`` is that of a run. ``side_by_side`` are those of
    pixels that have nothing else between them, and never compete for a set of a cache. ``shared``
    are flat taps of pixels so near each other that an element belongs to several: a tile loads it
    once. They begin anywhere in a vector, so that LLVM finds few of their loads equal. Those that
    are multiplied with weights ``made_in_kernel`` leave a register to spare.
    """

    rows: int
    columns: int
    depth: int
    flat: bool = False
    side_by_side: bool = False
    shared: bool = False
    made_in_kernel: bool = False

    def axes(self) -> tuple[tirx.IterVar, tirx.IterVar, tirx.IterVar]:
        """The loops as the reduction axes ``kh``, ``kw`` and ``c``."""
        sizes = {"kh": self.rows, "kw": self.columns, "c": self.depth}
        kh, kw, c = (te.reduce_axis((0, size), name=name) for name, size in sizes.items())
        return kh, kw, c

    def equal_block(self, most: int) -> int:
        """The largest block of ``most`` steps or fewer that divides ``depth``."""
        return max(block for block in range(1, most + 1) if self.depth % block == 0)

    @property
    def is_one_block(self) -> bool:
        """Whether all steps of a kernel row are unrolled together."""
        return self.flat and self.depth <= MAX_FLAT_BLOCK

    @classmethod
    def of_elements(cls, workload: Conv2dWorkload) -> Taps:
        """The loops for a quantised ``workload`` whose elements are multiplied one by one."""
        _, height, width, channels = workload.weight_shape
        run = run_of(workload)
        flat = run > channels
        return cls(height, 1 if flat else width, run, flat)

    @classmethod
    def of(cls, workload: Conv2dWorkload, simd: Simd) -> Taps:
        """The loops for ``workload`` on ``simd``."""
        _, height, width, channels = workload.weight_shape
        if workload.is_quantised:
            run = run_of(workload)
            flat = run > channels
            return cls(height, 1 if flat else width, words(run), flat)
        few = channels < simd.lanes(workload.dtype)
        contiguous = workload.dilation_width == 1 and workload.in_pitch == channels
        if few and width > 1 and contiguous:
            return cls(height, 1, width * channels, flat=True)
        return cls(height, width, channels)

    @classmethod
    def in_image(cls, workload: Conv2dWorkload, simd: Simd) -> Taps:
        """:meth:`of` where patches lie in the input itself: floats, loaded by vectors, shared."""
        taps = cls.of(workload, simd)
        overlap = taps.is_one_block and pixel_step(workload) < taps.depth
        is_loaded = simd.fma_by_element and workload.dtype == "float32"
        return replace(taps, shared=overlap and is_loaded)


def pixel_step(workload: Conv2dWorkload) -> int:
    """Elements of an image row from one pixel's taps to the next one's."""
    return workload.stride_width * workload.in_pitch


def tile_depth(workload: Conv2dWorkload, taps: Taps, columns: int) -> int:
    """Elements of a kernel row under a tile of so many pixels."""
    return (columns - 1) * pixel_step(workload) + taps.depth


def image_loads(workload: Conv2dWorkload, simd: Simd, taps: Taps, pixels: int) -> float:
    """Instructions of a reduction step that load the image, vectors of it, for so many pixels."""
    lanes = simd.lanes(workload.dtype)
    if taps.shared:  # two vectors at once
        return tile_depth(workload, taps, pixels) / (2 * lanes * taps.depth)
    # Words that no channel's run fills are made of bytes by scalar instructions.
    return 4 * pixels if taps.flat and workload.dtype == "int32" else pixels / lanes


def loads_by_vectors(dtype: str, simd: Simd) -> bool:
    """Whether a step's weights are loaded two by two, each for all pixels of a tile.

    Else all of them are, for one pixel after the other. Two leave more registers for sums; but
    in-order cores load all ahead.
    """
    return simd.fma_by_element and not simd.in_order and dtype in ("float32", "float16")


def takes_every_register(workload: Conv2dWorkload, simd: Simd, taps: Taps) -> bool:
    """Whether tiles do without a register to spare: by vectors, of pixels with a single tap.

    Those of several taps share elements, which LLVM keeps. Nor do products of blocks of channels,
    or with weights that the kernel makes: it spilled 37 times in a loop of 192 multiply-adds.
    """
    is_whole = workload.is_pointwise and taps.depth == workload.in_channels
    return is_whole and not taps.made_in_kernel and loads_by_vectors(workload.dtype, simd)


def weight_registers(workload: Conv2dWorkload, simd: Simd, taps: Taps, vectors: int) -> int:
    """Registers for a step's ``vectors`` of weights, and to spare."""
    if takes_every_register(workload, simd, taps):
        return min(vectors, 3 if vectors % 2 else 2)  # pairs, of which one may be of two steps
    return vectors + 1


@dataclass(frozen=True)
class Patches(ABC):
    """A patch matrix whose rows are arranged as ``shape = (batch, rows, columns)`` of pixels.

    Register tiles are ``tile_columns`` pixels wide.
    """

    workload: Conv2dWorkload
    source: te.Tensor
    taps: Taps
    tile_columns: int = 1

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Batch, rows and columns of the output pixels."""

    @property
    def columns(self) -> int:
        """How far ``w`` runs: the pixels of a row, rounded up to whole tiles."""
        return -(-self.shape[2] // self.tile_columns) * self.tile_columns

    def row_mask(self, h: Expr, kh: Expr) -> list[Expr]:
        """Conditions that depend on the pixel's row and the kernel's row alone."""
        return []

    def column_mask(self, w: Expr, kw: Expr, c: Expr) -> list[Expr]:
        """The other conditions. ``w`` runs to the end of the last tile."""
        return inside(w, False, self.columns - 1, self.shape[2])

    def masked_element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        """The element, or what stands for it beyond the border."""
        mask = self.row_mask(h, kh) + self.column_mask(w, kw, c)
        return masked(mask, self.element(n, h, w, kh, kw, c), str(self.source.dtype))

    @property
    def in_words(self) -> bool:
        """Whether elements are words of several, as :mod:`schedules.layer.words` has them."""
        return self.workload.is_quantised

    @abstractmethod
    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        """The element, where the masks hold."""


class ImagePatches(Patches):
    """Patches where they lie in the input, an ``(N, H, W pitch)`` tensor."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.workload.output_shape[:3]

    def row(self, h: Expr, kh: Expr) -> Expr:
        """Image row under a tap; beyond the image where it is masked."""
        layer = self.workload
        return h * layer.stride_height + kh * layer.dilation_height - layer.pad_top

    def column(self, w: Expr, kw: Expr) -> Expr:
        """Image column under a tap; beyond the image where it is masked."""
        layer = self.workload
        return w * layer.stride_width + kw * layer.dilation_width - layer.pad_left

    def row_mask(self, h: Expr, kh: Expr) -> list[Expr]:
        layer = self.workload
        last = self.row(layer.out_height - 1, layer.kernel_height - 1)
        return inside(self.row(h, kh), layer.pad_top > 0, last, layer.in_height)

    def column_mask(self, w: Expr, kw: Expr, c: Expr) -> list[Expr]:
        layer = self.workload
        last = self.column(self.columns - 1, layer.kernel_width - 1)
        tap = c // layer.in_channels if self.taps.flat else kw
        return inside(self.column(w, tap), layer.pad_left > 0, last, layer.in_width)

    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        # Flat taps: kw is 0, and c runs over the columns from there on.
        return self.source[n, self.row(h, kh), self.column_offset(w, kw) + c]

    def column_offset(self, w: Expr, kw: Expr) -> Expr:
        """First element of the tap in its image row."""
        return self.column(w, kw) * self.workload.in_pitch


@dataclass(frozen=True)
class WordPatches(ImagePatches):
    """Words of patches where they lie in the input.

    ``zero`` takes an image's number, and gives a word of its zero points.
    """

    zero: Callable[[Expr], Expr] | None = None

    def masked_element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        """The word, or zero points beyond the border."""
        assert self.zero is not None, "what is beyond the border of integers is their zero point"
        zero, mask = self.zero(n), self.row_mask(h, kh)
        run, splits = run_of(self.workload), self.taps.flat and self.workload.in_channels % WORD > 0
        elements, element_type = [], str(self.source.dtype)
        if not splits:
            mask = mask + self.column_mask(w, kw, WORD * c)
        for place in range(WORD):
            position = WORD * c + place
            value = self.element(n, h, w, kh, kw, position)
            if splits:  # a word of several columns
                inside = self.column_mask(w, kw, position)
                value = replaced(inside, value, tirx.Cast(element_type, zero))
            filled = [position < run] if run % WORD else []
            elements.append(replaced(filled, value, tirx.const(0, element_type)))
        return replaced(mask, word(*elements), zero)


@dataclass(frozen=True)
class ElementPatches(ImagePatches):
    """Patches of int8 as negated int16, for products of one element.

    ``zero`` takes an image's number, and gives its zero point.
    """

    zero: Callable[[Expr], Expr] | None = None

    def masked_element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        """The element, or the zero point beyond the border."""
        assert self.zero is not None, "what is beyond the border of integers is their zero point"
        mask = self.row_mask(h, kh) + self.column_mask(w, kw, c)
        return negated(replaced(mask, self.element(n, h, w, kh, kw, c), self.zero(n)))


def image_patches(
    layer: Conv2dWorkload,
    image: te.Tensor,
    taps: Taps,
    constants: Constants,
    columns: int = 1,
    one_by_one: bool = False,
) -> ImagePatches:
    """Patches where they lie in the input, of whatever type; integers know the zero point."""
    if not layer.is_quantised:
        return ImagePatches(layer, image, taps, columns)
    if one_by_one:
        return ElementPatches(layer, image, taps, columns, constants.zero_point)
    return WordPatches(layer, image, taps, columns, constants.zero_word)


def inside(position: Expr, can_precede: bool, last: int, size: int) -> list[Expr]:
    """Only those bounds of ``0 <= position < size`` that can fail."""
    return [position >= 0] * can_precede + [position < size] * (last >= size)


class GatheredPatches(Patches):
    """Patches in a buffer ``(N H' W', K_h, K_w, C)``: one long row of pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 1, self.workload.pixels)

    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        return self.source[w, kh, kw, c]


def gather(source: ImagePatches) -> te.Tensor:
    """Store the patch matrix: block ``P`` of shape ``(N H' W', K_h, K_w, C)``."""
    batch, height, width = source.shape
    taps = source.taps

    def element(pixel: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        n, h, w = pixel // (height * width), pixel // width % height, pixel % width
        return source.masked_element(n, h, w, kh, kw, c)

    shape = (batch * height * width, taps.rows, taps.columns, taps.depth)
    return te.compute(shape, element, name="P")


def placeholders(
    workload: Conv2dWorkload, packed: PackedWeights
) -> tuple[te.Tensor, te.Tensor, Constants]:
    """The kernel's arguments: input X, ``(N, H, W pitch)``, packed weights W, and constants.

    Of a hybrid layer, what is multiplied is Q, the int8 of its input.
    """
    batch, height, width, _ = workload.input_shape
    shape = (batch, height, width * workload.in_pitch)
    is_dynamic = workload.is_dynamic
    name, dtype = ("Q", "int8") if is_dynamic else ("X", workload.dtype)
    kind = DynamicConstants if is_dynamic else Constants
    return (
        te.placeholder(shape, dtype, name=name),
        te.placeholder(packed.shape, packed.dtype, name="W"),
        kind.of(workload, packed),
    )


def pair_of_taps(
    layer: Conv2dWorkload, pair: Expr, factors: Callable[[Expr, Expr], Sequence[Expr]]
) -> Expr:
    """Products of two taps of a depthwise ``layer`` that follow each other, added in 16 bits.

    ``factors`` are the element and the weight of a tap, of its kernel row and column.
    """
    total = tirx.const(0, "int16")
    for tap in (2 * pair, 2 * pair + 1):
        element, weight = factors(tap // layer.kernel_width, tap % layer.kernel_width)
        last = [tap < layer.reduction] if layer.reduction % 2 else []
        total = total + masked(last, element * weight, "int16")
    return total.astype("int32")
