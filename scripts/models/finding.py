"""Models by what people call them: names of models/make.py, single layers, or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schedules.errors import LeanconvError
from scripts.models.layers import ConvLayer
from scripts.models.make import ensure

#: Files have it, names of models do not.
SUFFIX = ".tflite"


def found(names: Sequence[str]) -> list[Path]:
    """As :func:`scripts.models.make.ensure`; names that end in ``.tflite`` are files.

    Raises
    ------
    LeanconvError
        If a file is not there, or a model is not known or cannot be made.
    """
    files = {name: Path(name) for name in names if name.endswith(SUFFIX)}
    for name, path in files.items():
        if not path.is_file():
            raise LeanconvError(f"there is no file {name}")
    others = [name for name in names if name not in files]
    files.update(zip(others, ensure(others), strict=True))
    return [files[name] for name in names]


def layers_of(layers: Sequence[ConvLayer], dtype: str) -> list[Path]:
    """Paths of the models of single layers: "float32", with constants of "float16", or "int8".

    Or "hybrid": float32 with weights of int8.
    """
    suffix = "" if dtype == "float32" else f"_{dtype}"
    return ensure([layer.name + suffix for layer in layers])
