"""Reading what a user gives: a Keras model, and images to train it on."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from schedules.errors import LeanconvError, reason
from scripts.prune.training import Data

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
#: What numpy raises where a file is none of arrays, or damaged.
_NOT_ARRAYS = (
    *(OSError, EOFError, ValueError, AttributeError, TypeError),
    *(zipfile.BadZipFile, zlib.error),
)


def read_model(path: Path) -> Any:
    """A saved Keras model.

    Raises
    ------
    LeanconvError
        If it is none, has no sizes yet, or has more than one input or output.
    """
    if not path.is_file():
        raise LeanconvError(f"cannot read {path}: there is no such file")
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever happens to it
        raise LeanconvError(f"{path} is no Keras model: {reason(error)}") from None
    if not model.built or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise LeanconvError(f"{path}: a model of one input and one output is needed")
    return model


def read_data(path: Path, model: Any) -> Data:
    """The arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of a .npz file.

    Raises
    ------
    LeanconvError
        If one is missing or does not fit the model, or the model is no classifier.
    """
    if len(model.outputs[0].shape) != 2:
        raise LeanconvError(f"a classifier's output is (N, classes), not {model.outputs[0].shape}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
    except KeyError as error:
        raise LeanconvError(f"{path}: {reason(error)}".replace('"', "")) from None
    except _NOT_ARRAYS as error:
        raise LeanconvError(f"cannot read {path}: {reason(error)}") from None
    shape, classes = model.inputs[0].shape[1:], model.outputs[0].shape[-1]
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.shape[1:] != shape or not len(x):
            raise LeanconvError(f"{path}: x_{part} is {x.shape}, the model takes (N, *{shape})")
        if x.dtype.kind not in "fiub":
            raise LeanconvError(f"{path}: x_{part} is of {x.dtype}, not of numbers")
        if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
            raise LeanconvError(f"{path}: y_{part} is not one whole number for each of x_{part}")
        if not 0 <= y.min() <= y.max() < classes:
            raise LeanconvError(f"{path}: y_{part} is not of 0 to {classes - 1}, as the model says")
    return Data(**arrays)
