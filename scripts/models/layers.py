"""Single layers: those that speed is quoted for, and those that the literature measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvLayer:
    """One convolution with bias and ReLU, batch 1; ``padding`` is ``"same"`` or ``"valid"``."""

    in_height: int
    in_width: int
    in_channels: int
    kernel: int
    stride: int
    out_channels: int
    padding: str = "same"

    @property
    def name(self) -> str:
        """Name of the model that holds this layer alone."""
        stride = f"s{self.stride}-" if self.stride > 1 else ""
        valid = "-valid" if self.padding == "valid" else ""
        return f"conv-{self._size}-{self.kernel}x{self.kernel}-{stride}{self.out_channels}{valid}"

    @property
    def _size(self) -> str:
        return f"{self.in_height}x{self.in_width}x{self.in_channels}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the direct algorithm."""
        lost = self.kernel - 1 if self.padding == "valid" else 0
        out_height, out_width = (
            -(-(size - lost) // self.stride) for size in (self.in_height, self.in_width)
        )
        return out_height * out_width * self.kernel**2 * self.in_channels * self.out_channels

    def __str__(self) -> str:
        stride = f" s{self.stride}" if self.stride > 1 else ""
        valid = " valid" if self.padding == "valid" else ""
        return f"{self._size} {self.kernel}x{self.kernel}{stride}{valid} -> {self.out_channels}"


#: The layers that every speed figure is quoted for.
LAYERS = (
    ConvLayer(56, 56, 64, 3, 1, 64),
    ConvLayer(28, 28, 128, 3, 1, 128),
    ConvLayer(14, 14, 256, 3, 1, 256),
    ConvLayer(112, 112, 32, 1, 1, 64),
    ConvLayer(224, 224, 3, 3, 2, 32),
)

#: What the literature on low-memory convolution measures: MEC's layers (Cho and Brand, arXiv
#: 1706.06873, table 2), and two images under a small kernel.
LITERATURE_LAYERS = {
    "cv1": ConvLayer(227, 227, 3, 11, 4, 96, "valid"),
    "cv2": ConvLayer(231, 231, 3, 11, 4, 96, "valid"),
    "cv3": ConvLayer(227, 227, 3, 7, 2, 64, "valid"),
    "cv4": ConvLayer(224, 224, 64, 7, 2, 64, "valid"),
    "cv5": ConvLayer(24, 24, 96, 5, 1, 256, "valid"),
    "cv6": ConvLayer(12, 12, 256, 3, 1, 512, "valid"),
    "cv7": ConvLayer(224, 224, 3, 3, 1, 64, "valid"),
    "cv8": ConvLayer(112, 112, 64, 3, 1, 128, "valid"),
    "cv9": ConvLayer(56, 56, 64, 3, 1, 64, "valid"),
    "cv10": ConvLayer(28, 28, 128, 3, 1, 128, "valid"),
    "cv11": ConvLayer(14, 14, 256, 3, 1, 256, "valid"),
    "cv12": ConvLayer(7, 7, 512, 3, 1, 512, "valid"),
    "300x300x3": ConvLayer(300, 300, 3, 5, 1, 32, "valid"),
    "1960x1960x3": ConvLayer(1960, 1960, 3, 5, 1, 32, "valid"),
}

#: What benchmarks/founding runs: images under a small kernel, and a product of matrices.
IMAGE_LAYERS = (ConvLayer(300, 300, 3, 3, 1, 3), ConvLayer(1960, 1960, 3, 3, 1, 3))
PRODUCT = ConvLayer(640, 1, 480, 1, 1, 480)
