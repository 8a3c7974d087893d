"""Any command that brings a folder to a board and runs the program in it there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from schedules.errors import LeanconvError
from schedules.tuning.boards.base import PROGRAM, Batch, BoardLost, Runner
from schedules.tuning.boards.process import run_process

#: What a template may say of a batch.
FIELDS = ("{folder}", "{program}")
#: A board that was lost so often in a row is taken for gone.
MOST_LOST = 3


class CommandRunner(Runner):
    """Runs a command of the shell for each batch.

    Parameters
    ----------
    template : str
        The command, in which ``{folder}`` stands for the batch's folder and ``{program}`` for the
        program in it, absolute and quoted. It runs in that folder, and what it prints on its
        standard output are the program's lines.
    name : str, optional
        For messages.

    Raises
    ------
    LeanconvError
        If the template names neither.
    """

    def __init__(self, template: str, name: str = "command") -> None:
        if not any(field in template for field in FIELDS):
            raise LeanconvError(f"command {template!r} has neither {' nor '.join(FIELDS)}")
        self.template = template
        self.name = name
        self._has_worked = False
        self._lost = 0

    def boards(self) -> int:
        """One, until it was lost several times in a row."""
        return 0 if self._lost >= MOST_LOST else 1

    def run(self, batch: Batch) -> Sequence[dict[str, Any]]:
        """The JSON lines that the program printed; see :class:`Runner`."""
        values = (batch.folder.absolute(), batch.folder.absolute() / PROGRAM)
        command = self.template
        for field, value in zip(FIELDS, values, strict=True):
            command = command.replace(field, shlex.quote(str(value)))
        ending = run_process(command, batch.folder, batch.timeout_s)
        if ending.in_time and ending.lines:
            self._has_worked, self._lost = True, 0
            return ending.lines
        problem = ending.last
        if not ending.in_time:
            problem = f"nothing for {batch.timeout_s:.0f} s"
        if self._has_worked:
            self._lost += 1
            raise BoardLost(f"{self.name}: the board is lost: {problem}")
        raise LeanconvError(f"{self.name}: the command does not reach a board: {problem}")
