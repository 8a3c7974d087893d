"""One RPC session after the other, in a process that can be killed.

TVM's RPC client has no time limits and may wait for ever in C. Here an alarm ends its process.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

from schedules.errors import LeanconvError, reason
from schedules.tuning.boards.rpc_tracker import Address

#: The slowest network with which files arrive in time.
BYTES_PER_SECOND = 256 * 1024
#: Where the shim writes what the program prints.
RESULTS = "results.jsonl"
#: The shim's function.
FUNCTION = "run_measure"


class SessionLost(Exception):
    """Why there was no answer; ``started`` tells whether the board had accepted the session."""

    def __init__(self, reason: str, started: bool) -> None:
        super().__init__(reason)
        self.started = started


@dataclass(frozen=True)
class SessionJob:
    """What to do in one session.

    Parameters
    ----------
    board, match_key
        Given out by the tracker.
    folder : Path
        Its files are uploaded.
    shim : Path
        The library that runs the program among them.
    answer_s : float
        How long a healthy board takes to accept a session.
    run_s : float
        How long it runs the program.
    """

    board: Address
    match_key: str
    folder: Path
    shim: Path
    answer_s: float
    run_s: float

    @property
    def files(self) -> list[Path]:
        """What the program needs, itself included."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    @property
    def transfer_s(self) -> float:
        """How long the files take at most."""
        return self.answer_s + sum(p.stat().st_size for p in self.files) / BYTES_PER_SECOND

    @property
    def session_s(self) -> int:
        """When the server ends the session, should this machine be gone."""
        return math.ceil(self.answer_s + 2 * self.transfer_s + self.run_s)


@dataclass(frozen=True)
class _Failure:
    reason: str
    is_lost: bool


class SessionProcess:
    """A process that runs jobs one by one; after a failure it is dead."""

    def __init__(self) -> None:
        # Forked from a fresh process that imported TVM: after a loss, the next starts at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tvm.rpc"])
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()
        try:
            self._connection.recv()
        except EOFError:
            raise LeanconvError("the process for RPC sessions could not be started") from None

    def kill(self) -> None:
        """End it whatever it does; who waits for a job gets :class:`SessionLost`."""
        self._process.kill()
        self._process.join()

    def run(self, job: SessionJob) -> tuple[int, str]:
        """Exit status and output of the program.

        Raises
        ------
        SessionLost
            If the board was too slow, refused, or closed the connection.
        LeanconvError
            If it answered that it cannot do that.
        """
        started = False
        try:
            self._connection.send(job)
            while True:
                answer = self._connection.recv()
                if isinstance(answer, _Failure):
                    break
                if started:
                    return answer
                started = True
            self.kill()
        except (EOFError, OSError):
            self.kill()
            answer = _Failure(_ending(self._process.exitcode), is_lost=True)
        reason = f"board {job.board[0]}:{job.board[1]}: {answer.reason}"
        if answer.is_lost:
            raise SessionLost(reason, started)
        raise LeanconvError(reason)


def _ending(status: int | None) -> str:
    """Why a process said nothing more."""
    if status == -signal.SIGALRM:
        return "it did not answer in time"
    return f"the RPC client ended with status {status}"


def _serve(connection: Connection) -> None:
    """Body of the process."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Ctrl-C goes to the whole terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The C++ client comments on every lost connection.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            os._exit(0)
        try:
            connection.send(_run(job, connection))
        except Exception as error:
            connection.send(_failure(error))
            # Without destructors: they would talk to the board.
            os._exit(1)


def _run(job: SessionJob, connection: Connection) -> tuple[int, str]:
    from tvm import rpc

    with _limit(job.answer_s):
        session = rpc.connect(*job.board, job.match_key, session_timeout=job.session_s)
    connection.send("started")
    with _limit(job.transfer_s):
        for path in job.files:
            session.upload(str(path))
        # Some servers are one process, which would not load another file of the same name.
        library = f"rpc_exec_{uuid4().hex}.so"
        session.upload(str(job.shim), library)
    with _limit(job.run_s):
        status = session.load_module(library)[FUNCTION]()
    with _limit(job.transfer_s):
        return status, bytes(session.download(RESULTS)).decode(errors="replace")


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """End this process if the body takes longer."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def _failure(error: Exception) -> _Failure:
    """What happened, in one line; only an answer of the board has this type."""
    from tvm.error import RPCError

    return _Failure(reason(error), type(error) is not RPCError)
