"""Boards behind a TVM RPC tracker.

A batch goes to any board with the right key. Boards come and go: a batch whose board is lost goes
to another, or to the same when it is back.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.boards.base import Batch, BoardLost, Runner
from schedules.tuning.boards.process import json_lines
from schedules.tuning.boards.rpc_session import SessionJob, SessionLost, SessionProcess
from schedules.tuning.boards.rpc_tracker import Address, Tracker, check_key

_LOG = logging.getLogger(__name__)

#: Boards that a batch may lose before it is suspected itself.
LOSSES = 2
#: How often a closed runner, or a tracker that is gone, is looked after.
PERIOD_SECONDS = 0.5


class RpcRunner(Runner):
    """Boards that a tracker has under one key.

    Parameters
    ----------
    tracker : tuple of str and int
        Where the tracker listens.
    key : str
        What the boards are called there.
    simd : Simd
        What they are.
    toolchain : Toolchain, optional
        Compiler for them.
    wait_s : float
        How long a batch waits for a board to be there and free.
    answer_s : float
        A board that takes longer to accept a session hangs.
    notify : callable
        Told of every board that is lost.

    Raises
    ------
    LeanconvError
        If the tracker does not answer, or has no board with that key.
    """

    name = "rpc"

    def __init__(
        self,
        tracker: Address,
        key: str,
        simd: Simd,
        toolchain: Toolchain | None = None,
        *,
        wait_s: float = 120.0,
        answer_s: float = 10.0,
        notify: Callable[[str], None] = _LOG.warning,
    ) -> None:
        self._tracker = tracker
        self._tracker_name = f"{tracker[0]}:{tracker[1]}"
        self._key = key
        self._wait_s = wait_s
        self._answer_s = answer_s
        self._notify = notify
        self._lock = threading.Lock()
        self._idle: list[SessionProcess] = []
        self._busy: set[SessionProcess] = set()
        self._hanging: set[Address] = set()
        self._closed = threading.Event()
        check_key(tracker, key)
        self._folder = tempfile.TemporaryDirectory(prefix="leanconv-rpc-")
        self._shim = build_shim(Path(self._folder.name), simd, toolchain or Toolchain.default())
        # The first one imports TVM, which is no time that a board is waited for.
        self._idle.append(SessionProcess())

    def boards(self) -> int:
        """Boards that are registered and did not hang; a board that hung counts when it is back."""
        try:
            with Tracker(self._tracker) as tracker:
                registered = set(tracker.boards().get(self._key, ()))
                return max(len(registered - self._hanging), tracker.free_boards(self._key))
        except OSError:
            return 0

    def run(self, batch: Batch) -> Sequence[dict[str, Any]]:
        """The JSON lines that the program printed on whichever board had time for it."""
        losses: list[str] = []
        until = time.monotonic() + self._wait_s
        while len(losses) < LOSSES:
            try:
                return self._run_once(batch, until)
            except SessionLost as lost:
                self._check_open()
                self._notify(f"{lost}; trying again")
                # A board that never accepted the batch says nothing about it.
                if lost.started:
                    losses.append(str(lost))
                    until = time.monotonic() + self._wait_s
        raise BoardLost(f"lost twice with the same candidates: {'; '.join(losses)}")

    def close(self) -> None:
        """End all sessions; a batch that still runs is lost."""
        self._closed.set()
        with self._lock:
            processes = [*self._idle, *self._busy]
            self._idle.clear()
        for process in processes:
            process.kill()
        self._folder.cleanup()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise BoardLost("the runner was closed")

    def _run_once(self, batch: Batch, until: float) -> list[dict[str, Any]]:
        with self._process() as process:
            board, match_key = self._next_board(until)
            job = SessionJob(
                board, match_key, batch.folder, self._shim, self._answer_s, batch.timeout_s
            )
            try:
                status, output = process.run(job)
            except SessionLost:
                self._hanging.add(board)
                raise
            self._hanging.discard(board)
        if lines := json_lines(output):
            return lines
        said = output.strip().splitlines() or ["it said nothing"]
        raise LeanconvError(
            f"board {board[0]}:{board[1]}: the program failed with status {status}: {said[-1]}"
        )

    def _next_board(self, until: float) -> tuple[Address, str]:
        """The board whose turn it is, and the key that opens it; waits for both and the tracker."""
        while True:
            try:
                with Tracker(self._tracker) as tracker:
                    tracker.request(self._key)
                    while time.monotonic() < until:
                        self._check_open()
                        if granted := tracker.granted(PERIOD_SECONDS):
                            return granted
                problem = "all are busy or gone"
            except OSError as error:
                problem = f"the tracker does not answer ({error.strerror or error})"
            if time.monotonic() >= until:
                raise BoardLost(
                    f"no board with the key {self._key!r} at RPC tracker {self._tracker_name} "
                    f"within {self._wait_s:g} s: {problem}"
                )
            self._closed.wait(PERIOD_SECONDS)
            self._check_open()

    @contextmanager
    def _process(self) -> Iterator[SessionProcess]:
        """A process of this caller's own; it is kept for others unless the body fails."""
        self._check_open()
        with self._lock:
            process = self._idle.pop() if self._idle else None
        process = process or SessionProcess()
        with self._lock:
            self._busy.add(process)
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        else:
            with self._lock:
                self._idle.append(process)
        finally:
            with self._lock:
                self._busy.discard(process)


def build_shim(folder: Path, simd: Simd, toolchain: Toolchain) -> Path:
    """The library through which a session on ``simd`` runs programs, made in ``folder``."""
    sources = resources.files("schedules.tuning") / "csrc"
    for name in ("rpc_exec.c", "exports.map"):
        (folder / name).write_bytes((sources / name).read_bytes())
    library = folder / "rpc_exec.so"
    toolchain.link_library(folder, ["rpc_exec.c"], [], library, simd)
    return library
