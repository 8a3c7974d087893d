"""The few protocol buffers that benchmark_model writes, encoded without a library.

Fields are written as (number, value): a string, bytes, another message as bytes, an int (a varint),
or a float (32 bits, which all of these messages use). ``None`` is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = str | bytes | int | float | None
_VARINT, _LENGTH, _FIXED32 = 0, 2, 5


def message(*fields: tuple[int, Value]) -> bytes:
    """A message of these fields, in this order; a number may be repeated."""
    return b"".join(_field(number, value) for number, value in fields if value is not None)


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return _varint(number << 3 | _LENGTH) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(number << 3 | _FIXED32) + struct.pack("<f", value)
    assert isinstance(value, int)
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative ones in two's complement
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def benchmark_result(
    latency: Sequence[float],
    footprint_kb: Sequence[int],
    peak_mb: float | None,
    model_mb: float,
    runs: Sequence[int],
    throughput: float,
) -> bytes:
    """``tflite.tools.benchmark.BenchmarkResult``.

    Parameters
    ----------
    latency : sequence of float
        Milliseconds: average, minimum, maximum, deviation, median, 5th and 95th percentile of the
        runs; initialisation, first inference, average of the warm-up.
    footprint_kb : sequence of int
        Growth of the process up to the first run, and up to the last.
    runs : sequence of int
        Timed ones, and those of the warm-up.
    throughput : float
        Megabytes of input a second.
    """
    return message(
        (2, message(*_numbered(map(float, latency)))),
        (3, message(*_numbered(footprint_kb), (3, peak_mb))),
        (4, message((1, model_mb), (2, runs[0]), (3, runs[1]), (4, throughput))),
    )


def _numbered(values: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(values, start=1)


def example(tensors: Sequence[tuple[str, NDArray[Any]]]) -> bytes:
    """``tensorflow.Example`` with a feature for each tensor of numbers: its elements in a row."""
    entries = []
    for name, values in tensors:
        flat = values.ravel()
        if flat.dtype.kind == "f":
            feature = message((2, message((1, flat.astype("<f4").tobytes()))))
        elif flat.dtype.kind in "iub":
            packed = b"".join(_varint(int(value)) for value in flat.astype(np.int64))
            feature = message((3, message((1, packed))))
        else:
            continue
        entries.append((1, message((1, name), (2, feature))))
    return message((1, message(*entries)))
