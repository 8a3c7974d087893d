"""Hashes of weights."""

from __future__ import annotations

import numpy as np
import pytest

from tflite_delegate.embedding.hashes import SAMPLE_BYTES, SAMPLES, joined, sample_hash, whole_hash


@pytest.mark.parametrize("size", [1, 8, 255, 256, 257, 4099])
def test_any_byte_counts_in_the_whole(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    seen = {whole_hash(data)}
    for place in range(0, size, max(size // 50, 1)):
        changed = data.copy()
        changed[place] ^= 1
        seen.add(whole_hash(changed))
    assert len(seen) == 1 + len(range(0, size, max(size // 50, 1)))


def test_words_in_another_order_differ() -> None:
    words = np.arange(64, dtype=np.uint64)
    assert whole_hash(words) != whole_hash(words[::-1])
    hashes = whole_hash(words), whole_hash(words + np.uint64(1))
    assert joined(hashes) != joined(hashes[::-1])


def test_samples_are_at_both_ends_and_between() -> None:
    size = 10000
    data = np.zeros(size, np.uint8)
    read = []
    for place in range(size):
        data[place] = 1
        read.append(sample_hash(data) != sample_hash(np.zeros(size, np.uint8)))
        data[place] = 0
    assert sum(read) == SAMPLES * SAMPLE_BYTES
    assert read[0]
    assert any(read[-SAMPLE_BYTES:])
