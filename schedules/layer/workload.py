"""Geometry of one convolution layer, and every number that follows from it.

A workload says *what* is computed and nothing about how. Tensors are NHWC, weights OHWI as in
TFLite: output channels, kernel height, kernel width, input channels. All sizes are Python
integers, so they stay exact past 2**31 elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any

from schedules.errors import LeanconvError
from schedules.layer.padding import same_padding
from schedules.layer.rounding import DYNAMIC_ROUNDINGS, ROUNDINGS
from schedules.layer.sparsity import ZEROS
from schedules.layer.text import layer_pattern
from schedules.layer.winograd_weights import WinogradWeights

#: Bytes of one element of each type that tensors have.
DTYPE_BYTES: Mapping[str, int] = {
    "float32": 4,
    "float16": 2,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "int32": 4,
}

#: Fused activation -> the closed interval that it clamps to (``None``: unbounded on that side).
ACTIVATIONS: Mapping[str, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}
#: The activations that are no clamps: ``x min(max(x + 3, 0), 6) / 6`` (Howard et al.,
#: "Searching for MobileNetV3", arXiv 1905.02244, section 5.2).
HARD_SWISH = "hard_swish"
#: And what it stands for: ``x / (1 + e^-x)``.
SWISH = "swish"

#: What :meth:`Conv2dWorkload.to_text` writes, a group for each field.
_TEXT = layer_pattern((*ACTIVATIONS, HARD_SWISH, SWISH), DTYPE_BYTES)


@dataclass(frozen=True)
class Conv2dWorkload:
    """One 2-D convolution with fused bias, activation and residual.

    ``Y = output_activation(activation(convolution + bias) + R)``, without ``R`` if there is no
    residual. A fully-connected layer is a 1x1 convolution of an image of one row.

    Parameters
    ----------
    in_height, in_width, in_channels : int
        Input image, NHWC.
    out_channels, kernel_height, kernel_width : int
        Weights, OHWI: ``(out_channels, kernel_height, kernel_width, in_channels // groups)``.
    batch, stride_*, dilation_*, groups : int
        At least 1 each.
    pad_top, pad_bottom, pad_left, pad_right : int
        Rows and columns of zeros around the image.
    group_of : int
        Groups of the layer of which this is one: its channels lie among those of the others, in
        every pixel of input and output. See :meth:`one_group`.
    activation : {"none", "relu", "relu6", "relu_n1_to_1", "hard_swish", "swish"}
        Applied to the accumulator after the bias.
    residual : bool
        Whether another tensor of the output's shape is added after the activation.
    output_activation : str
        Like ``activation``, applied to that sum; "none" without a residual.
    dtype : str
        Element type of input and output.
    weight_dtype : str
        Element type of the weights as the model has them.
    rounding : str
        Of integers one of :data:`schedules.layer.rounding.ROUNDINGS`, of floats that are multiplied
        as integers one of its ``DYNAMIC_ROUNDINGS``, else "".
    domain : WinogradWeights or None
        Of weights in Winograd's domain.
    zeros : int
        Percent of weights that are zero at least, one of :data:`schedules.layer.sparsity.ZEROS`:
        as far as it matters.

    Raises
    ------
    LeanconvError
        If the numbers describe no convolution (empty output, zero stride, …).
    """

    in_height: int
    in_width: int
    in_channels: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    batch: int = 1
    stride_height: int = 1
    stride_width: int = 1
    dilation_height: int = 1
    dilation_width: int = 1
    pad_top: int = 0
    pad_bottom: int = 0
    pad_left: int = 0
    pad_right: int = 0
    groups: int = 1
    group_of: int = 1
    activation: str = "none"
    residual: bool = False
    output_activation: str = "none"
    dtype: str = "float32"
    weight_dtype: str = "float32"
    rounding: str = ""
    domain: WinogradWeights | None = None
    zeros: int = 0

    def __post_init__(self) -> None:
        # mypy does not see that a class has a hash, if those that are made of it have one.
        for name, least in _least_values(type(self)).items():  # type: ignore[arg-type]
            value = getattr(self, name)
            if value < least:
                raise LeanconvError(f"convolution with {name} = {value}: must be >= {least}")
        if self.output_activation != "none" and not self.residual:
            raise LeanconvError("an output activation without a residual: it is the activation")
        activations, types = (*ACTIVATIONS, HARD_SWISH, SWISH), tuple(DTYPE_BYTES)
        for what, value, names in (
            ("activation", self.activation, activations),
            ("activation", self.output_activation, activations),
            ("element type", self.dtype, types),
            ("element type", self.weight_dtype, types),
            ("rounding rule", self.rounding, ("", *ROUNDINGS, *DYNAMIC_ROUNDINGS)),
        ):
            if value not in names:
                raise LeanconvError(f"unknown {what} {value!r}: one of {', '.join(names)}")
        if self.zeros not in ZEROS or (self.zeros and self.groups > 1):
            raise LeanconvError(f"{self.zeros} % of weights are zero: of one group, by fives")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise LeanconvError(
                f"{self.in_channels} -> {self.out_channels} channels do not divide into "
                f"{self.groups} groups"
            )
        if min(self.groups, self.group_of) > 1:
            raise LeanconvError("one group of a convolution has no groups of its own")
        if self.out_height < 1 or self.out_width < 1:
            raise LeanconvError(
                f"a {self.kernel_height}x{self.kernel_width} kernel does not fit into the "
                f"{self.in_height}x{self.in_width} image: the output would be empty"
            )

    @classmethod
    def with_padding(cls, padding: str, **geometry: Any) -> Conv2dWorkload:
        """A workload whose explicit padding follows from ``"SAME"`` or ``"VALID"``."""
        if padding not in ("SAME", "VALID"):
            raise LeanconvError(f"unknown padding {padding!r}: SAME or VALID")
        if padding == "VALID":
            return cls(**geometry)
        pads: dict[str, Any] = {}
        for axis, before, after in (("height", "top", "bottom"), ("width", "left", "right")):
            sizes = [geometry[f"in_{axis}"], geometry[f"kernel_{axis}"]]
            sizes += [geometry.get(f"{step}_{axis}", 1) for step in ("stride", "dilation")]
            if min(sizes) < 1:
                raise LeanconvError(f"convolution with a size below 1 along its {axis}: {sizes}")
            pads[f"pad_{before}"], pads[f"pad_{after}"] = same_padding(*sizes)
        return cls(**geometry, **pads)

    # Output geometry

    @cached_property
    def out_height(self) -> int:
        """Rows of the output image."""
        span = (self.kernel_height - 1) * self.dilation_height + 1
        return (self.in_height + self.pad_top + self.pad_bottom - span) // self.stride_height + 1

    @cached_property
    def out_width(self) -> int:
        """Columns of the output image."""
        span = (self.kernel_width - 1) * self.dilation_width + 1
        return (self.in_width + self.pad_left + self.pad_right - span) // self.stride_width + 1

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """``(N, H, W, C)``."""
        return (self.batch, self.in_height, self.in_width, self.in_channels)

    @cached_property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """``(M, K_h, K_w, C / groups)``, TFLite's OHWI; of Winograd's domain its points."""
        more = self.domain.outputs - 1 if self.domain else 0
        taps = (self.kernel_height + more, self.kernel_width + more)
        return (self.out_channels, *taps, self.in_channels // self.groups)

    @cached_property
    def output_shape(self) -> tuple[int, int, int, int]:
        """``(N, H', W', M)``."""
        return (self.batch, self.out_height, self.out_width, self.out_channels)

    @property
    def layers(self) -> tuple[Conv2dWorkload, ...]:
        """Itself."""
        return (self,)

    @property
    def calls(self) -> int:
        """Calls of a kernel for this layer that compute all groups."""
        return self.group_of

    # Where a group's pixels lie

    @property
    def in_pitch(self) -> int:
        """Elements from one input pixel to the next; rows and images hold nothing but pixels."""
        return self.in_channels * self.group_of

    @property
    def out_pitch(self) -> int:
        """Elements from one output pixel to the next."""
        return self.out_channels * self.group_of

    @property
    def element_bytes(self) -> int:
        """Bytes of one element of input and output."""
        return DTYPE_BYTES[self.dtype]

    @property
    def is_quantised(self) -> bool:
        """Whether its sums are of integers."""
        return self.rounding != ""

    @property
    def is_dynamic(self) -> bool:
        """Whether its input and output are floats, and its sums of integers."""
        return self.rounding in DYNAMIC_ROUNDINGS

    @cached_property
    def types(self) -> tuple[str, str]:
        """Element types of what is multiplied, and of the weights: an algorithm's ``types``."""
        weights = "Winograd's" if self.domain else self.weight_dtype
        return ("dynamic int8" if self.is_dynamic else self.dtype), weights

    @cached_property
    def pixels(self) -> int:
        """Output positions of the whole batch: the M of the equivalent matrix product."""
        return self.batch * self.out_height * self.out_width

    @cached_property
    def reduction(self) -> int:
        """Products summed for one output element: K_h K_w C / groups."""
        taps = (self.kernel_height, self.kernel_width, self.in_channels)
        return math.prod(taps if self.domain else self.weight_shape[1:])

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the direct algorithm, borders counted as if full."""
        return self.pixels * self.out_channels * self.reduction

    @cached_property
    def input_bytes(self) -> int:
        """Bytes of the input tensor."""
        return math.prod(self.input_shape) * self.element_bytes

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the weights as TFLite stores them, without the bias."""
        return math.prod(self.weight_shape) * DTYPE_BYTES[self.weight_dtype]

    @cached_property
    def output_bytes(self) -> int:
        """Bytes of the output tensor."""
        return math.prod(self.output_shape) * self.element_bytes

    @cached_property
    def is_padded(self) -> bool:
        """Whether any border is padded with zeros."""
        return any((self.pad_top, self.pad_bottom, self.pad_left, self.pad_right))

    @cached_property
    def is_pointwise(self) -> bool:
        """Whether the image's pixels are the rows of the patch matrix (1x1, stride 1, unpadded)."""
        return (
            self.kernel_height == self.kernel_width == 1
            and self.stride_height == self.stride_width == 1
            and not self.is_padded
        )

    @cached_property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel, among several."""
        return self.groups == self.in_channels > 1

    def as_matrix(self) -> Conv2dWorkload:
        """The same pointwise convolution over one row of ``N H W`` pixels.

        A pointwise layer has no neighbourhood, so batch, rows and columns collapse into the rows
        of one matrix product and tiles need not end where image rows end.
        """
        assert self.is_pointwise, "only a pointwise convolution is a plain matrix product"
        columns = self.batch * self.in_height * self.in_width
        return replace(self, batch=1, in_height=1, in_width=columns)

    def with_batch(self, batch: int) -> Conv2dWorkload:
        """The same layer for another batch size."""
        return replace(self, batch=batch)

    def one_group(self) -> Conv2dWorkload:
        """Each group of the layer: group ``g`` begins at channel ``g C / G`` of the first pixel.

        An ungrouped layer is its own only group.
        """
        if self.groups == 1:
            return self
        return replace(
            self,
            in_channels=self.in_channels // self.groups,
            out_channels=self.out_channels // self.groups,
            groups=1,
            group_of=self.groups,
        )

    def of_one_kernel(self) -> Conv2dWorkload:
        """What one kernel computes: a whole depthwise layer, else one group."""
        return self if self.is_depthwise else self.one_group()

    def all_groups(self) -> Conv2dWorkload:
        """The inverse of :meth:`one_group`."""
        if self.group_of == 1:
            return self
        return replace(
            self,
            in_channels=self.in_pitch,
            out_channels=self.out_pitch,
            groups=self.group_of,
            group_of=1,
        )

    def describe(self) -> str:
        """A short name for tables and profiles, e.g. ``conv3x3 s2 224x224x3->32 relu6``.

        Depthwise layers are ``dwconv…``; ``+`` stands for the residual. Types that are not float32
        come last: ``int8`` or ``float16``, or ``float16 weights`` if only those are.
        """
        if self.group_of > 1:
            return f"one group of {self.all_groups().describe()}"
        kind = "dwconv" if self.is_depthwise else "conv"
        parts = [f"{kind}{self.kernel_height}x{self.kernel_width}"]
        for letter, height, width in (
            ("s", self.stride_height, self.stride_width),
            ("d", self.dilation_height, self.dilation_width),
        ):
            if (height, width) != (1, 1):
                both = f"{height}" if height == width else f"{height}x{width}"
                parts.append(letter + both)
        if self.groups > 1 and not self.is_depthwise:
            parts.append(f"g{self.groups}")
        image = f"{self.in_height}x{self.in_width}x{self.in_channels}"
        if not self.is_depthwise or self.in_channels != self.out_channels:
            image += f"->{self.out_channels}"
        parts.append(image if self.batch == 1 else f"{self.batch}x{image}")
        if self.activation != "none":
            parts.append(self.activation)
        if self.residual:
            parts.append("+")
        if self.output_activation != "none":
            parts.append(self.output_activation)
        if self.dtype != "float32":
            parts.append(self.dtype)
        if DTYPE_BYTES[self.weight_dtype] < self.element_bytes:
            parts.append(f"{self.weight_dtype} weights")
        if self.rounding:
            parts.append(self.rounding)
        if self.domain:
            parts.append(self.domain.describe())
        if self.zeros:
            parts.append(f"{self.zeros}% zero")
        return " ".join(parts)

    def to_text(self) -> str:
        """Every field in one short line that :meth:`from_text` reads.

        ``28x28x64->64 k3x3 s1x1 p1,1,1,1 relu``: image, output channels, kernel, then whatever is
        not the default: batch ``n``, stride ``s``, dilation ``d``, padding ``p`` (top, bottom,
        left, right), groups ``g``, ``of``, activation, ``+`` for a residual, output activation,
        element type, ``w`` before that of the weights, rounding rule, :class:`WinogradWeights`,
        ``z`` and percent of zeros.
        """
        words = [f"{self.in_height}x{self.in_width}x{self.in_channels}->{self.out_channels}"]
        words.append(f"k{self.kernel_height}x{self.kernel_width}")
        if self.batch != 1:
            words.append(f"n{self.batch}")
        for letter, height, width in (
            ("s", self.stride_height, self.stride_width),
            ("d", self.dilation_height, self.dilation_width),
        ):
            if (height, width) != (1, 1):
                words.append(f"{letter}{height}x{width}")
        if self.is_padded:
            words.append(f"p{self.pad_top},{self.pad_bottom},{self.pad_left},{self.pad_right}")
        if self.groups != 1:
            words.append(f"g{self.groups}")
        if self.group_of != 1:
            words.append(f"of{self.group_of}")
        if self.activation != "none":
            words.append(self.activation)
        if self.residual:
            words.append("+")
        if self.output_activation != "none":
            words.append(self.output_activation)
        if self.dtype != "float32":
            words.append(self.dtype)
        if self.weight_dtype != "float32":
            words.append(f"w{self.weight_dtype}")
        if self.rounding:
            words.append(self.rounding)
        if self.domain:
            words.append(self.domain.to_text())
        if self.zeros:
            words.append(f"z{self.zeros}")
        return " ".join(words)

    @classmethod
    def from_text(cls, text: str) -> Conv2dWorkload:
        """The inverse of :meth:`to_text`.

        Raises
        ------
        LeanconvError
            If ``text`` describes no convolution.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise LeanconvError(f"{text!r} describes no convolution")
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        values: dict[str, Any] = {
            name: int(value) if value.isdecimal() else value for name, value in found.items()
        }
        values["residual"] = "residual" in found
        if "domain" in found:
            values["domain"] = WinogradWeights.from_text(found["domain"])
        return cls(**values)


@cache
def _least_values(workload: type[Conv2dWorkload]) -> Mapping[str, int]:
    """The least value that each whole number of a workload may have."""
    names = [field.name for field in fields(workload) if field.type == "int"]
    return {name: 0 if name.startswith("pad_") or name == "zeros" else 1 for name in names}
