"""Talking to a TVM RPC tracker, which knows the boards and hands them out in turn.

The protocol is TVM's. Its own client waits for ever; here every answer has a time limit.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Any, TypeAlias

from tvm.rpc import base
from tvm.rpc.base import TrackerCode

from schedules.errors import LeanconvError

#: Host and port.
Address: TypeAlias = tuple[str, int]

#: A tracker answers at once, or it is not there. A name may have two addresses to try.
ANSWER_SECONDS = 3.0


class Tracker:
    """One connection to a tracker; everything raises ``OSError`` when it is lost.

    Parameters
    ----------
    address : tuple of str and int
        Where it listens.

    Raises
    ------
    OSError
        If nobody answers there.
    LeanconvError
        If somebody else does.
    """

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, timeout=ANSWER_SECONDS)
        try:
            self._socket.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            if base.recvall(self._socket, 4) != struct.pack("<i", base.RPC_TRACKER_MAGIC):
                raise LeanconvError(f"{address[0]}:{address[1]} is no TVM RPC tracker")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; what was put or requested through it is forgotten."""
        self._socket.close()

    def ask(self, code: int, *arguments: Any) -> Any:
        """Send a message and return the answer."""
        base.sendjson(self._socket, [code, *arguments])
        return self._receive()

    def boards(self) -> dict[str, list[Address]]:
        """The servers that are connected, by key."""
        found: dict[str, list[Address]] = {}
        for server in self._summary()["server_info"]:
            host, port = server["addr"]
            found.setdefault(server["key"].removeprefix("server:"), []).append((host, port))
        return found

    def free_boards(self, key: str) -> int:
        """Servers that wait for a client."""
        return self._summary()["queue_info"].get(key, {"free": 0})["free"]

    def request(self, key: str) -> None:
        """Queue for a board; :meth:`granted` returns it."""
        base.sendjson(self._socket, [TrackerCode.REQUEST, key, "", 1])

    def granted(self, seconds: float) -> tuple[Address, str] | None:
        """The board that was requested and the key that opens it; ``None``: not yet."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        _, (host, port, match_key) = self._receive()
        return (host, port), match_key

    def _summary(self) -> Any:
        return self.ask(TrackerCode.SUMMARY)[1]

    def _receive(self) -> Any:
        try:
            return base.recvjson(self._socket)
        except ValueError:
            raise ConnectionError("the tracker's answer is unreadable") from None


def check_key(address: Address, key: str) -> None:
    """Make sure that the tracker at ``address`` has boards called ``key``.

    Raises
    ------
    LeanconvError
        If it has none, or does not answer.
    """
    name = f"RPC tracker {address[0]}:{address[1]}"
    try:
        with Tracker(address) as tracker:
            boards = tracker.boards()
    except OSError as error:
        raise LeanconvError(
            f"{name} does not answer ({error.strerror or error}): "
            "start one with `python -m tvm.exec.rpc_tracker`"
        ) from None
    if key not in boards:
        others = ", ".join(sorted(boards)) or "none at all"
        raise LeanconvError(f"{name} has no board with the key {key!r}; keys there: {others}")
