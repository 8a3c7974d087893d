"""Read assembly as compilers print it: inner loops, multiply-adds, spills."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from schedules.lower import c_abi
from schedules.plan.plan import Plan
from schedules.plan.stored_kernels import kernel_key
from schedules.store import Store, digest
from schedules.target.simd import Simd

_LABEL = re.compile(r"^(\.?[\w$.]+):")
_BRANCH = re.compile(r"^(?:b|b\.\w+|cbn?z|tbn?z)\s+(?:.*,\s*)?(\.?[\w$.]+)$")
#: Vector registers are stored to the stack, or loaded from there.
_ON_STACK = re.compile(
    r"^(?P<way>ld|st)\w*\s+(?P<vectors>(?:\{\s*v|[bhsdqv])\d+.*)\[sp(?:,\s*#(?P<offset>\d+))?\]"
)
_BYTES = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16, "v": 16}


#: The same on x86-64, to the stack only.
_TO_STACK_ON_X86 = re.compile(r"^\s*vmov\w+\s+%[xyz]mm\d+, -?\d*\(%rsp", re.MULTILINE)


def assembly_of(plan: Plan, simd: Simd) -> str:
    """The assembly of one kernel of a registered algorithm, from the store if it is there."""
    store, key = Store.default(), digest("assembly", kernel_key({"kernel": plan}, simd))
    stored = store.get(key)
    if stored is not None:
        return stored.decode()
    text = c_abi.assembly(plan.schedule(simd), simd)
    store.put(key, text.encode())
    return text


def vectors_stored_on_x86_stack(assembly: str) -> int:
    """Instructions that store vector registers on the stack, in x86-64 assembly."""
    return len(_TO_STACK_ON_X86.findall(assembly))


@dataclass(frozen=True)
class Loop:
    """The instructions of an innermost loop, one a string.

    ``slots`` are the offsets at which the function both stores vector registers to the stack and
    loads them again. An array on the stack has none: one of the two goes by a moving pointer.
    """

    instructions: tuple[str, ...]
    slots: frozenset[int]

    @property
    def multiply_adds(self) -> int:
        """Vector multiply-adds."""
        return sum(line.startswith(("fmla", "fmls")) for line in self.instructions)

    @property
    def spills(self) -> int:
        """Instructions that spill vector registers to the stack or bring them back."""
        return sum(bool(_stack_offsets(line)[1] & self.slots) for line in self.instructions)


def _stack_offsets(line: str) -> tuple[str, set[int]]:
    """``ld`` or ``st``, and the stack offsets of the vector registers that it moves."""
    match = _ON_STACK.match(line)
    if not match:
        return "", set()
    names = re.findall(r"\b[bhsdqv]\d+", match["vectors"])
    start = int(match["offset"] or 0)
    return match["way"], {start + i * _BYTES[name[0]] for i, name in enumerate(names)}


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
    moved: dict[str, set[int]] = {"": set(), "ld": set(), "st": set()}
    for line in lines:
        way, offsets = _stack_offsets(line)
        moved[way] |= offsets
    slots = frozenset(moved["ld"] & moved["st"])
    for start, end in spans:
        if any((start, end) != other and start <= other[0] and other[1] <= end for other in spans):
            continue
        body = (line for line in lines[start + 1 : end + 1] if line and not line.endswith(":"))
        yield Loop(tuple(line for line in body if not line.startswith(".")), slots)
