"""What makes a benchmark of a function: options, a table, JSON and pictures.

A benchmark yields rows, plain values as they stand in the JSON, and tells how such rows, measured
now or kept in a file, become text and pictures. The processor, its caches, the date and the commit
go with every result.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.files import check_writable, replace_atomically, write_json
from scripts.benchmarks.harness.machine import Machine
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.tables import format_table

#: What was measured last, a file for each benchmark.
RESULTS = Path(__file__).parents[1] / "results"
#: Bytes, seconds and text, nested.
Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
#: What a table shows of a row.
Cell = Callable[[Mapping[str, Any]], str]

_OPTIONS: dict[str, dict[str, Any]] = {
    "threads": {"type": at_least_one, "metavar": "N", "help": "of every runtime [%(default)s]"},
    "rounds": {"type": at_least_one, "help": "samples of each time [%(default)s]"},
    "seconds": {
        "type": float,
        "help": "of timing an input at most, unless 3 rounds take longer [%(default)g]",
    },
    "dtype": {
        "choices": ("float32", "float16", "hybrid", "int8"),
        "help": "types of the layers, as models/make.py converts them; float16 and hybrid: weights "
        "of float16 and int8 [%(default)s]",
    },
    "algorithm": {"help": "as for tvmc compile, one of them [%(default)s]"},
}


@dataclass(frozen=True)
class Benchmark:
    """One command.

    Parameters
    ----------
    name, description : str
        The module below ``scripts.benchmarks``, and its docstring.
    measure : callable
        Options to rows, one after another; complains of wrong options before the first.
    report : callable
        Rows to blocks of text.
    options : callable
        Adds options of its own to the parser.
    shared : mapping of str to value
        Which of the options that benchmarks share it takes, and their defaults.
    pictures : mapping of str to callable
        Names of files, and what makes the SVG in them of rows.
    """

    name: str
    description: str | None
    measure: Callable[[argparse.Namespace], Iterable[Row]]
    report: Callable[[Rows], Iterable[str]]
    options: Callable[[LineParser], None] = lambda _: None
    shared: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Callable[[Rows], str]] = field(default_factory=dict)

    def parser(self) -> LineParser:
        """Of the command line."""
        parser = LineParser(prog=f"benchmarks.{self.name}", description=self.description)
        self.options(parser)
        for name, default in self.shared.items():
            parser.add_argument(f"--{name}", default=default, **_OPTIONS[name])
        parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows")
        if self.pictures:
            parser.add_argument("--svg", type=Path, metavar="FOLDER", help="draw pictures there")
        return parser

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """The command."""
        parser = self.parser()
        options = parser.parse_args(arguments)
        command = self._command(sys.argv[1:] if arguments is None else arguments)
        return exit_status(parser.prog, lambda: self._run(options, command))

    def _command(self, arguments: Sequence[str]) -> str:
        """What to type for the same rows; where files go is nobody's concern."""
        kept = list(arguments)
        for option in ("--json", "--svg"):
            if option in kept:
                place = kept.index(option)
                del kept[place : place + 2]
        return shlex.join(["python", "-m", f"scripts.benchmarks.{self.name}", *kept])

    def _run(self, options: argparse.Namespace, command: str) -> None:
        folder = options.svg if self.pictures else None
        pictures = {folder / name: draw for name, draw in self.pictures.items()} if folder else {}
        for path in [*pictures, *filter(None, [options.json])]:
            check_writable(path)
        rows = list(self.measure(options))
        machine = Machine.this()
        print(self.text(rows))
        print(f"on {machine.describe()}")
        if options.json:
            result = {"command": command, "machine": machine.to_dict(), "rows": rows}
            write_json(options.json, result)
        for path, draw in pictures.items():
            replace_atomically(path, draw(rows).encode())

    @property
    def kept_path(self) -> Path:
        """Where its results are kept."""
        return RESULTS / f"{self.name}.json"

    def kept(self) -> dict[str, Any] | None:
        """Command, machine and rows of what was measured last, if they are kept."""
        if not self.kept_path.exists():
            return None
        result: dict[str, Any] = json.loads(self.kept_path.read_text(encoding="utf-8"))
        return result

    def text(self, rows: Rows) -> str:
        """The report, and why rows are missing in it."""
        return "\n".join([*self.report(rows), *_reasons(rows)])


def _reasons(rows: Rows) -> Iterator[str]:
    """A line for each row that has a reason why it was not measured."""
    for row in rows:
        if row.get("reason"):
            names = (row.get(key) for key in ("model", "network", "layer", "runtime"))
            threads = row.get("threads", 1)
            more = [f"{threads} threads"] if threads > 1 else []
            yield f"{', '.join([*filter(None, names), *more])}: {row['reason']}"


def table(columns: Mapping[str, Cell], rows: Rows, below: Iterable[Sequence[str]] = ()) -> str:
    """Aligned text with a line for each row, and more lines ``below`` in the same columns."""
    lines = [[text(row) for text in columns.values()] for row in rows]
    return format_table(list(columns), [*lines, *below])


def cell(*path: str, form: Callable[[Any], str] = str) -> Cell:
    """Of a row, the value at ``path`` as text; ``-`` where there is none."""

    def text(row: Mapping[str, Any]) -> str:
        value: Any = row
        for key in path:
            value = None if value is None else value.get(key)
        return "-" if value is None else form(value)

    return text


def ratio(value: float) -> str:
    """Three digits behind the point."""
    return f"{value:.3f}"


def factor(value: float) -> str:
    """Times faster."""
    return f"{value:.2f}x"


def difference(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2g}"


def chosen(what: str, text: str | None, known: Iterable[str]) -> list[str]:
    """The names in ``text``, in the order of those known; all if there is no text.

    Raises
    ------
    LeanconvError
        If one is not known.
    """
    known = list(known)
    wanted = known if text is None else text.split(",")
    for name in wanted:
        if name not in known:
            raise LeanconvError(f"unknown {what} {name!r}: one of {', '.join(known)}")
    return [name for name in known if name in wanted]


def say(text: str) -> None:
    """Tell on standard error how far a benchmark has come."""
    print(text, file=sys.stderr, flush=True)
