"""``tvmc completion``: a script with which a shell completes ``tvmc``'s commands and options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schedules.target.simd import PRESETS
from tvmc.command import LineParser
from tvmc.compiling.compiler import known_algorithms

SHELLS = ("bash", "zsh", "fish")


def add_parser(commands: Any, root: LineParser) -> None:
    """Add the command to those of ``root``, all of which its script completes."""
    command = commands.add_parser(
        "completion",
        help="print a shell's completion script",
        description="Print a script that completes tvmc's commands, options, targets and files. "
        'In bash: eval "$(tvmc completion bash)"; for zsh, write it to a file _tvmc in a folder of '
        "$fpath; for fish, to ~/.config/fish/completions/tvmc.fish.",
    )
    command.set_defaults(run=lambda options: print(script(root, options.shell)))
    command.add_argument("shell", choices=SHELLS, help="for which shell")


def script(parser: LineParser, shell: str) -> str:
    """The script for one of :data:`SHELLS`."""
    import shtab

    algorithms = ["auto", *(name for name, *_ in known_algorithms())]
    _mark(parser, {"target": ["host", *PRESETS], "algorithms": algorithms})
    return shtab.complete(parser, shell)


def _mark(parser: LineParser, words: dict[str, list[str]]) -> None:
    """Tell shtab what completes arguments without choices, by the attribute that it looks for."""
    import shtab

    for action in parser.arguments:
        if action.dest in words:
            action.complete = _words(words[action.dest])  # type: ignore[attr-defined]
        elif action.type is Path:
            is_folder = action.metavar == "DIR"
            action.complete = shtab.DIRECTORY if is_folder else shtab.FILE  # type: ignore[attr-defined]
    for command in parser.commands.values():
        _mark(command, words)


def _words(words: Iterable[str]) -> Any:
    """One of these words, for every shell."""
    import shtab

    return shtab.cmd(f"printf '%s\\n' {' '.join(words)}")
