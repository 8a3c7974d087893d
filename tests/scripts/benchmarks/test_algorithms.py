"""benchmarks/algorithms.py on small layers: table, rows, pictures, and what cannot be run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from scripts.benchmarks import algorithms
from scripts.benchmarks.algorithms import COLUMNS, batches, main
from scripts.benchmarks.harness.comparison import compile_delegate
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.runners import BUILT_IN, XNNPACK, open_runner
from scripts.models.layers import LITERATURE_LAYERS
from tvmc.running.interpreter import Session
from tvmc.tables import format_bytes

MIB = 1 << 20


def run(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    path = folder / "rows.json"
    assert main([*arguments, "--rounds", "3", "--json", str(path)]) == 0
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


def test_table_rows_and_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = run(
        tmp_path, "--layers", "cv11,cv9", "--algorithms", "mec,im2col", "--svg", str(tmp_path)
    )
    names = [XNNPACK, BUILT_IN, "im2col", "mec"]
    assert [(row["layer"], row["runtime"]) for row in rows] == [
        (layer, name) for layer in ("cv9", "cv11") for name in names
    ]
    output = capsys.readouterr()
    header, _, *lines, _machine = output.out.splitlines()
    assert [title in header for title in COLUMNS] == [True] * len(COLUMNS)
    assert len(lines) == len(rows)
    assert "cv9, 56x56x64 3x3 valid -> 64: compiling im2col, mec …" in output.err.splitlines()
    for row, line in zip(rows, lines, strict=True):
        assert line.startswith(row["layer"])
        assert row["runtime"] in line
        check_measured(row, [other for other in rows if other["layer"] == row["layer"]])
    # MEC's paper: 6.41 and 2.21 MiB for cv9, 1.27 and 0.49 MiB for cv11.
    workspaces = [row["workspace_bytes"] for row in rows if row["workspace_bytes"] is not None]
    assert [round(count / MIB, 2) for count in workspaces] == [6.41, 2.21, 1.27, 0.49]
    for picture in algorithms.BENCHMARK.pictures:
        text = (tmp_path / picture).read_text()
        assert all(name in text for name in (*names, "cv9", "cv11"))


def check_measured(row: dict[str, Any], layer: list[dict[str, Any]]) -> None:
    assert row["reason"] is None
    # The layers sum up to 2304 products of values up to 1 and of order 1/sqrt(1152).
    assert 0 < row["max_difference"] < 2e-5
    for peer, of_peer in ((XNNPACK, "ratios"), (BUILT_IN, "built_in_ratios")):
        (base,) = [other for other in layer if other["runtime"] == peer]
        for figure in ("min", "median"):
            ratio = row["times"][f"{figure}_s"] / base["times"][f"{figure}_s"]
            assert row[of_peer][figure] == pytest.approx(ratio)
    assert row["times"]["samples"] == 3
    heap = row["heap"]
    assert heap["kept_heap_bytes"] <= heap["peak_heap_bytes"]
    if row["workspace_bytes"] is None:
        assert row["packed_bytes"] is heap["workspace_bytes"] is None
        return
    assert heap["workspace_bytes"] == row["workspace_bytes"]
    assert heap["packed_bytes"] == row["packed_bytes"]
    asked = row["workspace_bytes"] + row["packed_bytes"]
    assert asked < row["peak_bytes"] < asked + MIB // 2


def test_what_cannot_be_run_is_shown_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of cv9 in 6 MiB: the patch matrix takes 6.41 MiB, MEC is made to refuse."""
    monkeypatch.setattr(type(REGISTRY.get("mec")), "supports", lambda *_: "it is Sunday")
    rows = run(
        tmp_path, "--layers", "cv9", "--algorithms", "indirect,im2col,mec", "--memory", "6",
        "--svg", str(tmp_path),
    )  # fmt: skip
    by_name = {row["runtime"]: row for row in rows}
    reasons = {name: row["reason"] for name, row in by_name.items()}
    assert reasons[XNNPACK] is reasons["indirect"] is None
    assert reasons[BUILT_IN].startswith("it does not run within 6 MiB: ")
    im2col = by_name["im2col"]
    needed = (56**2 + 54**2) * 64 * 4 + im2col["workspace_bytes"] + im2col["packed_bytes"]
    assert reasons["im2col"] == f"it takes {format_bytes(needed)}, more than 6 MiB"
    assert reasons["mec"] == "it is Sunday"
    assert im2col["workspace_bytes"] == 54 * 54 * 9 * 64 * 4
    assert by_name["mec"]["workspace_bytes"] is None
    for name in (BUILT_IN, "im2col", "mec"):
        row = by_name[name]
        assert row["peak_bytes"] is row["times"] is row["max_difference"] is row["ratios"] is None
    assert by_name["indirect"]["ratios"] and not by_name["indirect"]["built_in_ratios"]
    text = capsys.readouterr().out.splitlines()
    assert text[6].split() == ["cv9", "mec", *["-"] * 10]
    assert text[7:-1] == [f"cv9, {name}: {reasons[name]}" for name in (BUILT_IN, "im2col", "mec")]
    assert "×: none" in (tmp_path / "algorithms_memory.svg").read_text()


def test_the_layers_are_those_of_the_paper() -> None:
    """Cho and Brand, arXiv 1706.06873: MiB of im2col's W' H' K_h K_w C elements."""
    figures = (4.19, 4.34, 6.91, 142.13, 3.66, 0.88, 5.08, 26.59, 6.41, 2.97, 1.27, 0.44)
    for number, figure in enumerate(figures, start=1):
        layer = LITERATURE_LAYERS[f"cv{number}"]
        assert round(layer.macs / layer.out_channels * 4 / MIB, 2) == figure
    names = [layer.name for layer in LITERATURE_LAYERS.values()]
    assert len(set(names)) == len(figures) + 2


def test_layers_are_timed_in_batches_that_fit() -> None:
    def row(name: str, mebibytes: int) -> dict[str, Any]:
        return {"runtime": name, "heap": {"peak_heap_bytes": mebibytes * MIB}}

    peers = [row(XNNPACK, 2), row(BUILT_IN, 3)]
    others = [row("a", 4), row("b", 1), row("c", 1), row("d", 20), row("e", 5)]
    found = list(batches([*peers, *others], 10 * MIB))
    assert [[r["runtime"] for r in batch[2:]] for batch in found] == [
        ["a", "b"], ["c"], ["d"], ["e"],
    ]  # fmt: skip
    assert all(batch[:2] == peers for batch in found)
    assert list(batches(peers, MIB)) == [peers]
    assert list(batches([], MIB)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "cv9,cv13"], "unknown layer 'cv13': one of cv1, cv2"),
        (["--layers", ""], "unknown layer ''"),
        (["--algorithms", "im2row"], "unknown algorithm 'im2row': one of dense, indirect"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.algorithms: error: ")
    assert message in line


def test_another_algorithm_than_asked_for_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, made_model: Callable[[str], Path], tmp_path: Path
) -> None:
    monkeypatch.setattr(Session, "report", lambda _: {"layers": [{"algorithm": "direct"}]})
    graph = made_model(LITERATURE_LAYERS["cv11"].name)
    compile_delegate(graph, tmp_path, LEANCONV, algorithms=["mec"])
    with pytest.raises(LeanconvError, match="does not run mec on conv-"):
        open_runner("mec", graph, 1, tmp_path)
