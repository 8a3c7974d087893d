"""Values of inputs and outputs: .npz files, and what stands in for inputs that nobody gives."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import ArrayLike, NDArray

from schedules.errors import LeanconvError
from schedules.files import replace_atomically
from tvmc.compiling.package import TensorInfo
from tvmc.running.runner import FILL_MODES

#: Random integers stay within a byte, which every type of a model holds or nearly does.
SMALLEST, LARGEST = -128, 255


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by their names.

    Raises
    ------
    LeanconvError
        If it cannot be read or is no such file.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, NpzFile):
            raise ValueError
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise LeanconvError(f"there is no file {path}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise LeanconvError(
            f"{path} is no .npz file of numbers: numpy.savez({path.name!r}, NAME=VALUES) makes one"
        ) from None
    except OSError as error:
        raise LeanconvError(f"cannot read {path}: {error.strerror or error}") from None


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays under their names, atomically; raises LeanconvError if that cannot be."""
    for name, values in arrays.items():
        if values.dtype.hasobject:
            raise LeanconvError(f"cannot write {path}: {name} holds no numbers")
    file = io.BytesIO()
    np.savez(file, **dict[str, Any](arrays))
    replace_atomically(path, file.getvalue())


def input_values(
    expected: Sequence[TensorInfo], given: Mapping[str, ArrayLike], fill_mode: str, seed: int
) -> list[NDArray[Any]]:
    """A value for every input, in the order of ``expected``.

    Parameters
    ----------
    expected : sequence of TensorInfo
        The inputs.
    given : mapping of str to array
        Values by the inputs' names, of their shapes, and of types that theirs can represent.
    fill_mode : str
        One of :data:`tvmc.running.runner.FILL_MODES`, for the others. Random floating-point numbers
        are uniform in [-1, 1); random integers lie between :data:`SMALLEST` and :data:`LARGEST`.
    seed : int
        Of the random values.

    Raises
    ------
    LeanconvError
        If a value fits no input.
    """
    if fill_mode not in FILL_MODES:
        raise LeanconvError(f"unknown fill mode {fill_mode!r}: one of {', '.join(FILL_MODES)}")
    names = [info.name for info in expected]
    for name in given:
        if name not in names:
            known = ", ".join(f"{info.name!r} ({info})" for info in expected) or "none"
            raise LeanconvError(f"there is no input {name!r}: the model's inputs are {known}")
    rng = np.random.default_rng(seed)
    filled = [_filled(info, fill_mode, rng) for info in expected]
    return [
        _checked(info, np.asarray(given[info.name])) if info.name in given else value
        for info, value in zip(expected, filled, strict=True)
    ]


def _checked(info: TensorInfo, value: NDArray[Any]) -> NDArray[Any]:
    """``value`` as the input takes it: contiguous, in its type."""
    if value.shape != info.shape or not np.can_cast(value.dtype, info.dtype, "safe"):
        found = TensorInfo(info.name, value.shape, value.dtype.name)
        raise LeanconvError(f"input {info.name!r} is {info}, and the value given for it {found}")
    return np.ascontiguousarray(value, info.dtype).reshape(info.shape)


def _filled(info: TensorInfo, fill_mode: str, rng: np.random.Generator) -> NDArray[Any]:
    dtype = np.dtype(info.dtype)
    if dtype.kind not in "fiub":
        raise LeanconvError(f"input {info.name!r} is of type {dtype}: give it a value")
    if fill_mode != "random":
        return np.full(info.shape, 1 if fill_mode == "ones" else 0, dtype)
    if dtype.kind == "f":
        return np.asarray(rng.uniform(-1, 1, info.shape), dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, info.shape), dtype)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, SMALLEST), min(limits.max, LARGEST)
    return np.asarray(rng.integers(low, high, info.shape, dtype, endpoint=True))
