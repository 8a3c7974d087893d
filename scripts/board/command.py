"""Run aarch64 programs, Python and models on an emulated Arm board, with exact counts.

    python -m scripts.board setup
    python -m scripts.board run    [--cpu CPU] PROGRAM [ARGUMENTS...]
    python -m scripts.board python [--cpu CPU] SCRIPT [ARGUMENTS...]
    python -m scripts.board count  [--cpu CPU] [--json FILE] MODEL.tflite [--delegate LIBRARY]

The board is a folder: ``$LEANCONV_BOARD``, else ``${XDG_CACHE_HOME:-~/.cache}/leanconv/board``.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from scripts.board.board import Board
from scripts.board.count import BYTE_COUNTERS, INSTRUCTION_CLASSES, Mode, invoke, max_abs_difference
from scripts.board.cpus import CPUS, DEFAULT_CPU, find_cpu
from tvmc.command import LineParser, exit_status
from tvmc.tables import format_table

COUNT_NOTE = (
    "Executed instructions of one invocation, one thread, after two warm-up invocations, "
    "on an emulated {cpu}: a count is not a latency."
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    options = _parser().parse_args(argv)
    return exit_status("board", lambda: options.run(Board.default(), options))


def _parser() -> argparse.ArgumentParser:
    parser = LineParser(
        prog="board",
        description="An emulated Arm board on this machine.",
        epilog=f"CPU models: {', '.join(CPUS)} (default: {DEFAULT_CPU}).",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    setup = commands.add_parser("setup", help="build the board, or do nothing when it is complete")
    setup.set_defaults(run=_run_setup)
    run = commands.add_parser("run", help="run an aarch64 program")
    python = commands.add_parser(
        "python", help="run a script, or -- and arguments of python, on the board's Python"
    )
    count = commands.add_parser("count", help="count the executed instructions of a model")
    for command in (run, python, count):
        command.add_argument(
            "--cpu", default=DEFAULT_CPU, help=f"one of {', '.join(CPUS)}; default: %(default)s"
        )
    # One list for the program and its arguments: argparse would swallow a `--` between the two.
    for command, name in ((run, "PROGRAM"), (python, "SCRIPT")):
        command.usage = f"{command.prog} [-h] [--cpu CPU] {name} [ARGUMENTS...]"
        command.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
        command.set_defaults(run=_run_program)
    count.add_argument("model", type=Path, metavar="MODEL.tflite")
    count.add_argument("--delegate", type=Path, metavar="LIBRARY", help="adds its column")
    count.add_argument("--delegate-options", metavar="KEY:VALUE;...")
    count.add_argument(
        "--builtin",
        action="store_true",
        help="no XNNPACK: leave out its column, and give what the delegate leaves to the "
        "built-in kernels",
    )
    count.add_argument("--json", type=Path, metavar="FILE", help="write the same rows as JSON")
    count.set_defaults(run=_run_count)
    return parser


def _run_setup(board: Board, _options: argparse.Namespace) -> None:
    start = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {line}", flush=True)

    board.setup(report)
    report(f"the board in {board.folder} is ready")


def _run_program(board: Board, options: argparse.Namespace) -> int:
    """The program's exit status, as a shell gives it: 128 + n if signal n ended it."""
    find_cpu(options.cpu)
    words = options.words[options.words[:1] == ["--"] :]
    if not words:
        raise LeanconvError(f"{options.command} what? Its first argument is missing")
    start = board.run if options.command == "run" else board.python
    outcome: subprocess.CompletedProcess[str] = start(words, options.cpu)
    return outcome.returncode if outcome.returncode >= 0 else 128 - outcome.returncode


def _run_count(board: Board, options: argparse.Namespace) -> None:
    find_cpu(options.cpu)
    if options.json:
        check_writable(options.json)
    rows = _count_rows(board, options)
    print(f"{options.model.name} on an emulated {options.cpu}")
    print(_count_table(rows, options.delegate))
    print(COUNT_NOTE.format(cpu=options.cpu))
    if CPUS[options.cpu].note:
        print(f"Note: {CPUS[options.cpu].note}.")
    if options.json:
        write_json(options.json, rows)


def _count_rows(board: Board, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for XNNPACK, the built-in kernels and the delegate each."""
    runs: dict[str, tuple[Mode, Path | None]] = {"builtin": ("builtin", None)}
    if not options.builtin:
        runs = {"xnnpack": ("xnnpack", None), **runs}
    if options.delegate:
        runs["delegate"] = ("builtin" if options.builtin else "xnnpack", options.delegate)
    invocations = {
        kernels: invoke(
            board,
            options.model,
            mode=mode,
            cpu=options.cpu,
            delegate=library,
            options=options.delegate_options,
            counted=True,
        )
        for kernels, (mode, library) in runs.items()
    }
    reference = invocations["builtin"].outputs
    return [
        {
            "model": str(options.model),
            "cpu": options.cpu,
            "kernels": kernels,
            **invocation.counts,
            "max_abs_difference": max_abs_difference(invocation.outputs, reference),
            "report": invocation.report,
        }
        for kernels, invocation in invocations.items()
    ]


def _count_table(rows: Sequence[Mapping[str, Any]], delegate: Path | None) -> str:
    titles = {"xnnpack": "XNNPACK", "builtin": "built-in kernels"}
    header = [titles.get(row["kernels"]) or (delegate.name if delegate else "") for row in rows]
    lines = {key: f"{key}  {title}" for key, title in INSTRUCTION_CLASSES.items()}
    lines |= {"total": "total", **BYTE_COUNTERS}
    cells = [[title, *(f"{row[key]:,}" for row in rows)] for key, title in lines.items()]
    differences = [f"{row['max_abs_difference']:.3g}" for row in rows]
    cells.append(["max abs difference from built-in kernels", *differences])
    return format_table(["executed instructions", *header], cells)
