"""The command line of ``tvmc``.

Whatever a user can cause ends as one line, ``tvmc: error: …``, and exit status 2. TVM is imported
when something is compiled and not before: it takes a second.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from schedules import __version__
from schedules.errors import LeanconvError
from schedules.target.host import Host, this_host
from schedules.target.simd import PRESETS, Simd
from schedules.torch_left_out import leave_torch_out
from schedules.tuning.records.calibration import Calibration
from schedules.tuning.records.host_figures import read_figures
from tvmc.boards.rpc_server import add_parser as add_rpc_server
from tvmc.command import LineParser, add_common_options, exit_status, shown_log
from tvmc.comparing.diff_command import add_parser as add_diff
from tvmc.compiling.compile_command import add_parser as add_compile
from tvmc.compiling.compiler import known_algorithms
from tvmc.completion import add_parser as add_completion
from tvmc.config import apply_config
from tvmc.old_flags import check_old
from tvmc.planning.plan_command import add_parser as add_plan
from tvmc.running.run_command import add_parser as add_run
from tvmc.tables import format_bytes, format_table
from tvmc.tuning.calibrate_command import add_parser as add_calibrate
from tvmc.tuning.records import add_parser as add_records
from tvmc.tuning.tune_command import add_parser as add_tune


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    leave_torch_out()
    words = sys.argv[1:] if arguments is None else arguments
    return exit_status("tvmc", lambda: _run(words))


def _run(words: Sequence[str]) -> None:
    parser = tvmc_parser()
    check_old(parser, words)
    apply_config(parser, words)
    options = parser.parse_args(words)
    with shown_log(options.verbose):
        options.run(options)


def tvmc_parser() -> LineParser:
    """The parser of the command line, with all commands."""
    parser = LineParser(
        prog="tvmc",
        description="Compile the convolutions of TFLite models for memory-limited devices.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say the versions and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_compile(commands)
    add_plan(commands)
    add_tune(commands)
    add_calibrate(commands)
    add_records(commands)
    add_run(commands)
    add_diff(commands)
    add_rpc_server(commands)

    command = commands.add_parser("targets", help="list the targets known by name")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_targets)
    command = commands.add_parser("algorithms", help="list the algorithms")
    command.set_defaults(run=_algorithms)
    add_completion(commands, parser)
    _add_common_options(parser)
    return parser


def _add_common_options(parser: LineParser) -> None:
    """Add them to every command that has none below it."""
    for command in parser.commands.values():
        if command.commands:
            _add_common_options(command)
        else:
            add_common_options(command)


class _Version(argparse.Action):
    """Looks up TVM's version only when it is asked for: that takes as long as all the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: Any) -> None:
        from importlib.metadata import version

        print(f"tvmc (leanconv) {__version__}, TVM {version('apache-tvm')}")
        parser.exit()


def _targets(options: argparse.Namespace) -> None:
    host = this_host()
    figures = _known_figures(host)
    targets: dict[str, Simd] = {"host": Simd.named("host"), **PRESETS}
    if options.json:
        rows = {name: {**asdict(s), "features": sorted(s.features)} for name, s in targets.items()}
        known = {
            **{"is": host.called, "core": host.core.name, "guessed": host.guessed},
            "calibration": figures.to_dict() if figures else None,
        }
        print(json.dumps({"host": known, "targets": rows}, indent=2))
        return
    header = ("target", "vector", "loads a multiply-add", "in order", "L1", "L2", "L3", "triple")
    print(f"host: {host.called}, as {host.core.name}{' (guessed)' if host.guessed else ''}, "
          f"{len(host.numbers)} cores")  # fmt: skip
    print(
        f"{figures}\n"
        if figures
        else "not measured yet: `tvmc compile` does, when it first compiles for it\n"
    )
    rows_of_text = [
        [
            name,
            f"{8 * simd.vector_bytes} bits",
            str(simd.loads_per_fma),
            "yes" if simd.in_order else "no",
            *(format_bytes(n) if n else "-" for n in (simd.l1_bytes, simd.l2_bytes, simd.l3_bytes)),
            simd.triple,
        ]
        for name, simd in targets.items()
    ]
    print(format_table(header, rows_of_text))


def _known_figures(host: Host) -> Calibration | None:
    """What commands know of this machine beyond its core."""
    try:
        kept = read_figures(host)
    except LeanconvError:
        return None  # whoever plans for it says so, and measures again
    return kept.calibration if kept else None


def _algorithms(_options: argparse.Namespace) -> None:
    print(format_table(("algorithm", "computes", "source"), known_algorithms()))
