"""Learning from a network's answers instead of the classes.

The probabilities of a network before it was pruned, softened by a temperature, tell a pruned one
more of each image than its class does (Hinton, Vinyals and Dean, "Distilling the Knowledge in a
Neural Network", arXiv 1503.02531, section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

#: Below this a probability has no logarithm worth having.
LEAST = 1e-7
#: Images at once.
BATCH = 256


def ends_in_softmax(model: Any) -> bool:
    """Whether a classifier's output are probabilities; else they are logits."""
    last = model.layers[-1]
    return isinstance(last, keras.layers.Softmax) or (
        getattr(last, "activation", None) is keras.activations.softmax
    )


def answers(model: Any, images: np.ndarray) -> np.ndarray:
    """What a classifier says, (N, classes), of images (N, H, W, C)."""
    parts = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    return np.concatenate([keras.ops.convert_to_numpy(model(x, training=False)) for x in parts])


def soft_targets(teacher: Any, images: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, classes), float32, that a network gives images (N, H, W, C).

    Parameters
    ----------
    temperature : float
        What logits are divided by: with more of it, classes that are less likely count for more.
    """
    logits = _logits(teacher, keras.ops.convert_to_tensor(answers(teacher, images)))
    return np.asarray(keras.ops.softmax(logits / temperature), np.float32)


def softened_loss(model: Any, temperature: float) -> Callable[[Any, Any], Any]:
    """The cross-entropy with :func:`soft_targets`, by the square of the temperature.

    So its gradients are as large as those with the classes.
    """

    def loss(targets: Any, said: Any) -> Any:
        logits = _logits(model, said) / temperature
        entropy = keras.ops.categorical_crossentropy(targets, logits, from_logits=True)
        return temperature**2 * entropy

    return loss


def _logits(model: Any, said: Any) -> Any:
    return keras.ops.log(keras.ops.maximum(said, LEAST)) if ends_in_softmax(model) else said
