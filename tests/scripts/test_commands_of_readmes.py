"""The commands of the READMEs: each is understood, and what can run here and now does run."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from scripts.processes import ROOT
from scripts.tflite_benchmark import flags
from tests.support.tflite_writer import Conv, single_conv
from tvmc import cli
from tvmc.command import LineParser

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("schedules", "scripts", "tflite_delegate", "tuning_logs")
    for path in (ROOT / folder).rglob("*.md")
)
MAKE = re.compile(r"^([a-z-]+):", re.MULTILINE)
#: What needs a board, or minutes.
ELSEWHERE = ("HOST:", "adb", "make", "python", "tune", "tuning_logs")


def commands(document: str) -> Iterator[list[str]]:
    """Words of every command in an indented block, and of every script between backticks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^    (.*)$", text, re.MULTILINE)).replace("\\\n", " ")
    inline = [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    scripts = [span for span in inline if span.startswith("python -m scripts")]
    for line in [*blocks.splitlines(), *scripts]:
        is_whole = "…" not in line and "[" not in line
        if is_whole and re.match(r"(tvmc|make|adb) \S|python -m scripts", line):
            yield shlex.split(line, comments=True)


class Parsed(Exception):
    """The words have been understood."""


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = LineParser.parse_args

    def parse_args(parser: LineParser, *arguments: Any) -> Any:
        parse(parser, *arguments)
        raise Parsed

    monkeypatch.setattr(LineParser, "parse_args", parse_args)


def check_is_understood(words: Sequence[str]) -> None:
    first, *rest = words
    if first == "make":
        assert set(rest) <= set(MAKE.findall((ROOT / "Makefile").read_text()))
    elif program := [n for n, word in enumerate(rest) if word.endswith("benchmark_model")]:
        given = [word for word in rest[program[0] + 1 :] if word.startswith("-")]
        assert {word.split("=")[0] for word in given} <= set(flags.parser(None).options)
    elif first == "tvmc":
        with pytest.raises(Parsed):
            cli.main(rest)
    elif rest[1].startswith("scripts.examples."):  # tests/scripts/test_examples.py runs them
        assert find_spec(rest[1])
    elif first == "python":
        module = importlib.import_module(rest[1])
        if module.__spec__ and module.__spec__.submodule_search_locations:
            module = importlib.import_module(f"{rest[1]}.__main__")
        if len(rest) > 2 or hasattr(module, "main"):
            with pytest.raises(Parsed):
                module.main(rest[2:])


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("document", ["README.md", *DOCUMENTS])
def test_every_command_is_understood(document: str) -> None:
    for words in commands(document):
        check_is_understood(words)


@pytest.mark.usefixtures("parse_only")
def test_an_option_that_is_gone_is_found() -> None:
    for words in (["tvmc", "compile", "m.tflite", "--outptu", "x"], ["make", "tset"]):
        with pytest.raises((SystemExit, AssertionError)):
            check_is_understood(words)


def test_the_commands_of_the_readme_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those for one model on this machine, in their order, and then the lines in Python."""
    monkeypatch.chdir(tmp_path)
    Path("model.tflite").write_bytes(single_conv((1, 8, 8, 3), Conv(4)))
    found = [words for words in commands("README.md") if words[0] == "tvmc"]
    ran = [words for words in found if not any(w in " ".join(words) for w in ELSEWHERE)]
    assert {words[1] for words in ran} >= {"compile", "diff"}
    # The last file of a name is what the lines after it mean.
    for words in sorted(ran, key=lambda words: "--target" not in words):
        assert cli.main(words[1:]) == 0, capsys.readouterr().err
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (python,) = re.findall(r"In Python:\n\n((?:    .*\n)+)", text)
    names: dict[str, Any] = {}
    exec(re.sub(r"^    ", "", python, flags=re.MULTILINE), names)
    names["interpreter"].allocate_tensors()
    names["interpreter"].invoke()
