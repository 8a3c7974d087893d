"""Draw every picture anew: see the package."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.files import replace_atomically
from scripts.benchmarks import algorithms, networks
from scripts.benchmarks.sparse import accuracy
from scripts.pictures import floors, pipeline, workspaces
from tvmc.command import LineParser, exit_status

FOLDER = Path(__file__).parent
IDEAS: Mapping[str, Callable[[], str]] = {
    "pipeline.svg": pipeline.picture,
    "workspaces.svg": workspaces.picture,
    "floors.svg": floors.picture,
}
#: Other versions of matplotlib may place things a little otherwise.
_VERSION = re.compile(r"Matplotlib v[\d.]+")
_TEXT = re.compile(r"<text[^>]*>([^<]*)<")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = LineParser(prog="pictures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if one differs")
    options = parser.parse_args(arguments)
    return exit_status("pictures", lambda: _draw(options.check))


def _draw(check: bool) -> None:
    for name, drawn in pictures().items():
        path = FOLDER / name
        if check and not is_same(path.read_text(encoding="utf-8"), drawn):
            raise LeanconvError(f"{name} would be drawn otherwise: python -m scripts.pictures")
        if not check:
            replace_atomically(path, drawn.encode())


def pictures() -> dict[str, str]:
    """Name and SVG of every picture."""
    drawn = {name: draw() for name, draw in IDEAS.items()}
    for benchmark in (networks.BENCHMARK, algorithms.BENCHMARK, accuracy.BENCHMARK):
        if kept := benchmark.kept():
            drawn |= {name: draw(kept["rows"]) for name, draw in benchmark.pictures.items()}
    return drawn


def is_same(before: str, now: str) -> bool:
    """Whether two pictures show the same: to the byte, if one version of matplotlib drew both."""
    if _VERSION.findall(before) == _VERSION.findall(now):
        return before == now
    return _TEXT.findall(before) == _TEXT.findall(now)


if __name__ == "__main__":
    sys.exit(main())
