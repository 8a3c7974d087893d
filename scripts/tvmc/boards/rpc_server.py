"""``tvmc rpc-server``: what a board runs so that ``tvmc tune`` can measure on it."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any, NoReturn

from tvmc.command import LAST_PORT, address, board_key


def add_parser(commands: Any) -> None:
    """Add the command to those of ``tvmc``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "rpc-server",
        help="let others measure on this board",
        description="Run what an RPC tracker's clients send to this board; whoever reaches its "
        "port runs programs here, so keep it inside of a trusted network.",
    )
    command.set_defaults(run=serve)
    add = command.add_argument
    add("--tracker", metavar="HOST:PORT", type=address, required=True, help="the RPC tracker")
    add("--key", metavar="NAME", type=board_key, required=True, help="what the tracker calls it")
    add("--host", metavar="ADDRESS", default="0.0.0.0",
        help="address to listen at; a single one is told to clients [%(default)s]")  # fmt: skip
    add("--port", metavar="N", type=_port, default=9091, help="port to listen at [%(default)s]")
    add("--port-end", metavar="N", type=_port, default=9199,
        help="last port to try when that is taken [%(default)s]")  # fmt: skip


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def serve(options: argparse.Namespace) -> NoReturn:
    """Serve until Ctrl-C or SIGTERM."""
    from tvmc.boards.board_server import BoardServer

    signal.signal(signal.SIGTERM, _terminate)
    server = BoardServer(
        options.tracker,
        options.key,
        options.host,
        range(options.port, max(options.port, options.port_end) + 1),
        notice=_print,
        detail=_print if options.verbose else None,
    )
    _print(f"board {options.key!r} listens at {options.host}:{server.port}")
    server.serve()


def _terminate(number: int, _frame: Any) -> NoReturn:
    # An exception, so that the session under way is ended first.
    sys.exit(128 + number)


def _print(text: str) -> None:
    print(f"tvmc: {text}", file=sys.stderr, flush=True)
