"""The one exception that users are meant to read, and the line of other errors that is for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: So many names that may have been meant are told.
NEAREST = 3
#: What stands above the answer of a board that failed.
RPC_HEADING = "Error caught from RPC call:"
#: Characters of a reason; what is longer, as the shape in a damaged model, is cut off.
MOST_CHARACTERS = 400


class LeanconvError(Exception):
    """Bad input or an unusable environment, told in one line: what is wrong and what to do.

    Commands print it as ``error: …`` on standard error and exit with status 2.
    """


class OverLimit(LeanconvError):
    """Nothing that is known holds so few bytes; the text says how few are possible."""

    status = 1


def reason(error: BaseException) -> str:
    """The line of ``error`` that tells what is wrong.

    Behind it TVM prints what it was about, often a whole module. A traceback, as of a board's
    answer, has it at the end.
    """
    lines = [line for line in _lines(str(error)) if not line.endswith(RPC_HEADING)]
    if not lines:
        return type(error).__name__
    return _shortened(lines[-1] if _has_traceback(lines) else lines[0])


def one_line(error: BaseException) -> str:
    """All that ``error`` says, in a line."""
    return " ".join(str(error).split()) or type(error).__name__


def complaint(output: str, otherwise: str = "no message") -> str:
    """The line of a failed program's output that tells what is wrong.

    It is the first that speaks of an error, as of a compiler, or else the last.
    """
    lines = _lines(output)
    if not lines:
        return otherwise
    errors = [] if _has_traceback(lines) else [line for line in lines if "error" in line.lower()]
    return _shortened((errors or lines[-1:])[0])


def _lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.splitlines()) if line]


def _has_traceback(lines: Iterable[str]) -> bool:
    return any(line.startswith("Traceback (") for line in lines)


def _shortened(line: str) -> str:
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a line that refuses ``name``: what may have been meant, if there is anything."""
    names = difflib.get_close_matches(name, sorted(known), NEAREST, 0.5)
    return f": {' or '.join(names)}?" if names else ""
