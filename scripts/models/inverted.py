"""Networks for microcontrollers: inverted residuals on small images, without their classifiers.

MobileNetV2 (Sandler et al., arXiv 1801.04381) at .35 of its channels is what msf-CNN (Huang et al.,
arXiv 2505.11483) measures. The other two have the image, the depth and the mix of kernels of
MCUNet-320KB and MCUNet-5fps (Lin et al., arXiv 2007.10319), and not their very layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

#: Kernel, expansion, channels and stride of a block.
Block = tuple[int, int, int, int]

_MOBILENET: tuple[Block, ...] = tuple(
    (3, expansion, channels, stride if repeat == 0 else 1)
    for expansion, channels, repeats, stride in (
        *((1, 5, 1, 1), (6, 8, 2, 2), (6, 11, 3, 2), (6, 22, 4, 2)),
        *((6, 33, 3, 1), (6, 56, 3, 2), (6, 112, 1, 1)),
    )
    for repeat in range(repeats)
)
_MCUNET: tuple[Block, ...] = (
    *((3, 1, 8, 1), (7, 3, 16, 2), (3, 6, 16, 1), (5, 5, 24, 2), (5, 4, 24, 1), (3, 5, 40, 2)),
    *((7, 6, 40, 1), (5, 5, 48, 1), (3, 4, 48, 1), (5, 5, 96, 2), (7, 4, 96, 1), (3, 5, 160, 1)),
)
_WAKE_WORDS: tuple[Block, ...] = (
    *((3, 1, 8, 1), (7, 3, 16, 2), (5, 4, 16, 1), (5, 5, 24, 2), (3, 4, 24, 1), (5, 5, 40, 2)),
    *((5, 4, 40, 1), (3, 4, 48, 1), (3, 5, 96, 2), (3, 4, 96, 1), (3, 4, 160, 1)),
)


def network(size: int, first: int, blocks: Sequence[Block], last: int) -> Callable[[], Any]:
    """A convolution of stride 2, the blocks, and a last pointwise layer, unless it has 0 channels.

    Every block begins with a pointwise layer, as in msf-CNN's account of these networks.
    """

    def build() -> Any:
        import keras
        from keras import layers

        def conv(
            x: Any, channels: int, kernel: int = 1, stride: int = 1, active: bool = True
        ) -> Any:
            x = layers.Conv2D(channels, kernel, stride, "same", kernel_initializer="he_normal")(x)
            return layers.ReLU(6.0)(x) if active else x

        keras.utils.set_random_seed(0)
        image = keras.Input((size, size, 3), batch_size=1)
        x = conv(image, first, 3, 2)
        for kernel, expansion, channels, stride in blocks:
            narrow = x
            x = conv(x, expansion * x.shape[-1])
            x = layers.DepthwiseConv2D(kernel, stride, "same", depthwise_initializer="he_normal")(x)
            x = conv(layers.ReLU(6.0)(x), channels, active=False)
            x = layers.Add()([x, narrow]) if x.shape == narrow.shape else x
        return keras.Model(image, conv(x, last) if last else x)

    return build


#: By name: a text for people, and what builds it.
INVERTED: dict[str, tuple[str, Callable[[], Any]]] = {
    "mobilenet_v2_035": ("MobileNetV2 w0.35, 144x144x3", network(144, 11, _MOBILENET, 448)),
    "mcunet_like": ("like MCUNet-320KB, 176x176x3", network(176, 16, _MCUNET, 0)),
    "wake_words_like": ("like MCUNet's vww-5fps, 80x80x3", network(80, 16, _WAKE_WORDS, 0)),
}
