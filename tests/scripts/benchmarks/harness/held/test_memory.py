"""What memray counts of TFLite's runs, and what is made of its records."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import memray
import numpy as np
import pytest

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.comparison import built_in_outputs, compile_delegate
from scripts.benchmarks.harness.held.memory import measure, peak_bytes
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.runners import BUILT_IN, inputs_path
from scripts.models.layers import LAYERS

MIB = 1 << 20


def test_the_peak_of_known_blocks_without_the_mapping_of_a_file(tmp_path: Path) -> None:
    trace, file = tmp_path / "trace", tmp_path / "file"
    file.write_bytes(bytes(3 * MIB))
    with memray.Tracker(trace), file.open("rb") as opened:
        first = np.ones(4 * MIB, np.uint8)
        del first
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        second = np.ones(2 * MIB, np.uint8)
        third = np.ones(7 * MIB, np.uint8)
        del third
    peak, kept = peak_bytes(trace, 3 * MIB)
    assert 9 * MIB <= peak < 9 * MIB + MIB // 16
    assert 2 * MIB <= kept < 2 * MIB + MIB // 16
    with_file, _ = peak_bytes(trace, 0)
    assert with_file == peak + 3 * MIB
    assert mapped.size() == 3 * MIB and second.size == 2 * MIB


@pytest.fixture
def layer(made_model: Callable[[str], Path], tmp_path: Path) -> Path:
    graph = made_model(LAYERS[1].name)
    np.savez(inputs_path(tmp_path), *built_in_outputs(graph)[0])
    return graph


def test_a_leanconv_run_takes_what_it_reports(layer: Path, tmp_path: Path) -> None:
    compile_delegate(layer, tmp_path, LEANCONV, algorithms=["mec", "indirect"])
    use = {}
    for name in ("mec", "indirect"):
        measured = measure(name, layer, 1, tmp_path)
        use[name] = {key: count or 0 for key, count in measured.items()}
    for found in use.values():
        peak = found["peak_heap_bytes"] - found["tensor_bytes"]
        kept = found["kept_heap_bytes"] - found["tensor_bytes"]
        asked = found["workspace_bytes"] + found["packed_bytes"]
        assert asked <= kept <= peak < asked + MIB // 2
        assert found["arena_bytes"] == found["tensor_bytes"] + found["workspace_bytes"]
        assert 0 < found["kept_rss_bytes"] <= found["peak_rss_bytes"]
    assert use["indirect"]["tensor_bytes"] == 2 * 28 * 28 * 128 * 4
    grown = use["mec"]["peak_heap_bytes"] - use["indirect"]["peak_heap_bytes"]
    assert use["indirect"]["workspace_bytes"] == 0
    assert abs(grown - use["mec"]["workspace_bytes"]) < 16384


def test_a_peak_that_is_gone_after_the_run_is_seen(layer: Path, tmp_path: Path) -> None:
    """TFLite's built-in kernel frees temporaries before its first run ends."""
    measured = measure(BUILT_IN, layer, 1, tmp_path)
    patch_matrix = 28 * 28 * 9 * 128 * 4
    peak, kept = measured["peak_heap_bytes"], measured["kept_heap_bytes"]
    assert peak is not None and kept is not None
    assert patch_matrix < kept < peak - 16384


def test_a_run_that_does_not_fit(layer: Path, tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match=r"does not run within 2 MiB: ") as caught:
        measure(BUILT_IN, layer, 1, tmp_path, 2 * MIB)
    assert str(layer.parent) not in str(caught.value)
    assert "\n" not in str(caught.value)
