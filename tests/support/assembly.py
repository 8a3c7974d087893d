"""Read A64 assembly as compilers print it: inner loops, multiply-adds, spills."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LABEL = re.compile(r"^(\.?[\w$.]+):")
_BRANCH = re.compile(r"^(?:b|b\.\w+|cbn?z|tbn?z)\s+(?:.*,\s*)?(\.?[\w$.]+)$")
#: A vector register is stored to the stack, or loaded from there.
_SPILL = re.compile(r"^(?:ld|st)\w*\s+(?:\{\s*v|[bhsdqv])\d+.*\[sp\b")


@dataclass(frozen=True)
class Loop:
    """The instructions of an innermost loop, one a string."""

    instructions: tuple[str, ...]

    @property
    def multiply_adds(self) -> int:
        """Vector multiply-adds."""
        return sum(line.startswith("fmla") for line in self.instructions)

    @property
    def spills(self) -> int:
        """Vector registers that go to the stack or come from there."""
        return sum(_SPILL.match(line) is not None for line in self.instructions)


def inner_loops(assembly: str) -> Iterator[Loop]:
    """Every loop that contains no other loop.

    A loop is what stands between a label and a branch back to it.
    """
    lines = [line.split("//")[0].strip() for line in assembly.splitlines()]
    labels = {match[1]: row for row, line in enumerate(lines) if (match := _LABEL.match(line))}
    spans = [
        (labels[match[1]], row)
        for row, line in enumerate(lines)
        if (match := _BRANCH.match(line)) and labels.get(match[1], row) < row
    ]
    for start, end in spans:
        if any((start, end) != other and start <= other[0] and other[1] <= end for other in spans):
            continue
        body = (line for line in lines[start + 1 : end + 1] if line and not line.endswith(":"))
        yield Loop(tuple(line for line in body if not line.startswith(".")))
