"""The harness: options, table, JSON with the machine, pictures, reasons."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, chosen, ratio, table
from scripts.benchmarks.harness.machine import Machine

COLUMNS = {"model": cell("model"), "ratio": cell("ratios", "min", form=ratio)}


def measure(options: argparse.Namespace) -> Iterator[Row]:
    yield {"model": "a", "ratios": {"min": 0.25 * options.rounds}}
    yield {"model": "b", "ratios": None, "threads": 2, "reason": "it is Sunday"}


def report(rows: Rows) -> Iterator[str]:
    yield table(COLUMNS, rows, [["mean", "0.500"]])


TINY = Benchmark(
    "tiny", "What it does.", measure, report, shared={"rounds": 2},
    pictures={"tiny.svg": lambda rows: f"<svg>{len(rows)}</svg>"},
)  # fmt: skip


def test_everything_that_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    assert TINY.main(["--json", str(path), "--rounds", "4", "--svg", str(tmp_path)]) == 0
    machine = Machine.this()
    assert capsys.readouterr().out.splitlines() == [
        "model  ratio",
        "-----  -----",
        "a      1.000",
        "b          -",
        "mean   0.500",
        "b, 2 threads: it is Sunday",
        f"on {machine.describe()}",
    ]
    written = json.loads(path.read_text())
    assert written["command"] == "python -m scripts.benchmarks.tiny --rounds 4"
    assert Machine(**written["machine"]) == machine
    assert [row["model"] for row in written["rows"]] == ["a", "b"]
    assert (tmp_path / "tiny.svg").read_text() == "<svg>2</svg>"


@pytest.mark.parametrize("option", ["--json", "--svg"])
def test_what_cannot_be_written_is_said_at_once(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert TINY.main([option, "no/where"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.tiny: error: cannot write no/where")


def test_numbers_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        TINY.main(["--rounds", "0"])
    assert exit.value.code == 2
    assert "is not a number above 0" in capsys.readouterr().err


def test_names_are_chosen_in_the_order_of_those_known() -> None:
    assert chosen("part", None, "abc") == ["a", "b", "c"]
    assert chosen("part", "c,a", "abc") == ["a", "c"]
    with pytest.raises(LeanconvError, match="unknown part 'd': one of a, b, c"):
        chosen("part", "d", "abc")
