"""This machine as the board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schedules.errors import LeanconvError
from schedules.tuning.boards.base import PROGRAM, Batch, Runner
from schedules.tuning.boards.process import run_process


class LocalRunner(Runner):
    """Runs programs where they were made.

    A program that does not come to its end is the candidates' fault, and no board is lost: what it
    printed is returned.
    """

    name = "local"

    def boards(self) -> int:
        """This one."""
        return 1

    def run(self, batch: Batch) -> Sequence[dict[str, Any]]:
        """The JSON lines that the program printed; see :class:`Runner`."""
        try:
            ending = run_process([str(batch.folder / PROGRAM)], batch.folder, batch.timeout_s)
        except OSError as error:
            raise LeanconvError(
                f"this machine cannot run what was compiled for it ({error.strerror}): "
                "name its own target, or a runner that reaches the board"
            ) from None
        return ending.lines
