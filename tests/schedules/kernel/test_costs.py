"""The model of time: what waits for what, and from which memory bytes come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schedules.kernel.costs import (
    IN_ORDER_COST,
    MOVE_COST,
    NEON_COST,
    SHOWN,
    SPILL_TRIPS,
    Work,
    inside,
    moves,
    of_one_thread,
    peak,
    reads,
    shared_seconds,
    spill_seconds,
    spills,
)
from schedules.kernel.sharing import OTHER_CORE, Share
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

ZEN4, INTEL, ARM = (Simd.named(name) for name in ("znver4", "sapphirerapids", "cortex-a76"))
IN_ORDER = Simd.named("cortex-a53")
KIB = 1024


@pytest.mark.parametrize("simd", [ZEN4, INTEL, ARM, IN_ORDER], ids=lambda simd: simd.name)
def test_arithmetic_and_bytes_take_what_the_core_says(simd: Simd) -> None:
    second = peak(simd, "float32")
    slower = {ARM: NEON_COST, IN_ORDER: IN_ORDER_COST}.get(simd, 1.0)
    assert Work(macs=second).seconds(simd, "float32") == pytest.approx(slower)
    from_memory = Work(memory_bytes=simd.memory_bandwidth * simd.clock_hz)
    assert from_memory.seconds(simd, "float32") == pytest.approx(1.0)
    from_l3 = Work(l3_bytes=simd.l3_bandwidth * simd.clock_hz)
    assert (from_l3 + from_memory).seconds(simd, "float32") == pytest.approx(2.0)
    twice = replace(simd, clock_hz=2 * simd.clock_hz)
    assert from_memory.seconds(twice, "float32") == pytest.approx(0.5)


def test_what_is_shorter_hides_where_vectors_take_two_halves() -> None:
    def ratio(simd: Simd, waiting: float) -> float:
        macs, size = peak(simd, "float32"), simd.memory_bandwidth * simd.clock_hz
        return Work(macs=macs, memory_bytes=waiting * size).seconds(simd, "float32")

    assert ratio(ZEN4, 0.5) == pytest.approx(1 + SHOWN / 2)
    assert ratio(ZEN4, 2.0) == pytest.approx(2 + SHOWN)
    assert ratio(INTEL, 0.5) == pytest.approx(1.5)
    assert ratio(ARM, 2.0) == pytest.approx(2.0 + NEON_COST)


def test_weights_come_from_memory_and_again_from_the_nearest_cache_that_holds_them() -> None:
    small, middle = 100 * KIB, ARM.l2_bytes
    large = ARM.l3_bytes + 1
    assert reads(small, 4, ARM) == Work(memory_bytes=small)
    assert reads(middle, 4, ARM) == Work(memory_bytes=middle, l3_bytes=3 * middle)
    assert reads(large, 4, ARM) == Work(memory_bytes=4 * large)
    # What lies beside them takes their place; a core without a third cache goes to memory.
    assert reads(small, 4, ARM, beside=small) == Work(memory_bytes=small, l3_bytes=3 * small)
    assert reads(small, 4, IN_ORDER) == Work(memory_bytes=4 * small)


def test_borders() -> None:
    layer = Conv2dWorkload.from_text("7x7x8->8 k3x3 p1,1,1,1")
    # Of 3 taps on 7 places, the first and the last place miss one each.
    assert inside(layer) == pytest.approx((19 / 21) ** 2)
    assert inside(Conv2dWorkload.from_text("7x7x8->8 k3x3")) == 1
    assert inside(Conv2dWorkload.from_text("8x1x8->8 k3x1 s2x1 p0,1,0,0")) == pytest.approx(11 / 12)


def test_what_moves_and_what_lies_between_kernels() -> None:
    inside = moves(1000, ARM, 4, 100 * KIB)
    assert inside == Work(macs=1000 * MOVE_COST)
    assert moves(1000, ARM, 4, ARM.l2_bytes) == inside + Work(l3_bytes=SPILL_TRIPS * 4000)
    assert spills(ARM.l2_bytes, ARM) == Work()
    assert spills(2 * ARM.l2_bytes, ARM) == Work(l3_bytes=SPILL_TRIPS * 2 * ARM.l2_bytes)
    beyond = 2 * ARM.l3_bytes
    assert spills(beyond, ARM) == Work(memory_bytes=SPILL_TRIPS * beyond)


@pytest.mark.parametrize(("threads", "most"), [(1, 7), (2, 4), (4, 2), (8, 1)])
def test_the_thread_with_the_most_rows_is_waited_for(threads: int, most: int) -> None:
    rows = Share(7)
    assert rows.part(threads) == pytest.approx(most / 7)
    done = of_one_thread(Work(macs=7e6, l3_bytes=7e3), rows, threads, ARM)
    assert (done.macs, done.l3_bytes) == pytest.approx((most * 1e6, most * 1e3))


def test_weights_come_from_memory_once_for_all_threads() -> None:
    weights = Work(memory_bytes=4000)
    two = replace(ARM, memory_cores=2.0)
    # Of pixels, what another thread gets from memory is in the third cache then.
    assert of_one_thread(weights, Share(8), 4, two) == Work(memory_bytes=2000, l3_bytes=3000)
    # Of channels, nobody reads another one's weights, but the image that the others wrote.
    by_channels = of_one_thread(weights, Share(8, others_bytes=100), 4, two)
    assert by_channels == Work(memory_bytes=2000, l3_bytes=OTHER_CORE * 75)
    # Where there is but one item, one thread reads, and no other one.
    assert of_one_thread(weights, Share(1), 4, two) == weights
    # Memory that serves four cores keeps nobody waiting.
    wide = of_one_thread(weights, Share(8, 100), 4, replace(ARM, memory_cores=4.0))
    assert wide.memory_bytes == 1000


def test_threads_meet_behind_every_stage() -> None:
    works = [Work(macs=3e6), Work(macs=8e6)]
    barrier = ARM.barrier_cycles / ARM.clock_hz

    def seconds(macs: float) -> float:
        return Work(macs=macs).seconds(ARM, "float32")

    def shared(*items: int, threads: int = 2) -> float:
        return shared_seconds(works, [Share(count) for count in items], threads, ARM, "float32")

    assert shared(8) == pytest.approx(seconds(5.5e6) + barrier)
    # The first stage in three items, of which one thread has two.
    assert shared(3, 8) == pytest.approx(seconds(2e6) + seconds(4e6) + 2 * barrier)
    # A single item is one thread's, which waits for nobody.
    assert shared(1, 8) == pytest.approx(seconds(3e6) + seconds(4e6) + barrier)
    assert shared(1) == shared(1, threads=1) == pytest.approx(seconds(11e6))


def test_threads_spill_their_parts() -> None:
    size = 2 * ARM.l2_bytes
    assert spill_seconds(size, ARM, "float32") == spills(size, ARM).seconds(ARM, "float32")
    assert spill_seconds(size, ARM, "float32", threads=2) == 0
