"""Geometry of one convolution of volumes: of a CONV_3D.

Tensors are NDHWC. A volume is a stack of images: its rows are those of all images, one behind the
other, and the rows of its kernel likewise. So what is true of a layer of images is true of this one
as well, but for which row of the input a row of the kernel reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from schedules.errors import LeanconvError
from schedules.layer.padding import same_padding
from schedules.layer.workload import Conv2dWorkload

#: What :meth:`Conv3dWorkload.to_text` writes in front of that of a layer of images.
_TEXT = re.compile(
    r"(?P<in_depth>\d+)d k(?P<kernel_depth>\d+)(?: s(?P<stride_depth>\d+))?"
    r"(?: d(?P<dilation_depth>\d+))?(?: p(?P<pad_front>\d+),(?P<pad_back>\d+))? of (?P<images>.*)",
    re.ASCII,
)


@dataclass(frozen=True)
class Conv3dWorkload(Conv2dWorkload):
    """One 3-D convolution with fused bias, activation and residual.

    Parameters
    ----------
    in_depth, kernel_depth, stride_depth, dilation_depth : int
        Along the first axis of a volume, at least 1 each.
    pad_front, pad_back : int
        Images of zeros around the volume.

    All others are those of each image, as :class:`Conv2dWorkload` says. There are no groups, and
    elements are float32.
    """

    in_depth: int = 1
    kernel_depth: int = 1
    stride_depth: int = 1
    dilation_depth: int = 1
    pad_front: int = 0
    pad_back: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out_depth < 1:
            raise LeanconvError(
                f"a kernel of {self.kernel_depth} images does not fit into the {self.in_depth} of "
                "the volume: the output would be empty"
            )
        if self.groups > 1 or self.dtype != "float32" or self.weight_dtype == "int8":
            raise LeanconvError("a convolution of volumes has no groups, and is of floats")

    @classmethod
    def with_padding(cls, padding: str, **geometry: Any) -> Conv3dWorkload:
        """A workload whose explicit padding follows from ``"SAME"`` or ``"VALID"``."""
        if padding == "SAME":
            sizes = [geometry["in_depth"], geometry["kernel_depth"]]
            sizes += [geometry.get(f"{step}_depth", 1) for step in ("stride", "dilation")]
            if min(sizes) < 1:
                raise LeanconvError(f"convolution with a size below 1 along its depth: {sizes}")
            geometry["pad_front"], geometry["pad_back"] = same_padding(*sizes)
        workload = super().with_padding(padding, **geometry)
        assert isinstance(workload, Conv3dWorkload)
        return workload

    @property
    def out_depth(self) -> int:
        """Images of the output."""
        span = (self.kernel_depth - 1) * self.dilation_depth + 1
        return (self.in_depth + self.pad_front + self.pad_back - span) // self.stride_depth + 1

    @property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """``(N, D, H, W, C)``."""
        return (self.batch, self.in_depth, self.in_height, self.in_width, self.in_channels)

    @property
    def weight_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """``(M, K_d, K_h, K_w, C)``."""
        kernel = (self.kernel_depth, self.kernel_height, self.kernel_width)
        return (self.out_channels, *kernel, self.in_channels)

    @property
    def output_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """``(N, D', H', W', M)``."""
        image = (self.out_height, self.out_width, self.out_channels)
        return (self.batch, self.out_depth, *image)

    @property
    def types(self) -> tuple[str, str]:
        """Element types, as algorithms for volumes name them."""
        return f"{self.dtype} volumes", self.weight_dtype

    @property
    def pixels(self) -> int:
        """Output positions of the whole batch."""
        return self.out_depth * super().pixels

    @property
    def is_padded(self) -> bool:
        """Whether any border is padded with zeros."""
        return super().is_padded or bool(self.pad_front or self.pad_back)

    @property
    def is_pointwise(self) -> bool:
        """False: what is so is done as a layer of images."""
        return False

    @property
    def is_depthwise(self) -> bool:
        """False: there are no groups."""
        return False

    def image(self, **sizes: int) -> Conv2dWorkload:
        """The layer of each of its images by itself, or that with other ``sizes``."""
        names = Conv2dWorkload.__dataclass_fields__
        return Conv2dWorkload(**{**{name: getattr(self, name) for name in names}, **sizes})

    def as_images(self) -> Conv2dWorkload | None:
        """The layer of images that computes the same from the same tensors, if there is one.

        A kernel of one image convolves every image by itself. One of a single pixel of several
        images sees a volume as an image: each of its own is a row.
        """
        depth = (self.kernel_depth, self.stride_depth, self.pad_front, self.pad_back)
        if depth == (1, 1, 0, 0):
            return self.image(batch=self.batch * self.in_depth)
        pixel = (self.kernel_height, self.kernel_width, self.stride_height, self.stride_width)
        if pixel != (1, 1, 1, 1) or super().is_padded:
            return None
        return self.image(
            in_height=self.in_depth,
            in_width=self.in_height * self.in_width,
            kernel_height=self.kernel_depth,
            stride_height=self.stride_depth,
            dilation_height=self.dilation_depth,
            pad_top=self.pad_front,
            pad_bottom=self.pad_back,
        )

    def as_rows(self) -> Conv2dWorkload:
        """A layer of images with as many rows of pixels and of taps, whose product is the same.

        Its own input is another one.
        """
        rows, taps = self.out_depth * self.out_height, self.kernel_depth * self.kernel_height
        return self.image(
            in_height=rows + taps - 1,
            kernel_height=taps,
            stride_height=1,
            dilation_height=1,
            pad_top=0,
            pad_bottom=0,
        )

    # Text

    def describe(self) -> str:
        """A short name for tables and profiles, e.g. ``conv3x3x3 s2 8x28x28x64->64 relu``."""
        kind, size = f"conv{self.kernel_height}x", f"{self.in_height}x{self.in_width}x"
        kernel, rest = self.image(batch=1).describe().split(" ", 1)
        kernel = kernel.replace(kind, f"conv{self.kernel_depth}x{self.kernel_height}x", 1)
        depth = f"{self.batch}x{self.in_depth}x" if self.batch > 1 else f"{self.in_depth}x"
        for letter, step in (("s", self.stride_depth), ("d", self.dilation_depth)):
            kernel += f" {letter}d{step}" * (step > 1)
        return f"{kernel} {rest.replace(size, depth + size, 1)}"

    def to_text(self) -> str:
        """Every field in one short line that :meth:`from_text` reads.

        ``8d k3 p1,1 of 28x28x64->64 k3x3 p1,1,1,1 relu``: images of the volume and of the kernel,
        stride ``s``, dilation ``d`` and padding ``p`` along them, then the layer of each image.
        """
        words = [f"{self.in_depth}d", f"k{self.kernel_depth}"]
        words += [f"s{self.stride_depth}"] * (self.stride_depth > 1)
        words += [f"d{self.dilation_depth}"] * (self.dilation_depth > 1)
        if self.pad_front or self.pad_back:
            words.append(f"p{self.pad_front},{self.pad_back}")
        return " ".join([*words, "of", self.image().to_text()])

    @classmethod
    def from_text(cls, text: str) -> Conv3dWorkload:
        """The inverse of :meth:`to_text`; raises LeanconvError for other text."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise LeanconvError(f"{text!r} describes no convolution of volumes")
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        image = Conv2dWorkload.from_text(found.pop("images"))
        depth: dict[str, Any] = {name: int(value) for name, value in found.items()}
        own = {field.name: getattr(image, field.name) for field in fields(image)}
        return cls(**own, **depth)
