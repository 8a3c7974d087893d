"""The line of an error that is for users."""

from __future__ import annotations

import pytest

from schedules.errors import complaint, nearest, reason


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n Shapes do not match \n@I.ir_module\nclass Module:\n    pass", "Shapes do not match"),
        (
            "Traceback (most recent call last):\n  File x\nRPCError: no such file",
            "RPCError: no such",
        ),
        (" \n", "ValueError"),
    ],
)
def test_reason(text: str, line: str) -> None:
    assert reason(ValueError(text)).startswith(line)
    assert "\n" not in reason(ValueError(text))


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("In file a.h:\n a.c:1: error: no x\nb.c:2: error: no y\n2 errors", "a.c:1: error: no x"),
        ("unpacking\ntar: short read\n", "tar: short read"),
        ("Traceback (most recent call last):\n raise ValueError(x)\nKeyError: 3", "KeyError: 3"),
        (" \n", "exit status 1"),
    ],
)
def test_complaint(output: str, line: str) -> None:
    assert complaint(output, "exit status 1") == line


def test_nearest() -> None:
    assert nearest("fuseop", ["FuseTIR", "fuseops", "x"]) == ": fuseops?"
    assert nearest("zzz", ["FuseOps"]) == ""


def test_a_long_reason_is_cut_off() -> None:
    told = reason(ValueError("no shape " + "[0, 0, 0] " * 1000))
    assert len(told) == 400
    assert told.startswith("no shape [0, 0, 0]") and told.endswith("…")
