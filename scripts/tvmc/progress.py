"""How far a compilation is, on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

#: Called with how many layers are done, how many there are, and what is being done.
Progress = Callable[[int, int, str], None]


@contextlib.contextmanager
def shown_progress(verbose: bool) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere, when asked for, one line a step."""
    if not sys.stderr.isatty():
        yield _print_line if verbose else _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=not verbose) as bar:
        task = bar.add_task("reading the model", total=None)

        def show(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text)
            if verbose:
                bar.console.print(text, markup=False, highlight=False)

        yield show


def _print_line(done: int, total: int, text: str) -> None:
    print(f"[{done}/{total}] {text}", file=sys.stderr, flush=True)


def _nothing(_done: int, _total: int, _text: str) -> None:
    pass
