"""Learning from a network's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from scripts.prune.replacing import replaced
from scripts.prune.teaching import soft_targets, softened_loss
from scripts.prune.training import Settings, prune
from tests.scripts.prune.test_prune import data, network

RNG = np.random.default_rng(7)


def classifier(softmax: bool) -> Any:
    """A matrix, and perhaps probabilities behind it."""
    keras.utils.set_random_seed(2)
    x = keras.Input((6,))
    last = keras.layers.Dense(4, activation="softmax" if softmax else None)
    return keras.Model(x, last(x))


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """By the definition, in float64."""
    powers = np.exp(logits.astype(np.float64) / temperature)
    found: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return found


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_targets_and_their_loss(softmax: bool, temperature: float) -> None:
    model, plain = classifier(softmax), classifier(False)
    x = RNG.standard_normal((9, 6)).astype(np.float32)
    logits = plain.predict(x, verbose=0)
    targets = soft_targets(model, x, temperature)
    np.testing.assert_allclose(targets, softened(logits, temperature), atol=1e-6)
    others = RNG.dirichlet(np.ones(4), 9)
    losses = softened_loss(model, temperature)(others.astype(np.float32), model(x))
    expected = -(others * np.log(softened(logits, temperature))).sum(-1) * temperature**2
    np.testing.assert_allclose(np.asarray(losses), expected, rtol=1e-5)


def test_a_taught_network_agrees_with_its_teacher_whatever_the_classes_say() -> None:
    teacher = network()
    images = data()
    said = teacher.predict(images.x_test, verbose=0).argmax(-1)
    wrong = replace(images, y_train=1 - teacher.predict(images.x_train, verbose=0).argmax(-1))
    agreeing = {}
    for name, asked in {"taught": teacher, "not": None}.items():
        model = replaced(network())
        settings = Settings(3, 5e-3, 16)
        list(prune(model, wrong, [0.3], "element", settings, teacher=asked))
        answers = model.predict(images.x_test, verbose=0).argmax(-1)
        agreeing[name] = float(np.mean(answers == said))
    assert agreeing["taught"] >= 0.9
    assert agreeing["not"] < agreeing["taught"]
