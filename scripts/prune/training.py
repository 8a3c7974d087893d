"""Pruning step by step: some more zeros, training of what is left, and so on.

Zeros of an epoch grow as Zhu and Gupta have it ("To prune, or not to prune", arXiv 1710.01878,
equation 1): fast at first, when there is much to choose from. What went stays away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from scripts.prune.layer import winograd_layers, zeros
from scripts.prune.masks import mask
from scripts.prune.teaching import answers, ends_in_softmax, soft_targets, softened_loss

#: Batches between two growths.
EVERY = 4


@dataclass(frozen=True)
class Data:
    """Images (N, H, W, C) and their classes (N,), to train on and to test with."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    Parameters
    ----------
    epochs : int
        At each level of zeros: the first half of the batches prunes, all of them train.
    rate : float
        Of learning at the first epoch (Adam); it falls linearly.
    temperature : float
        Of a teacher's answers, where there is a teacher.
    """

    epochs: int = 4
    rate: float = 1e-3
    batch: int = 64
    temperature: float = 3.0


@dataclass(frozen=True)
class Level:
    """How good a network is at some zeros.

    Parameters
    ----------
    zeros, accuracy : float
        Parts of 1: of all weights in the Winograd domain, and of the test images.
    """

    zeros: float
    accuracy: float


class PruneGradually(keras.callbacks.Callback):  # type: ignore[misc]
    """Masks that grow from ``start`` to ``goal``, parts of 1, over ``batches`` batches."""

    def __init__(self, unit: str, start: float, goal: float, batches: int) -> None:
        super().__init__()
        self.unit, self.start, self.goal, self.batches = unit, start, goal, max(batches, 1)
        self._seen = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Prune some more."""
        if self._seen % EVERY == 0 or self._seen == self.batches:
            left = (1 - min(self._seen / self.batches, 1)) ** 3
            self._prune(self.goal + (self.start - self.goal) * left)
        self._seen += 1

    def on_train_begin(self, logs: Any = None) -> None:
        """Count from here."""
        self._seen = 0

    def on_train_end(self, logs: Any = None) -> None:
        """Reach the goal, whatever the number of batches was."""
        self._prune(self.goal)

    def _prune(self, part: float) -> None:
        for layer in winograd_layers(self.model):
            weights = layer.w.numpy() * layer.mask.numpy()
            layer.mask.assign(mask(weights, part, self.unit))


def compile_for_training(model: Any) -> None:
    """Adam and the cross-entropy of a network's classes: probabilities, or logits before them."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_softmax(model))
    model.compile(keras.optimizers.Adam(), loss)


def train(model: Any, data: Data, settings: Settings, *callbacks: Any) -> None:
    """Train a compiled model."""

    def rate(epoch: int) -> float:
        return settings.rate * (1 - epoch / settings.epochs)

    falling = keras.callbacks.LearningRateScheduler(rate)
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=settings.batch,
        epochs=settings.epochs,
        verbose=0,
        callbacks=[falling, *callbacks],
    )


def accuracy(model: Any, data: Data) -> float:
    """The part of the test images that a model names rightly."""
    return float(np.mean(answers(model, data.x_test).argmax(-1) == data.y_test))


def prune(
    model: Any,
    data: Data,
    levels: Sequence[float],
    unit: str,
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
    teacher: Any = None,
) -> Iterator[Level]:
    """Prune a model with layers in the Winograd domain to one level after another, in place.

    Parameters
    ----------
    levels : sequence of float
        Parts of 1 that shall be zero, rising.
    unit : str
        See :func:`scripts.prune.masks.mask`.
    say : callable
        Gets a line for each epoch, and for each level that is reached.
    teacher : model, optional
        A network of the same images and classes. The model learns its answers, not the classes.

    Yields
    ------
    Level
        What the model reaches at each, before it goes on to the next.
    """
    compile_for_training(model)
    learned, loss = data, None
    if teacher is not None:
        targets = soft_targets(teacher, data.x_train, settings.temperature)
        learned = replace(data, y_train=targets)
        loss = softened_loss(model, settings.temperature)

    def tell(epoch: int, logs: Any) -> None:
        say(f"  epoch {epoch + 1} of {settings.epochs}: loss {logs['loss']:.3f}")

    telling = keras.callbacks.LambdaCallback(on_epoch_end=tell)
    batches = settings.epochs * -(-len(data.x_train) // settings.batch)
    start = zeros(model)
    for goal in levels:
        if loss:
            model.compile(keras.optimizers.Adam(), loss)
        train(model, learned, settings, telling, PruneGradually(unit, start, goal, batches // 2))
        if loss:
            compile_for_training(model)  # a file of it then names no loss of ours
        start = goal
        level = Level(zeros(model), accuracy(model, data))
        say(f"{100 * level.zeros:5.1f} % zeros: accuracy {100 * level.accuracy:.2f} %")
        yield level
