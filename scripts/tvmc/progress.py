"""How far a command is, on standard error."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

from schedules.progress import Progress

#: Called with a line for those who want to know all, and what stands there for now.
Tell = Callable[[str, Sequence[str]], None]


@contextlib.contextmanager
def shown_status(verbose: bool) -> Iterator[Tell]:
    """On a terminal, a status that is written over; everywhere, if ``verbose``, the lines."""
    on_terminal = sys.stderr.isatty()
    status: list[str] = []

    def clear() -> None:
        up = f"\x1b[{len(status) - 1}A" if len(status) > 1 else ""
        print(f"\r{up}\x1b[J", end="", file=sys.stderr, flush=True)

    def tell(line: str, now: Sequence[str]) -> None:
        if on_terminal:
            clear()
        if verbose:
            print(line, file=sys.stderr, flush=True)
        if on_terminal:
            width = shutil.get_terminal_size().columns - 1  # a full line may wrap
            status[:] = [text[:width] for text in now]
            print("\n".join(status), end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if on_terminal:
            clear()


@contextlib.contextmanager
def shown_progress(verbose: bool) -> Iterator[Progress]:
    """The same, of what is done step by step."""
    with shown_status(verbose) as tell:

        def show(done: int, total: int, text: str) -> None:
            line = f"[{done}/{total}] {text}"
            tell(line, [line])

        yield show
