"""How many zeros surround an image."""

from __future__ import annotations


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Rows (or columns) of zeros before and after the image under SAME padding.

    The output has ``ceil(size / stride)`` positions; an odd total puts the extra zero after.
    """
    out = -(-size // stride)
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
