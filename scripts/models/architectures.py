"""The image-classification networks that the benchmarks run, as Keras models.

Batch 1, 1000 classes with softmax, random weights. Where a paper leaves the padding open, it is
SAME. Those that Keras publishes come from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scripts.models.random_weights import randomise

CLASSES = 1000


def application(name: str, size: int = 224, **arguments: Any) -> Callable[[], Any]:
    """One of Keras' published architectures, on ``size`` x ``size`` x 3."""

    def build() -> Any:
        import keras

        shape = (size, size, 3)
        image = keras.Input(shape, batch_size=1)
        network = getattr(keras.applications, name)
        return randomise(network(weights=None, input_tensor=image, **arguments), shape)

    return build


def efficientnet_lite0() -> Any:
    """EfficientNet-B0 (Tan and Le, arXiv 1905.11946) as its authors made it for small devices.

    No squeeze and excitation, ReLU6 for swish; stem and head are not scaled.
    """
    import keras
    from keras import layers

    def normalised(x: Any, active: bool = True) -> Any:
        x = layers.BatchNormalization()(x)
        return layers.ReLU(6.0)(x) if active else x

    def block(x: Any, expansion: int, kernel: int, stride: int, channels: int) -> Any:
        narrow = x
        if expansion > 1:
            x = normalised(layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False)(x))
        x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(x)
        x = layers.Conv2D(channels, 1, use_bias=False)(normalised(x))
        x = normalised(x, active=False)
        return layers.Add()([x, narrow]) if x.shape == narrow.shape else x

    image = keras.Input((224, 224, 3), batch_size=1)
    x = normalised(layers.Conv2D(32, 3, 2, "same", use_bias=False)(image))
    for repeats, expansion, kernel, stride, channels in (
        (1, 1, 3, 1, 16),
        (2, 6, 3, 2, 24),
        (2, 6, 5, 2, 40),
        (3, 6, 3, 2, 80),
        (3, 6, 5, 1, 112),
        (4, 6, 5, 2, 192),
        (1, 6, 3, 1, 320),
    ):
        for repeat in range(repeats):
            x = block(x, expansion, kernel, 1 if repeat else stride, channels)
    x = normalised(layers.Conv2D(1280, 1, use_bias=False)(x))
    return _classifier(image, x)


