"""`tvmc records`: tables, JSON, files, and one line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS
from schedules.tuning.records.log import Log, load, rewrite
from tests.support.records import LAYER, OTHER_LAYER, record
from tvmc.command import LineParser, exit_status
from tvmc.tuning.records import add_parser

UNTUNED = record(3e-3, candidate=plan_kernel(LAYER, PRESETS["cortex-a76"]).choice)
FAST, FAILED = record(1.5e-3, columns=2), record(None, columns=3)
OTHER = record(5e-3, workload=OTHER_LAYER, target="cortex-a53", cost_kind="modelled")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = Log(tmp_path).path
    rewrite(path, [FAILED, UNTUNED, OTHER, FAST])
    return path


def run(*arguments: object) -> int:
    parser = LineParser(prog="tvmc")
    add_parser(parser.add_subparsers(required=True))
    try:
        options = parser.parse_args(["records", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return exit_status("tvmc", lambda: options.run(options))


def test_show(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", log) == 0
    header, _, other, fast, untuned, failed = capsys.readouterr().out.splitlines()
    assert header.split() == ["workload", "algorithm", "knobs", "median", "ms", "spread",
                              "samples", "error", "kind", "target"]  # fmt: skip
    assert other.split()[-2:] == ["modelled", "cortex-a53"]
    assert "columns=2:order=rows,columns" in fast
    assert fast.split()[-6:] == ["1.5", "110.0%", "5", "-", "measured", "cortex-a76"]
    assert untuned.startswith("28x28x64->64 k1x1 relu ")
    assert "the process ended with signal 11" in failed


def test_show_one_workload_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", log.parent, "--workload", LAYER.to_text(), "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values == [json.loads(r.to_line()) for r in (FAST, UNTUNED, FAILED)]


def test_best(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "best.txt"
    assert run("best", log, "-o", output) == 0
    _, _, other, fast, *notes = capsys.readouterr().out.splitlines()
    assert other.split()[-3:] == ["-", "modelled", "cortex-a53"]
    assert fast.split()[-3:] == ["2.00x", "measured", "cortex-a76"]
    assert notes[-1] == f"wrote {output}"
    assert load(output) == [OTHER, FAST]


def test_best_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("best", log, "--json") == 0
    other, fast = json.loads(capsys.readouterr().out)
    assert fast == {**json.loads(FAST.to_line()), "gain": 2.0}
    assert other["gain"] is None


def test_no_gain_over_what_another_board_took(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(log, [UNTUNED, record(1e-3, board="pi-5-overclocked")])
    assert run("best", log, "--json") == 0
    (fast,) = json.loads(capsys.readouterr().out)
    assert (fast["board"], fast["gain"]) == ("pi-5-overclocked", None)


def test_merge_and_prune(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "all.jsonl"
    assert run("merge", log, log, "-o", output) == 0
    assert load(output) == load(log)
    assert run("prune", output, "--keep", "1") == 0
    assert load(output) == [UNTUNED, OTHER, FAST]
    assert run("prune", log, "--keep", "1", "-o", output) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {output}: 4 records",
        f"wrote {output}: 3 of 4 records",
        f"wrote {output}: 3 of 4 records",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nowhere"], "no tuning records at nowhere"),
        (["show", "{folder}/empty"], "holds no tuning records"),
        (["show", "{log}", "--workload", "28x28"], "'28x28' describes no convolution"),
        (["show", "{log}", "--workload", "1x1x1->1 k1x1"], "no records of 1x1x1->1 k1x1"),
        (["best", "{folder}/failed.txt"], "every trial in"),
        (["best", "{log}", "-o", "{folder}/none/best.jsonl"], "cannot write"),
        (["merge", "{log}"], "required: -o/--output"),
        (["merge", "{log}", "nowhere", "-o", "{folder}/all.jsonl"], "no tuning records at"),
        (["merge", "{log}", "-o", "{folder}/none/all.jsonl"], "cannot write"),
        (["prune", "{log}"], "required: --keep"),
        (["prune", "{log}", "--keep", "0"], "'0' is not a number above 0"),
        (["prune", "nowhere", "--keep", "1"], "no tuning records at nowhere"),
        (["prune", "{folder}/failed.txt", "--keep", "1"], "nothing is worth keeping"),
        ([], "required: COMMAND"),
        (["sort", "{log}"], "invalid choice: 'sort'"),
    ],
)
def test_bad_input_ends_in_one_line(
    log: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (log.parent / "empty").mkdir()
    rewrite(log.parent / "failed.txt", [FAILED])
    before = log.read_bytes()
    assert run(*(text.format(log=log, folder=log.parent) for text in arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tvmc: error: ")
    assert message in line
    assert log.read_bytes() == before
