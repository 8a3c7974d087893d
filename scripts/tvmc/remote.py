"""Run a compiled module on a board behind a TVM RPC tracker.

TVM's RPC client has no time limits and may wait for ever in C. So it works in a process of its
own, ``python -m tvmc.remote``, which an alarm ends.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from tvmc.jobs import Job, Outcome

#: A board that takes longer to accept a session hangs.
ANSWER_SECONDS = 8.0


@dataclass(frozen=True)
class Request:
    """What the process is to do.

    Parameters
    ----------
    tracker : tuple of str and int
        Where the tracker listens.
    key : str
        What the boards are called there.
    timeout_s : float
        How long to wait for a board, and again for its answer.
    target : str
        What the module was compiled for, for messages.
    library, profiler, job
        See :func:`tvmc.vm_session.run_job`.
    """

    tracker: tuple[str, int]
    key: str
    timeout_s: float
    target: str
    library: Path
    profiler: Path | None
    job: Job


def run_remotely(request: Request) -> tuple[str, Outcome]:
    """The board's address, and what came back.

    Raises
    ------
    LeanconvError
        If the tracker does not answer or has no such board, or the board fails or is lost.
    """
    process = subprocess.run(
        [sys.executable, "-m", "tvmc.remote"],
        input=pickle.dumps(request),
        stdout=subprocess.PIPE,
        # The C++ client comments on every lost connection.
        stderr=subprocess.DEVNULL,
        check=False,
    )
    answers = _unpickled(process.stdout)
    if answers and isinstance(answers[-1], LeanconvError):
        raise answers[-1]
    if len(answers) == 3:
        return answers[0], answers[2]
    if process.returncode != -signal.SIGALRM or not answers:
        raise LeanconvError(f"the RPC client ended with status {process.returncode}: try again")
    if len(answers) == 1:
        raise LeanconvError(f"board {answers[0]} accepts no session: it hangs or is out of reach")
    raise LeanconvError(
        f"board {answers[0]} did not answer within {request.timeout_s:g} s: it is lost, or needs "
        "longer (--rpc-timeout)"
    )


def last_line(error: Exception) -> str:
    """What TVM has to say, behind where it happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _unpickled(output: bytes) -> list[Any]:
    """What the process sent; it may have been ended anywhere."""
    answers, file = [], io.BytesIO(output)
    with contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            answers.append(pickle.load(file))
    return answers


# The process


def _main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever else is printed is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(answer: object) -> None:
        pickle.dump(answer, answers)
        answers.flush()

    try:
        _serve(pickle.load(sys.stdin.buffer), send)
    except LeanconvError as error:
        send(error)
    # Without destructors: they would talk to the board.
    os._exit(0)


def _serve(request: Request, send: Callable[[object], None]) -> None:
    """Send the board's address, then anything once it has accepted a session, then the outcome."""
    from tvm import rpc
    from tvm.error import RPCError

    from tvmc.vm_session import run_job

    (host, port), match_key = _next_board(request)
    board = f"{host}:{port}"
    send(board)
    try:
        signal.setitimer(signal.ITIMER_REAL, ANSWER_SECONDS)
        limit = math.ceil(request.timeout_s + ANSWER_SECONDS)
        session = rpc.connect(host, port, match_key, session_timeout=limit)
        send(None)
        signal.setitimer(signal.ITIMER_REAL, request.timeout_s)
        send(run_job(session, request.library, request.profiler, request.job))
    except LeanconvError:
        raise
    except Exception as error:
        # Only an answer of the board has this type.
        answered = type(error) is RPCError
        what = f"cannot run a module for {request.target}" if answered else "was lost"
        raise LeanconvError(f"board {board} {what}: {last_line(error)}") from None


def _next_board(request: Request) -> tuple[tuple[str, int], str]:
    """The board whose turn it is, and the key that opens it."""
    from schedules.tuning.runners.rpc_tracker import Tracker

    name = f"RPC tracker {request.tracker[0]}:{request.tracker[1]}"
    try:
        with Tracker(request.tracker) as tracker:
            boards = tracker.boards()
            if request.key not in boards:
                others = ", ".join(sorted(boards)) or "none at all"
                raise LeanconvError(
                    f"{name} has no board with the key {request.key!r}; keys there: {others}"
                )
            tracker.request(request.key)
            if granted := tracker.granted(request.timeout_s):
                return granted
    except OSError as error:
        raise LeanconvError(
            f"{name} does not answer ({error.strerror or error}): "
            "start one with `python -m tvm.exec.rpc_tracker`"
        ) from None
    raise LeanconvError(
        f"every board with the key {request.key!r} is busy for more than {request.timeout_s:g} s"
    )


if __name__ == "__main__":
    _main()
