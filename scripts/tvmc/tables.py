"""Tables and quantities for people, the same in every command and script."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"-?[\d.,]+(e-?\d+)?( ?([KMG]i)?B|x|%)?|-|")


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns; those that hold only numbers are set flush right.

    Lines are never wrapped or cut: a table that is piped into a file keeps its columns.
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    columns = list(zip(*cells[1:], strict=True)) or [()] * len(header)
    right = [all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]

    def line(row: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        )
        return "  ".join(parts).rstrip()

    return "\n".join(
        [line(cells[0]), "  ".join("-" * width for width in widths)]
        + [line(row) for row in cells[1:]]
    )


def format_bytes(count: float) -> str:
    """``512 B``, ``1.5 KiB``, ``3.25 MiB``: four significant digits at most."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if abs(count) < 1024 or unit == "GiB":
            break
    return f"{count:.4g} {unit}"
