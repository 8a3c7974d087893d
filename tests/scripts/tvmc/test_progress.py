"""What commands show of their progress: on a terminal, and where standard error goes elsewhere."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from tvmc.progress import shown_progress, shown_status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_only_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose, expected in ((False, ""), (True, "[0/2] first\n[1/2] second\n")):
        with shown_progress(verbose) as progress:
            progress(0, 2, "first")
            progress(1, 2, "second")
        assert capsys.readouterr().err == expected


def test_a_terminal_shows_the_last_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with redirect_stderr(Terminal()) as terminal, shown_progress(verbose=False) as progress:
        progress(0, 2, "a text that is longer than a line")
        progress(1, 2, "second")
    assert terminal.getvalue() == ("\r\x1b[J[0/2] a text that i\r\x1b[J[1/2] second\r\x1b[J")


def test_lines_scroll_above_a_status_of_several_lines() -> None:
    with redirect_stderr(Terminal()) as terminal, shown_status(verbose=True) as tell:
        tell("tried", ["one", "two", "three"])
        tell("tried again", ["one"])
    assert terminal.getvalue() == (
        "\r\x1b[Jtried\none\ntwo\nthree\r\x1b[2A\x1b[Jtried again\none\r\x1b[J"
    )
