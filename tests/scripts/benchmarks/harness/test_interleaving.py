"""The timing harness: percentiles, order, calibration, tables."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks.harness.interleaving import (
    SAMPLE_SECONDS,
    SUMMARY_HEADER,
    Timing,
    interleave,
    summary_columns,
)
from tvmc.tables import format_bytes, format_table


def test_percentiles_of_a_hundred() -> None:
    timing = Timing(tuple(float(n) for n in range(100, 0, -1)))
    assert (timing.minimum, timing.median) == (1.0, 50.5)
    assert [timing.percentile(p) for p in (0, 1, 5, 25, 95, 100)] == [1, 1, 5, 25, 95, 100]


@given(st.lists(st.floats(1e-9, 1e3), min_size=1), st.floats(0, 100))
def test_a_percentile_is_a_sample_that_enough_do_not_exceed(
    samples: list[float], percent: float
) -> None:
    value = Timing(tuple(samples)).percentile(percent)
    assert value in samples
    assert sum(sample <= value for sample in samples) >= len(samples) * percent / 100 - 1e-6


def test_ratios_are_to_the_base() -> None:
    assert Timing((2.0, 3.0, 10.0)).ratio(Timing((4.0, 6.0, 8.0))) == (0.5, 0.5)


def test_order_reverses_every_round() -> None:
    calls: list[str] = []

    def subject(name: str) -> None:
        calls.append(name)
        time.sleep(1.1 * SAMPLE_SECONDS)  # one call a sample

    timings = interleave({n: lambda n=n: subject(n) for n in "abc"}, rounds=3, warmup=1)  # type: ignore[misc]
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"
    assert {len(timing.seconds) for timing in timings.values()} == {3}


def test_short_calls_are_averaged() -> None:
    count = 0

    def subject() -> None:
        nonlocal count
        count += 1

    timing = interleave({"": subject}, rounds=2, warmup=5)[""]
    assert count > 100
    assert timing.median < SAMPLE_SECONDS / 10


def test_it_stops_after_the_time_but_not_before_three_rounds() -> None:
    timing = interleave({"": lambda: time.sleep(SAMPLE_SECONDS)}, rounds=1000, seconds=0.0)[""]
    assert len(timing.seconds) == 3


def test_summary_has_a_text_for_every_column() -> None:
    timing = Timing((1e-3, 2e-3))
    assert len(summary_columns(timing, timing)) == len(SUMMARY_HEADER)
    assert list(summary_columns(timing, None))[-2:] == ["-", "-"]


def test_tables_align_numbers_right_and_never_cut() -> None:
    text = format_table(("name", "count"), [["a" * 200, 5], ["b", 1000]])
    assert text.splitlines()[2] == "a" * 200 + "      5"
    assert text.splitlines()[3].endswith("  1000")
    assert format_table(("a", "b"), []).splitlines() == ["a  b", "-  -"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3 MiB"), (5 << 40, "5120 GiB")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text
