"""What every runner does: run a folder's program on a board and return what it prints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError

#: The program in a batch's folder. It reads the other files beside it, and prints JSON lines.
PROGRAM = "measure"


class BoardLost(LeanconvError):
    """A board stopped answering: not the candidates' fault as far as anybody knows."""


@dataclass(frozen=True)
class Batch:
    """A folder that is complete: :data:`PROGRAM` and the files that it reads.

    ``timeout_s`` is how long a healthy board takes at most; the program itself ends candidates that
    crash or take too long, and reports them.
    """

    folder: Path
    timeout_s: float


class Runner(ABC):
    """Runs batches on one or several boards."""

    #: For messages and the live display, such as ``rpc``.
    name: str

    @abstractmethod
    def boards(self) -> int:
        """Boards that answer now; as many batches can run side by side. 0 if all are lost."""

    @abstractmethod
    def run(self, batch: Batch) -> Sequence[dict[str, Any]]:
        """The JSON lines that the program printed; safe to call from several threads.

        Raises
        ------
        BoardLost
            If no board ran it to the end within ``batch.timeout_s`` of its start.
        LeanconvError
            If it cannot work at all: wrong key, unreachable tracker, command not found.
        """

    def close(self) -> None:
        """End what was started; a closed runner is not used again."""
        return
