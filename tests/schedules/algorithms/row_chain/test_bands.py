"""Which rows a chain keeps, and which columns its strips compute."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from schedules.algorithms.row_chain.bands import strips_of, windows_of
from schedules.errors import LeanconvError
from schedules.layer.row_chain import RowChain, reach_of
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import align


def random_chain(seed: int) -> RowChain:
    """Two to eight layers of all kinds, with a residual wherever shapes allow one."""
    rng = np.random.default_rng(seed)
    layers: list[Conv2dWorkload] = []
    sources: list[int | None] = []
    height, width, channels = (int(rng.integers(9, 24)) for _ in range(3))
    for _ in range(int(rng.integers(2, 9))):
        size = int(rng.choice([1, 1, 3, 3, 5]))
        layer = Conv2dWorkload.with_padding(
            str(rng.choice(["SAME", "SAME", "SAME", "VALID"]))
            if min(height, width) > 8
            else "SAME",
            in_height=height,
            in_width=width,
            in_channels=channels,
            out_channels=int(rng.choice([channels, 6])),
            kernel_height=size,
            kernel_width=size,
            stride_height=int(rng.choice([1, 1, 1, 2])),
            stride_width=int(rng.choice([1, 1, 2])),
            dilation_height=int(rng.choice([1, 1, 2])),
        )
        shapes = [inner.input_shape for inner in (*layers, layer)]
        found = [i for i, shape in enumerate(shapes) if shape == layer.output_shape]
        source = int(rng.choice(found)) if found and rng.random() < 0.7 else None
        layers.append(replace(layer, residual=source is not None))
        sources.append(source)
        height, width, channels = layer.output_shape[1:]
    return RowChain(tuple(layers), tuple(sources))


def kept_at_once(chain: RowChain) -> dict[int, int]:
    """For each layer but the first, rows of its input from the oldest that is still needed on.

    Every row is computed when a layer first asks for it, the last layer's from top to bottom.
    """
    made: dict[int, dict[int, int]] = defaultdict(dict)  # layer -> row of its input -> when
    used: dict[int, dict[int, int]] = defaultdict(dict)  # likewise, when it is read last
    clock = 0

    def compute(place: int, row: int) -> None:
        nonlocal clock
        layer = chain.layers[place]
        first = row * layer.stride_height - layer.pad_top
        rows = range(first, first + reach_of(layer))
        for wanted in rows:
            if wanted not in made[place]:
                if place and 0 <= wanted < layer.in_height:
                    compute(place - 1, wanted)
                clock += 1
                made[place][wanted] = clock
        clock += 1
        used[place] |= dict.fromkeys(rows, clock)
        source = chain.sources[place]
        if source is not None:
            used[source][row] = clock

    for row in range(chain.layers[-1].out_height):
        compute(len(chain.layers) - 1, row)
    found = {}
    for place in range(1, len(chain.layers)):
        most = 0
        for newest, when in made[place].items():
            needed = [row for row in made[place] if row <= newest and used[place][row] >= when]
            most = max(most, newest - min(needed) + 1)
        found[place] = most
    return found


@pytest.mark.parametrize("seed", range(60))
def test_rows_are_those_that_are_needed_at_once(seed: int) -> None:
    chain = random_chain(seed)
    windows, _ = windows_of(chain, chain.layers[-1].out_width)
    for place, most in kept_at_once(chain).items():
        # Rows that strides leave out take no place, and some chains end before a window is full.
        assert windows[place].rows >= most
        if chain.layers[place].stride_height == 1 and chain.layers[place].out_height > 8:
            assert windows[place].rows == most


@pytest.mark.parametrize("seed", range(20))
def test_what_lives_at_once_does_not_overlap(seed: int) -> None:
    chain = random_chain(seed)
    for columns in (1, 3, chain.layers[-1].out_width):
        windows, total = windows_of(chain, columns)
        added = {source for source in chain.sources if source is not None}
        always = {i for i, window in enumerate(windows) if window.rows > 1} | added | {0}
        for i, one in enumerate(windows):
            assert one.offset % 64 == 0 and one.offset + one.bytes <= total
            for j, other in enumerate(windows[:i]):
                together = i in always or j in always or i == j + 1
                apart = (
                    other.offset + align(other.bytes) <= one.offset
                    or one.offset + align(one.bytes) <= other.offset
                )
                assert apart or not together or 0 in (one.bytes, other.bytes)


@pytest.mark.parametrize("seed", range(20))
def test_strips_compute_what_the_next_layer_reads(seed: int) -> None:
    chain = random_chain(seed)
    width = chain.layers[-1].out_width
    for columns in range(1, width + 1):
        strips = strips_of(chain, columns)
        ends = [(bands[-1].out_begin, bands[-1].out_end) for bands in strips]
        covered = [column for begin, end in ends for column in range(begin, end)]
        assert covered == list(range(width))
        for bands in strips:
            for band, following in pairwise(bands):
                assert (band.out_begin, band.out_end) == (following.in_begin, following.in_end)
            for band in bands:
                assert (band.row.out_height, band.row.out_width) == (
                    1,
                    band.out_end - band.out_begin,
                )
    assert sum(band.row.macs * band.layer.out_height for band in strips_of(chain, width)[0]) <= (
        chain.macs
    )


def test_refusals() -> None:
    layer = Conv2dWorkload(8, 8, 4, 4, 1, 1)
    added = replace(layer, residual=True)
    for layers, sources, text in (
        ((layer,), (None,), "at least two layers"),
        ((layer, replace(layer, in_height=9)), (None, None), "does not read"),
        ((layer, added), (None, None), "without a source"),
        ((added, layer), (1, None), "cannot add"),
    ):
        with pytest.raises(LeanconvError, match=text):
            RowChain(layers, sources)
