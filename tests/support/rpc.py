"""A tracker and boards behind it, as processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from schedules.tuning.boards.rpc_tracker import Address

KEY = "board"
#: Importing TVM takes seconds on a busy machine.
PATIENCE_S = 40.0
#: The server of boards with Python.
TVMC_SERVER = (sys.executable, "-m", "tvmc", "rpc-server")


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TrackerProcess:
    """TVM's own, at a port of its own."""

    def __init__(self) -> None:
        self.address: Address = ("127.0.0.1", free_port())
        self.start()

    def start(self) -> None:
        port = self.address[1]
        ports = ["--port", str(port), "--port-end", str(port + 1)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tvm.exec.rpc_tracker", "--host", "127.0.0.1", *ports],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Board:
    """An RPC server. Its programs find its name in ``$BOARD``; sessions are in ``folder``."""

    def __init__(
        self, tracker: Address, name: str, folder: Path, command: Sequence[str] = TVMC_SERVER
    ) -> None:
        self.name, self.folder, self.log = name, folder / name, folder / f"{name}.log"
        self.folder.mkdir()
        self.port = free_port()
        self._command = command
        self._tracker = f"{tracker[0]}:{tracker[1]}"

    def start(self) -> None:
        ports = ["--host", "127.0.0.1", "--port", str(self.port), "--port-end", str(self.port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self._command, "--tracker", self._tracker, "--key", KEY, *ports],
                stderr=log,
                env={**os.environ, "BOARD": self.name, "TMPDIR": str(self.folder)},
            )

    def is_registered(self) -> bool:
        return "registered" in self.log.read_text()

    def is_alive(self) -> bool:
        return hasattr(self, "process") and self.process.poll() is None

    def is_clean(self) -> bool:
        return not list(self.folder.iterdir())

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()
        for folder in self.folder.iterdir():
            shutil.rmtree(folder)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)
