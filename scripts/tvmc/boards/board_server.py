"""A board's end of TVM RPC, one session at a time, that outlives whatever a session does.

It speaks the protocol of TVM's own server, and the session itself is TVM's. What differs: the
server never enters a session's folder nor runs its code; a session is a process with a group of
its own, which is killed when it ends, crashes, takes too long, or its client is gone; and every
answer of the tracker has a time limit, after which the server registers anew.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tvm_ffi
from tvm.rpc import base
from tvm.rpc.base import TrackerCode
from tvm.runtime import load_module

from schedules.errors import LeanconvError
from schedules.processes import end_with_parent
from schedules.tuning.boards.rpc_tracker import Address, Tracker

#: How often an idle server looks after its tracker, or tries to reach it.
PERIOD_SECONDS = 1.0
#: Periods after which a board that was given away, but has no client yet, is offered again.
PATIENCE = 8
#: A client says hello at once.
HELLO_SECONDS = 5.0
LONGEST_HELLO = 1024
#: Hosts that stand for every address of the machine.
ALL_ADDRESSES = ("0.0.0.0", "::")


class BoardServer:
    """Registered with a tracker under a key, and waiting for clients that it sends.

    Parameters
    ----------
    tracker : tuple of str and int
        Where the tracker listens.
    key : str
        What boards of this kind are called.
    host : str
        Address to listen at, and, unless it stands for all, to be reached at.
    ports : sequence of int
        The first free one is taken.
    notice : callable
        Told when the tracker is lost and found.
    detail : callable, optional
        Told of every session; without it what sessions print is dropped.
    """

    def __init__(
        self,
        tracker: Address,
        key: str,
        host: str,
        ports: Sequence[int],
        notice: Callable[[str], None],
        detail: Callable[[str], None] | None = None,
    ) -> None:
        self._tracker_address = tracker
        self._tracker_name = f"{tracker[0]}:{tracker[1]}"
        self._key = key
        self._notice = notice
        self._detail = detail
        self._tracker: Tracker | None = None
        self._told_of_loss = False
        # By default the tracker tells clients the address that it sees, which serves nobody else
        # when this board is the tracker's own machine.
        self._reported_host = None if host in ALL_ADDRESSES else host
        self._listener = _listen(host, ports)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> NoReturn:
        """Serve until the process is asked to end."""
        while True:
            try:
                client = self._next_client()
            except OSError as error:
                self._lose_tracker(error)
                continue
            if client:
                try:
                    with client[0]:
                        self._run_session(*client)
                except OSError as error:
                    self._notice(f"a session could not be started: {_reason(error)}")

    def _next_client(self) -> tuple[socket.socket, float | None] | None:
        """A client that the tracker sent, and its session's time limit in seconds.

        ``None`` if one was sent and never came.
        """
        tracker = self._registered()
        match_key = base.random_key(self._key)
        tracker.ask(TrackerCode.PUT, self._key, (self.port, match_key), self._reported_host)
        absent = 0
        while absent < PATIENCE:
            if select.select([self._listener], [], [], PERIOD_SECONDS)[0]:
                if client := self._hello(match_key):
                    return client
            elif match_key in tracker.ask(TrackerCode.GET_PENDING_MATCHKEYS):
                absent = 0
            else:
                absent += 1
        return None

    def _registered(self) -> Tracker:
        if self._tracker is None:
            tracker = Tracker(self._tracker_address)
            info = {"key": f"server:{self._key}", "addr": (self._reported_host, self.port)}
            tracker.ask(TrackerCode.UPDATE_INFO, info)
            self._tracker = tracker
            self._told_of_loss = False
            self._notice(f"registered with tracker {self._tracker_name}")
        return self._tracker

    def _lose_tracker(self, error: OSError) -> None:
        if not self._told_of_loss:
            self._told_of_loss = True
            self._notice(
                f"tracker {self._tracker_name} does not answer ({_reason(error)}); "
                "trying again until it does"
            )
        if self._tracker:
            self._tracker.close()
            self._tracker = None
        time.sleep(PERIOD_SECONDS)

    def _hello(self, match_key: str) -> tuple[socket.socket, float | None] | None:
        """Who knocked, if it is the client that was sent here."""
        connection, peer = self._listener.accept()
        try:
            connection.settimeout(HELLO_SECONDS)
            magic, length = struct.unpack("<ii", base.recvall(connection, 8))
            if magic != base.RPC_MAGIC or not 0 < length <= LONGEST_HELLO:
                raise ConnectionError("no RPC client")
            name, *options = base.recvall(connection, length).decode(errors="replace").split()
            if name != f"client:{match_key}":
                connection.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))
                raise ConnectionError("its key is not the expected one")
            own_name = f"server:{self._key}".encode()
            answer = struct.pack("<ii", base.RPC_CODE_SUCCESS, len(own_name)) + own_name
            connection.sendall(answer)
            connection.settimeout(None)
            return connection, _time_limit(options)
        except (OSError, ValueError) as error:
            connection.close()
            self._tell(f"turned away {peer[0]}: {error}")
            return None

    def _run_session(self, connection: socket.socket, seconds: float | None) -> None:
        folder = Path(tempfile.mkdtemp(prefix="rpc_session_"))
        ended, running = socket.socketpair()
        child = 0
        try:
            self._tell(f"session in {folder}")
            child = os.fork()
            if child == 0:
                self._become_session(connection, folder)
            # The session has it, too: it closes when the session ends.
            running.close()
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            poll.register(connection, select.POLLRDHUP)
            events = poll.poll(None if seconds is None else math.ceil(1000 * seconds))
            self._tell("session ended" if events else f"session exceeded its {seconds:g} s")
        finally:
            if child:
                _kill_group(child)
            ended.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _become_session(self, connection: socket.socket, folder: Path) -> NoReturn:
        """Turn this process, just forked, into a session; nothing of it ever returns."""
        status = 1
        try:
            os.setsid()
            end_with_parent()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            # Others must notice when the server dies, or be able to take its port.
            self._listener.close()
            if self._tracker:
                self._tracker.close()
            if self._detail is None:
                for descriptor in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            os.chdir(folder)
            _register_functions(folder)
            tvm_ffi.get_global_func("rpc.ServerLoop")(connection.fileno())
            status = 0
        finally:
            os._exit(status)

    def _tell(self, text: str) -> None:
        if self._detail:
            self._detail(text)


def _listen(host: str, ports: Sequence[int]) -> socket.socket:
    """A socket at the first free port."""
    for port in ports:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, port), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise LeanconvError(f"cannot listen at {host}:{port}: {_reason(error)}") from None
    raise LeanconvError(f"all of the ports {ports[0]} to {ports[-1]} are taken: name others")


def _time_limit(options: Sequence[str]) -> float | None:
    """The seconds that a client asks for, among the words behind its name."""
    for option in options:
        name, _, value = option.partition("=")
        if name == "-timeout":
            return float(value)
    return None


def _register_functions(folder: Path) -> None:
    """What every RPC server adds to TVM's own functions."""

    @tvm_ffi.register_global_func("tvm.rpc.server.workpath", override=True)
    def path_in_folder(name: str) -> str:
        return str(folder / name)

    @tvm_ffi.register_global_func("tvm.rpc.server.load_module", override=True)
    def load(name: str) -> Any:
        return load_module(str(folder / name))


def _kill_group(leader: int) -> None:
    """Kill a process with all of its group, and wait for it."""
    os.kill(leader, signal.SIGKILL)  # it may not lead a group yet
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    os.waitpid(leader, 0)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
