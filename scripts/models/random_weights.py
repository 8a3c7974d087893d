"""Random weights under which a network's values stay in range and its errors can be seen.

A convolution takes the same time and memory whatever its weights are. What weights decide is
whether an error in one layer reaches the output: it must be neither saturated away, nor rounded
away beside larger values, nor amplified beyond meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Standard deviation of the values that a final softmax gets: of 1000 classes the likeliest then
#: has some hundredths of the whole.
LOGIT_DEVIATION = 2.0
#: Images whose statistics batch normalisation gets. Those of one alone are other than the next
#: one's where a feature map has few positions.
IMAGES = 8


def randomise(model: Any, input_shape: Sequence[int]) -> Any:
    """Fill a Keras model with weights, and return it.

    Kernels are He-normal (He et al., arXiv 1502.01852): variance 2 / fan-in, which a following
    ReLU halves, so every layer passes on about the variance that it receives. Batch normalisation
    gets the statistics of one forward pass of `IMAGES` images of noise. The layer before a final
    softmax is scaled to give `LOGIT_DEVIATION`.
    """
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # keep nothing of the initial statistics
            if layer.scale:
                layer.gamma.assign(1 + 0.1 * rng.standard_normal(layer.gamma.shape))
            layer.beta.assign(0.1 * rng.standard_normal(layer.beta.shape))
            continue
        for weight in layer.weights:
            if "bias" in weight.name:
                weight.assign(0.1 * rng.standard_normal(weight.shape))
                continue
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            fan_in = np.prod(weight.shape[:2] if depthwise else weight.shape[:-1])
            values = rng.standard_normal(weight.shape, np.float32)
            weight.assign((2 / fan_in) ** 0.5 * values)
    images = rng.uniform(-1, 1, (IMAGES, *input_shape)).astype("float32")
    model(images, training=True)
    _scale_logits(model, images)
    return model


def _scale_logits(model: Any, images: Any) -> None:
    """Scale the last layer with weights, if a softmax ends the model.

    Nothing but ReLU, averages and changes of shape stand between the two, which a factor passes.
    """
    import keras
    import numpy as np

    last = model.layers[-1]
    softmax = isinstance(last, keras.layers.Softmax)
    if not softmax and getattr(last, "activation", None) is not keras.activations.softmax:
        return
    classifier = next(layer for layer in reversed(model.layers) if layer.weights)
    probabilities = np.asarray(model(images, training=False), np.float64)
    factor = LOGIT_DEVIATION / np.log(np.maximum(probabilities, 1e-300)).std()
    for weight in classifier.weights:
        weight.assign(factor * np.asarray(weight))
