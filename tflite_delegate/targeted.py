"""A .tflite model as it is computed on a processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from schedules.target.simd import Simd
from tflite_delegate.precision import with_precision
from tflite_delegate.read import model as tflite_model
from tflite_delegate.read.model import Model
from tflite_delegate.read.own_bytes import own_bytes
from tflite_delegate.rules import DEFAULT, with_rules

#: What is said of models of several: those of signatures, or that control flow runs.
OF_ONE_GRAPH = "plans and limits on all that is held are for models of one graph so far"


def read_for(
    path: str | Path,
    simd: Simd,
    batch: int | None = None,
    rounding: str = DEFAULT,
    precision: str | None = None,
) -> Model:
    """A model as it is computed on a processor.

    Parameters are those of :func:`tflite_delegate.build.build`.

    Raises
    ------
    LeanconvError
        If it cannot be read, or not be computed so.
    """
    model = tflite_model.read(path)
    model = with_rules(model if batch is None else model.for_batch(batch), rounding, simd)
    model = with_precision(model, precision, simd)
    return replace(model, own_bytes=own_bytes(model))
