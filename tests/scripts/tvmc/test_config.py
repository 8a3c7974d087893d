"""`--config FILE`: options from a JSON file, over which the command line wins."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedules.tuning.records.log import Log, rewrite
from tests.support.records import record
from tvmc.cli import main, tvmc_parser
from tvmc.config import apply_config

Options = Callable[..., argparse.Namespace]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "tvmc.json"


@pytest.fixture
def options(config: Path) -> Options:
    """What the options are, given what is in the file and on the command line."""

    def parse(content: Any, *words: str) -> argparse.Namespace:
        config.write_text(json.dumps(content))
        parser, words = tvmc_parser(), (*words, "--config", str(config))
        apply_config(parser, words)
        return parser.parse_args(words)

    return parse


COMPILE = ("compile", "m.tflite", "-o", "out")


def test_every_kind_of_option(options: Options) -> None:
    content = {
        "output": "lib.so",  # required, and not on the command line
        "target": "cortex-a76",
        "workspace-limit": "64K",
        "jobs": 3,
        "max-error": 1e-6,
        "algorithm": ["winograd:outputs=2", "indirect"],
        "tuning-records": ["a", "b"],
        "pass-config": "tir.vectorize=false",
        "verbose": 2,
    }
    found = options(content, "compile", "m.tflite")
    assert found.output == Path("lib.so")
    assert (found.target, found.workspace_limit, found.jobs) == ("cortex-a76", 65536, 3)
    assert found.max_error == 1e-6
    assert found.algorithms == ["winograd:outputs=2", "indirect"]
    assert found.tuning_records == [Path("a"), Path("b")]
    assert found.pass_config == [("tir.vectorize", False)]
    assert found.verbose == 2
    assert found.objective == "time"


def test_sections(options: Options) -> None:
    content = {
        "target": "cortex-a72",
        "compile": {"target": "cortex-a76", "cross-compiler": "clang"},
        "tune": {"trials": 20},
        "records": {"best": {"json": True}},
    }
    compiled = options(content, *COMPILE)
    assert (compiled.target, compiled.cc) == ("cortex-a76", "clang")
    tuned = options(content, "tune", "m.tflite", "-o", "out")
    assert (tuned.target, tuned.trials) == ("cortex-a72", 20)
    assert options({"records": {"best": {"json": True}}}, "records", "best", "p").json is True
    assert options({"records": {"best": {"json": False}}}, "records", "best", "p").json is False
    assert options({"records": {"best": {"json": True}}}, "records", "show", "p").json is False
    assert options({"tune": {"target": "cortex-a76"}}, *COMPILE).target is None


def test_the_command_line_wins(options: Options) -> None:
    content = {"jobs": 3, "cc": "clang", "tuning-records": ["a", "b"], "target": "cortex-a76"}
    given = ("--jobs", "2", "--cross-compiler", "gcc", "--target", "cortex-a72")
    for words in ((*COMPILE, *given), (*COMPILE[:2], *given, *COMPILE[2:])):
        found = options(content, *words, "--tuning-records", "c", "--tuning-records", "d")
        assert (found.jobs, found.cc, found.target) == (2, "gcc", "cortex-a72")
        assert found.tuning_records == [Path("c"), Path("d")]


def test_a_target_may_be_an_object(options: Options) -> None:
    target = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"}
    assert json.loads(options({"target": target}, *COMPILE).target) == target


def test_without_a_file_nothing_changes() -> None:
    parser = tvmc_parser()
    apply_config(parser, COMPILE)
    assert parser.parse_args(COMPILE) == tvmc_parser().parse_args(COMPILE)


def test_a_command_takes_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(Log(tmp_path).path, [record(1e-3)])
    config.write_text('{"json": true}')
    assert main(["records", "show", str(tmp_path), f"--config={config}"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["v"] >= 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not valid JSON: Expecting value"),
        ("{'a': 1}", "is not valid JSON"),
        ("[1]", "does not hold an object with options by name"),
        ("\ud800", "is not valid JSON: 'utf-8' codec"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"trails": 3}', "trails: `tvmc compile` has no option --trails"),
        ('{"model": "m"}', "model: `tvmc compile` has no option --model"),
        ('{"compile": {"trials": 3}}', "trials: `tvmc compile` has no option"),
        ('{"tune": 3}', "tune: `tvmc compile` has no option --tune"),
        ('{"help": true}', "help: `tvmc compile` has no option"),
        ('{"config": "x"}', "config: `tvmc compile` has no option"),
        ('{"executor": {"graph": {}}}', "executor: Relax's virtual machine runs every module"),
        ('{"targets": [{"kind": "llvm"}]}', "targets: name one target with --target"),
        ('{"cc": "a", "cross-compiler": "a"}', "cross-compiler is the same as cc"),
        ('{"jobs": 0}', "jobs: '0' is not a number above 0"),
        ('{"jobs": true}', "jobs: 'true' is not a number above 0"),
        ('{"jobs": null}', "jobs: null is no value"),
        ('{"jobs": {"n": 3}}', "jobs: an object makes no sense here"),
        ('{"algorithm": ["a", ["b"]]}', 'algorithm: ["b"] is no value'),
        ('{"objective": "speed"}', "objective: invalid choice: 'speed'"),
        ('{"opt-level": "high"}', "opt-level: invalid int value: 'high'"),
        ('{"workspace-limit": "64KB"}', "workspace-limit: '64KB' is not a number of bytes"),
        ('{"tuning-records": [1, null]}', "tuning-records: null is no value"),
        ('{"verbose": -1}', "verbose: -1 is not true or false"),
    ],
)
def test_what_is_wrong_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    config.write_bytes(content.encode(errors="surrogatepass"))
    assert main([*COMPILE, "--config", str(config)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"tvmc: error: {config}")
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"json": 1}', "json: 1 is not true or false"),
        ('{"json": "yes"}', "json: 'yes' is not true or false"),
        ('{"executor": "graph"}', "executor: `tvmc records show` has no option --executor"),
    ],
)
def test_flags_are_true_or_false(
    config: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    config.write_text(content)
    assert main(["records", "show", "x", "--config", str(config)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, why in ((tmp_path / "no.json", "No such file"), (tmp_path, "Is a directory")):
        assert main([*COMPILE, "--config", str(path)]) == 2
        assert f"tvmc: error: cannot read {path}: {why}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*COMPILE, "--config"])
    assert capsys.readouterr().err == ("tvmc: error: argument --config: expected one argument\n")
