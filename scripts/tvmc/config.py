"""``--config FILE``: options of a command from a JSON file, over which the command line wins.

Keys are the options' long names without the hyphens in front, for whatever command is run or in a
section for each: ``{"compile": {"target": "cortex-a76", "workspace-limit": "64K"}, "tune": {…}}``.
Paths are relative to the folder in which the command runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from tvmc.command import LineParser
from tvmc.old_flags import answer


def apply_config(parser: LineParser, words: Sequence[str]) -> None:
    """Make what a file says the defaults of a command, if ``words``, the command line, name one.

    Raises
    ------
    LeanconvError
        If the file cannot be read, or a key or value is none of the command's.
    """
    path = _named_file(words)
    if path is None:
        return
    values = _read(path)
    for word in words:
        if word in parser.commands:
            values = _section(values, parser.commands, word)
            parser = parser.commands[word]
    if not parser.commands:  # a command that is missing is told later
        _set_defaults(parser, values, path)


def _named_file(words: Sequence[str]) -> Path | None:
    finder = LineParser(prog="tvmc", add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    found: Path | None = finder.parse_known_args(words)[0].config
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LeanconvError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise LeanconvError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise LeanconvError(f"{path} does not hold an object with options by name")
    return values


def _section(values: Mapping[str, Any], commands: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What stands outside of any command's section, and in that of ``name``."""
    sections = {key for key, value in values.items() if key in commands and isinstance(value, dict)}
    common = {key: value for key, value in values.items() if key not in sections}
    return {**common, **(values[name] if name in sections else {})}


def _set_defaults(parser: LineParser, values: Mapping[str, Any], path: Path) -> None:
    found: dict[str, str] = {}
    for key, value in values.items():
        flag = f"--{key}"
        action = parser.options.get(flag)
        if action is None or action.dest in ("help", "config"):
            why = answer(parser.prog, flag) or f"`{parser.prog}` has no option {flag}"
            raise LeanconvError(f"{path}: {key}: {why}")
        if action.dest in found:
            raise LeanconvError(f"{path}: {key} is the same as {found[action.dest]}")
        found[action.dest] = key
        try:
            action.default = _converted(parser, action, value)
        except argparse.ArgumentTypeError as error:
            raise LeanconvError(f"{path}: {key}: {error}") from None
        except argparse.ArgumentError as error:
            raise LeanconvError(f"{path}: {key}: {error.message}") from None
        action.required = False


def _converted(parser: LineParser, action: argparse.Action, value: Any) -> Any:
    """``value`` as if it were given on the command line; a list, as if each were or with commas."""
    if action.nargs == 0:
        return _flag(action, value)
    several = isinstance(action, argparse._AppendAction) or action.nargs in ("+", "*")
    texts = [_text(action, each) for each in (value if isinstance(value, list) else [value])]
    if several:
        return [parser.convert(action, text) for text in texts]
    return parser.convert(action, ",".join(texts))


def _flag(action: argparse.Action, value: Any) -> bool | int:
    is_count = isinstance(action, argparse._CountAction)
    if isinstance(value, bool):
        return int(value) if is_count else value
    if is_count and isinstance(value, int) and value >= 0:
        return value
    raise argparse.ArgumentTypeError(f"{value!r} is not true or false")


def _text(action: argparse.Action, value: Any) -> str:
    """A scalar as it is written on the command line; a target may be an object."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list):
        raise argparse.ArgumentTypeError(f"{json.dumps(value)} is no value")
    if isinstance(value, dict) and action.dest != "target":
        raise argparse.ArgumentTypeError("an object makes no sense here")
    return json.dumps(value)
