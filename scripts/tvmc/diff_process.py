"""Compare in a process of its own, ``python -m tvmc.diff_process``: LiteRT may crash on a model."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError, reason
from schedules.progress import Progress
from tvmc.comparing.differences import Unverifiable
from tvmc.comparison import Differences, diff_delegate, diff_module

_FUNCTIONS: Mapping[str, Callable[..., Differences]] = {
    "module": diff_module,
    "delegate": diff_delegate,
}


def diff(kind: str, model: Path, library: Path, progress: Progress, **more: Any) -> Differences:
    """What :func:`tvmc.comparison.diff_module` or ``diff_delegate`` finds, by ``kind``.

    Raises
    ------
    LeanconvError
        As they do; Unverifiable if LiteRT crashes.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tvmc.diff_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # LiteRT tells of every delegate
    )
    assert process.stdin and process.stdout
    with process, contextlib.suppress(EOFError, pickle.UnpicklingError, BrokenPipeError):
        pickle.dump((kind, model, library, more), process.stdin)
        process.stdin.close()
        while True:
            match pickle.load(process.stdout):
                case Differences() as found:
                    return found
                case LeanconvError() as error:
                    raise error
                case step:
                    progress(*step)
    status = process.returncode
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    raise Unverifiable(f"LiteRT cannot run {model}: its process ended with {how}")


def _main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever else is printed is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(answer: object) -> None:
        pickle.dump(answer, answers)
        answers.flush()

    def progress(*step: object) -> None:
        send(step)

    kind, model, library, more = pickle.load(sys.stdin.buffer)
    try:
        send(_FUNCTIONS[kind](model, library, progress=progress, **more))
    except LeanconvError as error:
        send(error)
    except Exception as error:  # of whatever kind a damaged model causes
        send(Unverifiable(f"{model} cannot be compared: {type(error).__name__}: {reason(error)}"))


if __name__ == "__main__":
    _main()
