"""What every command here has in common: one-line errors and exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from schedules.errors import LeanconvError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
LAST_PORT = 65535


class LineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        """Print the complaint and exit with status 2."""
        command = self.prog.split()[0]
        self.exit(EXIT_BAD_INPUT, f"{command}: error: {message}\n")


def at_least_one(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def byte_count(text: str) -> int:
    """The type of an argument like ``4096``, ``64K`` or ``2M``."""
    unit = {"K": 1024, "M": 1024**2}.get(text[-1:].upper())
    number = text[:-1] if unit else text
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of bytes, like 65536, 64K or 2M"
        )
    return int(number) * (unit or 1)


def address(text: str) -> tuple[str, int]:
    """The type of an argument ``HOST:PORT``; an IPv6 address may stand in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, like 192.168.0.10:9190")
    return host.removeprefix("[").removesuffix("]"), int(port)


def board_key(text: str) -> str:
    """The type of an argument that names a kind of boards."""
    if not text or any(character.isspace() for character in text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name without spaces")
    return text


def positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def exit_status(command: str, action: Callable[[], object]) -> int:
    """Run ``action`` and turn what a user can cause into one line and a status for the shell."""
    try:
        action()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has stopped, as `head` does. Python would complain again when it
        # flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LeanconvError, OSError) as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0
