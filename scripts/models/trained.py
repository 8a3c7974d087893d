"""Small networks that are trained in seconds, on images that are made here.

The three have the layers of MLPerf Tiny's image classification (ResNet-8), visual wake words
(MobileNet of width 0.25) and keyword spotting (DS-CNN) (Banbury et al., "MLPerf Tiny Benchmark",
arXiv 2106.07597). Trained weights differ from random ones in what they make of rounding errors,
and in how they are quantised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

#: Images to train on, and how often each is seen: enough for all that :meth:`images` makes.
IMAGES = 512
EPOCHS = 6
BATCH = 32
#: Without it, the outputs of a softmax would get so near to 0 and 1 that no error could be seen.
LABEL_SMOOTHING = 0.1
#: Deviation of the noise on images of amplitude 0.7.
NOISE = 0.2


@dataclass(frozen=True)
class Trained:
    """A network and its task: how many classes of images of which shape it tells apart."""

    text: str
    shape: tuple[int, int, int]
    classes: int
    layers: Callable[[Any], Any]

    def model(self, batch: int | None) -> Any:
        """The Keras model, with the weights of a beginner."""
        import keras

        image = keras.Input(self.shape, batch_size=batch, name="image")
        outputs = keras.layers.Dense(self.classes, activation="softmax")(self.layers(image))
        return keras.Model(image, outputs)

    def images(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Images in [-1, 1], and the class of each.

        Waves under noise: the class is their direction, and two classes share one, at different
        lengths.
        """
        rng = np.random.default_rng(seed)
        labels = rng.integers(self.classes, size=count)
        height, width, channels = self.shape
        directions = -(-self.classes // 2)
        angle = np.pi * (labels % directions) / directions
        length = np.where(labels < directions, 4.0, 7.0)
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        way = np.multiply.outer(np.cos(angle), columns) + np.multiply.outer(np.sin(angle), rows)
        phase = rng.uniform(0, 2 * np.pi, (count, 1, 1, channels))
        waves = 0.7 * np.cos(2 * np.pi * (way / length[:, None, None])[..., None] + phase)
        noisy = waves + NOISE * rng.standard_normal(waves.shape)
        return noisy.clip(-1, 1).astype(np.float32), labels

    def trained(self) -> Any:
        """The model for a batch of 1, after training."""
        model = self.model(1)
        model.set_weights(_weights(self))
        return model


@cache
def _weights(network: Trained) -> list[np.ndarray]:
    import keras

    keras.utils.set_random_seed(0)
    model = network.model(None)
    images, labels = network.images(IMAGES, seed=0)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=LABEL_SMOOTHING)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    targets = keras.utils.to_categorical(labels, network.classes)
    model.fit(images, targets, BATCH, EPOCHS, verbose=0)
    weights: list[np.ndarray] = model.get_weights()
    return weights


# The networks


def _convolution(x: Any, channels: int, kernel: Any, stride: int = 1, relu: bool = True) -> Any:
    from keras import layers

    x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.8)(x)  # the converter folds it into the convolution
    return layers.ReLU()(x) if relu else x


def _separable(x: Any, channels: int, stride: int = 1) -> Any:
    """3x3 depthwise -> pointwise."""
    from keras import layers

    x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    return _convolution(x, channels, 1)


def _pooled(x: Any) -> Any:
    """Averages of the left and the right half, or third: of one pixel, Flatten would vanish."""
    from keras import layers

    height, width = x.shape[1:3]
    return layers.Flatten()(layers.AveragePooling2D((height, width // 2))(x))


def _resnet8(x: Any) -> Any:
    from keras import layers

    x = _convolution(x, 16, 3)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = _convolution(x, channels, 3, stride)
        y = _convolution(y, channels, 3, relu=False)
        if stride > 1:
            x = layers.Conv2D(channels, 1, stride, "same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    return _pooled(x)


def _mobilenet(x: Any) -> Any:
    x = _convolution(x, 8, 3, 2)
    for channels, stride in (
        *((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)),
        *((128, 1),) * 5,
        *((256, 2), (256, 1)),
    ):
        x = _separable(x, channels, stride)
    return _pooled(x)


def _dscnn(x: Any) -> Any:
    x = _convolution(x, 64, (10, 4), 2)
    for _ in range(4):
        x = _separable(x, 64)
    return _pooled(x)


#: By name.
TRAINED = {
    "resnet8": Trained("ResNet-8, 32x32x3, trained", (32, 32, 3), 10, _resnet8),
    "mobilenet_96": Trained("MobileNet 0.25, 96x96x3, trained", (96, 96, 3), 2, _mobilenet),
    "dscnn": Trained("DS-CNN, 49x10x1, trained", (49, 10, 1), 12, _dscnn),
}
