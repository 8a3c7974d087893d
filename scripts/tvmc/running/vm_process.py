"""Run a compiled module in a process of its own, ``python -m tvmc.running.vm_process``.

A module may crash, and TVM's RPC client may wait for a lost board for ever, in C: a process can be
ended, by its user or by an alarm, and this one goes on to say what happened.
"""

from __future__ import annotations

import math
import os
import re
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from schedules.errors import LeanconvError, reason
from tvmc.answers import Asked, Send, answer
from tvmc.jobs import DataRefused, Job, Outcome

#: A board that takes longer to accept a session hangs.
ANSWER_SECONDS = 8.0
#: What a module says of data that an operator cannot take, such as indices out of range.
_CHECKED = re.compile(r"operator \d+ \(\w+\): .*")
#: TVM reads it when it first needs threads.
THREADS_VARIABLE = "TVM_NUM_THREADS"


@dataclass(frozen=True)
class Boards:
    """Any board that ``tracker`` has under ``key``.

    ``timeout_s`` is how long to wait for a free one, and again for its answer.
    """

    tracker: tuple[str, int]
    key: str
    timeout_s: float


@dataclass(frozen=True)
class Request:
    """What the process is to do.

    Parameters
    ----------
    library, profiler, job
        See :func:`tvmc.running.vm_session.run_job`.
    target : str
        What the module was compiled for, for messages.
    boards : Boards or None
        Where to run it; ``None``: here.
    """

    library: Path
    profiler: Path | None
    job: Job
    target: str
    boards: Boards | None


def run_in_process(request: Request) -> tuple[str, Outcome]:
    """Where the module was run, and what came back.

    Raises
    ------
    LeanconvError
        If it cannot be run, or crashes; if the tracker does not answer or has no such board, or the
        board is lost.
    """
    environment = dict(os.environ)
    if request.job.threads and not request.boards:
        environment[THREADS_VARIABLE] = str(request.job.threads)
    # TVM keeps a session's files in a folder there, which stays when the process is ended.
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        asked = Asked("tvmc.running.vm_process", request, {**environment, "TMPDIR": folder})
        answers = list(asked)
    if len(answers) == 3:
        return answers[0], answers[2]
    if request.boards and answers and asked.status == -signal.SIGALRM:
        if len(answers) == 1:
            raise LeanconvError(f"{answers[0]} accepts no session: it hangs or is out of reach")
        raise LeanconvError(
            f"{answers[0]} did not answer within {request.boards.timeout_s:g} s: it is lost, or "
            "needs longer (--rpc-timeout)"
        )
    raise LeanconvError(
        f"the process that ran a module for {request.target} was ended {asked.ending}"
    )


# The process


def _serve(request: Request, send: Send) -> None:
    """Send where the module will be run, then anything once it can be, then the outcome."""
    from tvm import rpc
    from tvm.error import RPCError

    from tvmc.running.vm_session import run_job

    boards = request.boards
    place = "this machine"
    if boards:
        (host, port), match_key = _next_board(boards)
        place = f"board {host}:{port}"
    send(place)
    try:
        if boards:
            signal.setitimer(signal.ITIMER_REAL, ANSWER_SECONDS)
            limit = math.ceil(boards.timeout_s + ANSWER_SECONDS)
            session = rpc.connect(host, port, match_key, session_timeout=limit)
            signal.setitimer(signal.ITIMER_REAL, boards.timeout_s)
        else:
            session = rpc.LocalSession()
        send(None)
        send(run_job(session, request.library, request.profiler, request.job))
    except LeanconvError:
        raise
    except Exception as error:  # TVM raises all kinds
        told = reason(error)
        if refused := _CHECKED.search(told):
            raise DataRefused(refused.group()) from None
        # Only an answer of the board has this type.
        if boards and type(error) is not RPCError:
            raise LeanconvError(f"{place} was lost: {told}") from None
        if "Failed to load dynamic shared library" in str(error):
            # It would tell of files that are missing, whatever it is.
            told = "it does not load, as one for another processor"
        raise LeanconvError(f"{place} cannot run a module for {request.target}: {told}") from None


def _next_board(boards: Boards) -> tuple[tuple[str, int], str]:
    """The board whose turn it is, and the key that opens it."""
    from schedules.tuning.boards.rpc_tracker import Tracker, check_key

    check_key(boards.tracker, boards.key)
    try:
        with Tracker(boards.tracker) as tracker:
            tracker.request(boards.key)
            if granted := tracker.granted(boards.timeout_s):
                return granted
    except OSError as error:
        raise LeanconvError(f"the RPC tracker was lost: {error.strerror or error}") from None
    raise LeanconvError(
        f"every board with the key {boards.key!r} is busy for more than {boards.timeout_s:g} s"
    )


if __name__ == "__main__":
    answer(_serve)
