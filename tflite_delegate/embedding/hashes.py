"""Hashes that tell whether a model has the weights that a library was made of.

Of changes by accident: a model trained further, another one of the same shape. Each 64-bit word is
mixed with its place, and all of them are added up, so that any part can be hashed by itself. The
delegate computes the same (csrc/kernels/embedded/embedded.c).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_MASK = 2**64 - 1
_PLACE_FACTOR = 0x9E3779B97F4A7C15
_WORD_FACTOR = 0xBF58476D1CE4E5B9
_SUM_FACTOR = 0x94D049BB133111EB
_WORD = 8
#: What is hashed of a tensor where not all of it is to be read.
SAMPLES, SAMPLE_BYTES = 4, 64
#: Words in hand at once.
_CHUNK = 1 << 20


def whole_hash(data: np.ndarray) -> int:
    """The hash of all bytes of a tensor."""
    return _hash_words(_words(data), 0)


def sample_hash(data: np.ndarray) -> int:
    """The hash of :data:`SAMPLES` parts of a tensor, as far apart as they can be."""
    return _samples(_words(data), data.nbytes)


def _samples(words: np.ndarray, size: int) -> int:
    if size <= SAMPLES * SAMPLE_BYTES:
        return _hash_words(words, 0)
    step, count = (size - SAMPLE_BYTES) // (SAMPLES - 1) // _WORD, SAMPLE_BYTES // _WORD
    return sum(_hash_words(words[i * step :][:count], i * step) for i in range(SAMPLES)) & _MASK


def _words(data: np.ndarray) -> np.ndarray:
    """The bytes as words, the last filled up with zeros."""
    raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.pad(raw, (0, -raw.size % _WORD)).view("<u8")


def _hash_words(words: np.ndarray, first: int) -> int:
    total = 0
    for begin in range(0, len(words), _CHUNK):
        part = words[begin : begin + _CHUNK]
        places = np.arange(first + begin + 1, first + begin + len(part) + 1, dtype=np.uint64)
        mixed = (part ^ places * np.uint64(_PLACE_FACTOR)) * np.uint64(_WORD_FACTOR)
        mixed ^= mixed >> np.uint64(32)
        total += int((mixed * np.uint64(_SUM_FACTOR)).sum(dtype=np.uint64))
    return total & _MASK


def joined(hashes: Iterable[int]) -> int:
    """The hash of several tensors, in their order."""
    total = 0
    for value in hashes:
        total = (total * _SUM_FACTOR + value) & _MASK
    return total
