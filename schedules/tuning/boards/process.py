"""Run a batch's program, or a command around it, as a process of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What is wrong with a process that ended as if all were well.
NOTHING_PRINTED = "it ended well, but nothing that the program prints came back"


@dataclass(frozen=True)
class Ending:
    """What a process left behind.

    ``lines`` are the JSON objects that it printed, ``last`` what it said last on its standard
    error, or else its exit status if it failed; ``in_time`` is false if it had to be ended.
    """

    lines: list[dict[str, Any]]
    last: str
    in_time: bool


def run_process(command: Sequence[str] | str, folder: Path, timeout_s: float) -> Ending:
    """Run a command in ``folder``: words, or a text for the shell.

    It has a process group of its own, all of which is ended when the time is over or the call is
    interrupted.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    with subprocess.Popen(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        in_time = True
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            in_time = False
            _end(process)
            output, errors = process.communicate()
        except BaseException:
            _end(process)
            raise
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    silence = f"exit status {process.returncode}" if process.returncode else NOTHING_PRINTED
    last = said[-1] if said else silence
    return Ending(json_lines(output), last, in_time)


def json_lines(output: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines of a program's output; others are not for us."""
    values = []
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                values.append(json.loads(line))
            except ValueError:  # cut off, when the program was ended
                continue
    return values


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it came to its end meanwhile
        os.killpg(process.pid, signal.SIGKILL)