def squeezenet() -> Any:
    """SqueezeNet 1.1: the released form of Iandola et al., arXiv 1602.07360."""
    import keras
    from keras import layers

    def fire(x: Any, squeezed: int, expanded: int) -> Any:
        x = layers.Conv2D(squeezed, 1, activation="relu")(x)
        sides = [
            layers.Conv2D(expanded, kernel, padding="same", activation="relu")(x)
            for kernel in (1, 3)
        ]
        return layers.Concatenate()(sides)

    image = keras.Input((224, 224, 3), batch_size=1)
    x = layers.Conv2D(64, 3, 2, activation="relu")(image)
    for stage in (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192),) * 2 + ((64, 256),) * 2):
        x = layers.MaxPooling2D(3, 2)(x)
        for squeezed, expanded in stage:
            x = fire(x, squeezed, expanded)
    x = layers.Conv2D(CLASSES, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(keras.Model(image, layers.Softmax()(x)), (224, 224, 3))


def _normalised(x: Any, channels: int, kernel: int, stride: int = 1) -> Any:
    """A convolution, and the batch normalisation that the converter folds into it."""
    from keras import layers

    x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def basic_blocks(x: Any) -> Any:
    """Four stages of two basic blocks each, projections where the shape changes."""
    from keras import layers

    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = layers.ReLU()(_normalised(x, channels, 3, stride))
            y = _normalised(y, channels, 3)
            if stride == 2:
                x = _normalised(x, channels, 1, 2)
            x = layers.ReLU()(layers.Add()([x, y]))
    return x


def resnet18() -> Any:
    """ResNet-18 (He et al., arXiv 1512.03385)."""
    import keras
    from keras import layers

    image = keras.Input((224, 224, 3), batch_size=1)
    x = layers.ReLU()(_normalised(image, 64, 7, 2))
    return _classifier(image, basic_blocks(layers.MaxPooling2D(3, 2, "same")(x)))


def alexnet() -> Any:
    """AlexNet (Krizhevsky, Sutskever and Hinton 2012): its two towers as groups of one.

    Without local response normalisation, which later networks dropped and TFLite has no fast
    kernel for, and without dropout, which inference does not have.
    """
    import keras
    from keras import layers

    def convolution(x: Any, channels: int, kernel: int, groups: int = 1) -> Any:
        return layers.Conv2D(channels, kernel, padding="same", groups=groups, activation="relu")(x)

    image = keras.Input((227, 227, 3), batch_size=1)
    x = layers.Conv2D(96, 11, 4, activation="relu")(image)
    x = convolution(layers.MaxPooling2D(3, 2)(x), 256, 5, groups=2)
    x = convolution(layers.MaxPooling2D(3, 2)(x), 384, 3)
    x = convolution(x, 384, 3, groups=2)
    x = convolution(x, 256, 3, groups=2)
    x = layers.Flatten()(layers.MaxPooling2D(3, 2)(x))
    for _ in range(2):
        x = layers.Dense(4096, activation="relu")(x)
    return _classifier(image, x)


def googlenet() -> Any:
    """GoogLeNet, Inception v1 (Szegedy et al., arXiv 1409.4842, table 1).

    Without local response normalisation and the classifiers that only training has.
    """
    import keras
    from keras import layers

    def convolution(x: Any, channels: int, kernel: int, stride: int = 1) -> Any:
        return layers.Conv2D(channels, kernel, stride, "same", activation="relu")(x)

    def inception(x: Any, channels: Sequence[int]) -> Any:
        one, reduced3, three, reduced5, five, pooled = channels
        return layers.Concatenate()(
            [
                convolution(x, one, 1),
                convolution(convolution(x, reduced3, 1), three, 3),
                convolution(convolution(x, reduced5, 1), five, 5),
                convolution(layers.MaxPooling2D(3, 1, "same")(x), pooled, 1),
            ]
        )

    image = keras.Input((224, 224, 3), batch_size=1)
    x = convolution(image, 64, 7, 2)
    x = layers.MaxPooling2D(3, 2, "same")(x)
    x = convolution(convolution(x, 64, 1), 192, 3)
    for stage in (
        ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
        (
            (192, 96, 208, 16, 48, 64),
            (160, 112, 224, 24, 64, 64),
            (128, 128, 256, 24, 64, 64),
            (112, 144, 288, 32, 64, 64),
            (256, 160, 320, 32, 128, 128),
        ),
        ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
    ):
        x = layers.MaxPooling2D(3, 2, "same")(x)
        for channels in stage:
            x = inception(x, channels)
    return _classifier(image, x)


def _classifier(image: Any, features: Any) -> Any:
    """The model that ends with a fully-connected layer and softmax, of averages of an image."""
    import keras

    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D()(features)
    probabilities = keras.layers.Dense(CLASSES, activation="softmax")(features)
    return randomise(keras.Model(image, probabilities), image.shape[1:])


#: The twelve that benchmarks/networks.py runs: a text and what builds the model.
ARCHITECTURES: dict[str, tuple[str, Callable[[], Any]]] = {
    "mobilenet_v1": ("Keras MobileNet, 224x224x3", application("MobileNet")),
    "mobilenet_v2": ("Keras MobileNetV2, 224x224x3", application("MobileNetV2")),
    "mobilenet_v3_small": (
        "Keras MobileNetV3Small, 224x224x3",
        application("MobileNetV3Small", include_preprocessing=False),
    ),
    "mobilenet_v3_large": (
        "Keras MobileNetV3Large, 224x224x3",
        application("MobileNetV3Large", include_preprocessing=False),
    ),
    "efficientnet_lite0": ("EfficientNet-Lite0, 224x224x3", efficientnet_lite0),
    "squeezenet": ("SqueezeNet 1.1, 224x224x3", squeezenet),
    "resnet18": ("ResNet-18, 224x224x3", resnet18),
    "resnet50": ("Keras ResNet50, 224x224x3", application("ResNet50")),
    "vgg16": ("Keras VGG16, 224x224x3", application("VGG16")),
    "alexnet": ("AlexNet, 227x227x3, grouped, no LRN", alexnet),
    "googlenet": ("GoogLeNet, 224x224x3, no LRN", googlenet),
    "inception_v3": ("Keras InceptionV3, 299x299x3", application("InceptionV3", size=299)),
}
