"""What every command here has in common: one-line errors, exit statuses, types of arguments."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from schedules.errors import LeanconvError
from schedules.files import check_writable
from schedules.target.simd import MAX_THREADS

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
#: Packages whose log is shown.
LOGGERS = ("schedules", "tflite_delegate", "tvmc")
LAST_PORT = 65535


class _Append(argparse._AppendAction):
    """Collects what is given several times; argparse would add it to the default instead.

    The default may come from a configuration file, over which the command line wins.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is self.default:
            setattr(namespace, self.dest, [])
        super().__call__(parser, namespace, values, option_string)


class LineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like every other error.

    A description of several lines, such as a module's, is shown as it is.
    """

    def __init__(self, **options: Any) -> None:
        is_laid_out = "\n" in (options.get("description") or "")
        formatter = argparse.RawDescriptionHelpFormatter if is_laid_out else argparse.HelpFormatter
        # Wide enough for most options, whose help then needs no line of its own.
        super().__init__(formatter_class=partial(formatter, max_help_position=32), **options)
        self.register("action", "append", _Append)

    @property
    def commands(self) -> dict[str, LineParser]:
        """The commands of this one, by name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    @property
    def arguments(self) -> list[argparse.Action]:
        """All options and positional arguments."""
        return self._actions

    @property
    def options(self) -> dict[str, argparse.Action]:
        """The options, by each of their flags."""
        return self._option_string_actions

    def convert(self, action: argparse.Action, text: str) -> Any:
        """``text`` as an argument of ``action``.

        Raises
        ------
        argparse.ArgumentError
            If it is none; ``message`` says why.
        """
        value = self._get_value(action, text)
        self._check_value(action, value)
        return value

    def error(self, message: str) -> NoReturn:
        """Print the complaint and exit with status 2."""
        command = self.prog.split()[0]
        self.exit(EXIT_BAD_INPUT, f"{command}: error: {message}\n")


def given(function: Callable[..., Any], options: argparse.Namespace) -> dict[str, Any]:
    """The options that were given a value and are parameters of ``function``, by name."""
    names = inspect.signature(function).parameters
    return {k: value for k, value in vars(options).items() if k in names and value is not None}


def check_output(path: Path, read: Iterable[Path | None]) -> None:
    """Find out before the work whether ``path`` can be written, and destroy nothing of ``read``."""
    check_writable(path)
    if path.resolve() in [other.resolve() for other in read if other is not None]:
        raise LeanconvError(f"cannot write {path}: it is read as well")


def add_common_options(command: LineParser) -> None:
    """Add the options that every command has."""
    command.add_argument("--config", metavar="FILE", type=Path,
        help="a JSON file with options by name, over which those given here win")  # fmt: skip
    command.add_argument("-v", "--verbose", action="count", default=0,
        help="say what is done; -vv: also how")  # fmt: skip


def add_store_option(command: argparse.ArgumentParser) -> None:
    """Add the option of the commands that compile kernels; see :mod:`schedules.store`."""
    command.add_argument("--no-store", action="store_true",
        help="compile everything anew, and keep nothing of it in the cache folder")  # fmt: skip


def at_least_one(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def thread_count(text: str) -> int:
    """The type of an argument that says how many threads compute."""
    count = at_least_one(text)
    if count > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} threads are more than the {MAX_THREADS} possible")
    return count


#: Where a delegate may have packed weights.
WEIGHTS = ("heap", "embedded")


def embedding(weights: str | None, memory_limit: object) -> bool | None:
    """Whether packed weights are data of the library; ``None`` if either will do."""
    is_open = weights is None and memory_limit is not None
    return None if is_open else weights == "embedded"


def add_weight_options(group: argparse._ActionsContainer) -> None:
    """Add those that say where a delegate's weights are."""
    add = group.add_argument
    add("--weights", choices=WEIGHTS,
        help="where a delegate has packed weights: on the heap, packed as it is loaded; or "
        "embedded, packed as it is compiled: data of the library, of which all processes share one "
        "copy [heap; embedded where that is slower within --memory-limit]")  # fmt: skip
    add("--file-limit", metavar="BYTES", type=byte_count,
        help="weights that are read from files at most, the model's or the library's")  # fmt: skip


def byte_count(text: str) -> int:
    """The type of an argument like ``4096``, ``64K`` or ``2M``."""
    unit = {"K": 1024, "M": 1024**2}.get(text[-1:].upper())
    number = text[:-1] if unit else text
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of bytes, like 65536, 64K or 2M"
        )
    return int(number) * (unit or 1)


def byte_counts(text: str) -> list[int]:
    """The type of an argument like ``8M,2M``."""
    return [byte_count(part) for part in text.split(",")]


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


def names(text: str) -> list[str]:
    """The type of an argument ``NAME`` or ``NAME,NAME``."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME,NAME")
    return found


def positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


@contextlib.contextmanager
def shown_log(verbose: int) -> Iterator[None]:
    """The packages' log on standard error: warnings; with 1 what is done, from 2 on everything."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(name)s: %(message)s" if verbose > 1 else "%(message)s")
    )
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    try:
        yield
    except LeanconvError:
        logging.getLogger("tvmc").debug("where the error comes from:", exc_info=True)
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)


def exit_status(command: str, action: Callable[[], int | None]) -> int:
    """Run ``action`` and turn what a user can cause into one line and a status for the shell.

    The status of an action that has one of its own is handed on.
    """
    try:
        status = action()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has stopped, as `head` does. Python would complain again when it
        # flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LeanconvError, OSError) as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        return getattr(error, "status", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status or 0
