"""The counting library against known patterns; and what it sees of TFLite."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from scripts.benchmarks.harness import heap_peak
from scripts.benchmarks.harness.heap_peak import HeapMeter
from scripts.models.make import LAYERS

PATTERN = Path(__file__).with_name("heap_pattern.c")
PATTERNS = (
    "freed_before_the_end",
    "all_freed",
    "realloc_moves",
    "realloc_shrinks",
    "realloc_as_malloc_and_free",
    "aligned",
    "refused",
    "mapping_with_a_hole",
    "mapping_gone",
    "mapping_grows",
    "mapping_replaced",
    "files_and_reservations_are_no_heap",
    "threads",
)
MIB = 1 << 20


@pytest.fixture(scope="module")
def meter() -> Iterator[HeapMeter]:
    with HeapMeter.compiled() as compiled:
        yield compiled


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("pattern") / "heap_pattern"
    target = f"{os.uname().machine}-linux-gnu.2.28"  # reallocarray
    options = ["-target", target, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    command = [sys.executable, "-m", "ziglang", "cc", *options, str(PATTERN), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def test_the_peak_is_exact(meter: HeapMeter, pattern: Path) -> None:
    done = subprocess.run(
        [pattern], env=meter.environment(), capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert tuple(name for name, *_ in rows) == PATTERNS
    for name, *figures in rows:
        live, peak, expected_live, expected_peak = map(int, figures)
        assert (live, peak) == (expected_live, expected_peak), name
    peaks = {name: int(peak) for name, _, peak, *_ in rows}
    # 8 MiB and 1000 bytes, and what malloc adds to them.
    assert 8 * MIB + 1000 <= peaks["freed_before_the_end"] <= 8 * MIB + 1000 + 8192


def test_nothing_is_counted_without_the_library(pattern: Path) -> None:
    assert subprocess.run([pattern], check=False).returncode == 3


def test_a_leanconv_run_takes_what_it_reports(
    meter: HeapMeter, compile_model: Callable, made_model: Callable[[str], Path]
) -> None:
    graph = made_model(LAYERS[1].name)
    library = compile_model(graph, algorithms=["mec", "indirect"]).library
    use = {
        name: meter.measure(graph, 1 << 30, delegate=library, delegate_options={"algorithm": name})
        for name in ("mec", "indirect")
    }
    for heap in use.values():
        assert heap.workspace_bytes is not None
        assert heap.packed_bytes is not None
        asked = heap.workspace_bytes + heap.packed_bytes
        assert asked <= heap.kept_bytes <= heap.peak_bytes < asked + MIB // 2
        assert heap.arena_bytes == heap.tensor_bytes + heap.workspace_bytes
    assert use["indirect"].tensor_bytes == 2 * 28 * 28 * 128 * 4
    grown = use["mec"].peak_bytes - use["indirect"].peak_bytes
    assert use["indirect"].workspace_bytes == 0
    assert abs(grown - (use["mec"].workspace_bytes or 0)) < 16384


def test_a_peak_that_is_gone_after_the_run_is_seen(
    meter: HeapMeter, made_model: Callable[[str], Path]
) -> None:
    """TFLite's built-in kernel frees temporaries before its first run ends."""
    heap = meter.measure(made_model(LAYERS[1].name), 1 << 30, xnnpack=False)
    patch_matrix = 28 * 28 * 9 * 128 * 4
    assert patch_matrix < heap.kept_bytes < heap.peak_bytes - 16384


def test_a_run_that_does_not_fit(meter: HeapMeter, made_model: Callable[[str], Path]) -> None:
    graph = made_model(LAYERS[1].name)
    with pytest.raises(LeanconvError, match=r"does not run within 2 MiB: ") as caught:
        meter.measure(graph, 2 * MIB, xnnpack=False)
    assert str(graph.parent) not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert meter.measure(graph, 8 * MIB, xnnpack=False).peak_bytes < 8 * MIB


def test_a_library_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int x = ;\n")
    monkeypatch.setattr(heap_peak, "SOURCE", broken)
    with pytest.raises(LeanconvError, match=r"cannot compile broken\.c"), HeapMeter.compiled():
        pass
