"""``tvmc tune``: its options, and what it shows while it works."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.layer.block import workload_from_text
from schedules.store import bypassed
from schedules.tuning.search.tuners import TUNERS
from tvmc.command import (
    add_store_option,
    address,
    at_least_one,
    board_key,
    byte_count,
    given,
    positive,
)
from tvmc.compiling.compile_command import PRECISIONS
from tvmc.progress import shown_status
from tvmc.tables import format_table
from tvmc.target_options import add_target_options, chosen_target
from tvmc.tuning.host_figures import host_figures
from tvmc.tuning.tuner import TaskReport, TuneReport, tune

if TYPE_CHECKING:
    from schedules.tuning.tuner import Status


def add_parser(commands: Any) -> None:
    """Add the command to those of ``tvmc``."""
    command = commands.add_parser(
        "tune",
        help="find the fastest kernels on a board",
        usage="tvmc tune MODEL [MODEL …] -o DIR [options]",
        description="Tune the layers of .tflite models on the processor that shall run them.",
    )
    command.set_defaults(run=_tune)
    add = command.add_argument
    add("models", metavar="MODEL", type=Path, nargs="+", help="the .tflite files")
    add("-o", "--output", metavar="DIR", type=Path, required=True,
        help="the board's folder of records, such as tuning_logs/pixel6")  # fmt: skip
    add("--report", metavar="FILE", type=Path, help="write what became of each layer, as JSON")
    add("--cc", metavar="COMMAND", help="C compiler for the target instead of the bundled zig")
    add_store_option(command)
    add_target_options(command)
    _add_search_options(command.add_argument_group("the search"))
    add_board_options(command.add_argument_group("the board", "without these, this machine"))
    _add_timing_options(command.add_argument_group("how a candidate is timed"))


def _add_search_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--trials", type=at_least_one, default=1000, metavar="N",
        help="candidates to try, those in DIR included [%(default)s]")  # fmt: skip
    add("--tuner", choices=TUNERS, default="xgb", help="how they are chosen [%(default)s]")
    add("--early-stopping", type=at_least_one, default=64, metavar="N",
        help="leave a layer alone after N trials without gain [%(default)s]")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of random choices [%(default)s]")
    add("--tuning-records", metavar="PATH", type=Path, action="append", default=[],
        help="more records of this target to learn from")  # fmt: skip
    add(
        "--no-calibration",
        dest="calibration",
        action="store_false",
        help="rank for the target as it is known, not as `tvmc calibrate` measured the board, nor "
        "as this machine was measured once",
    )
    add("--workspace-limit", metavar="BYTES", type=byte_count,
        help="workspace of a layer at most, for one thread; 64K, 2M")  # fmt: skip
    add("--max-error", metavar="X", type=positive,
        help="expected relative error of Winograd's algorithm at most")  # fmt: skip
    add("--precision", choices=PRECISIONS, help="as of `tvmc compile`")
    add("--parallel", type=at_least_one, metavar="N", help="candidates compiled at the same time")


def add_board_options(group: argparse._ArgumentGroup) -> None:
    """Where programs run, if not on this machine."""
    add = group.add_argument
    add("--rpc-tracker", metavar="HOST:PORT", type=address, help="a TVM RPC tracker")
    add("--rpc-key", metavar="KEY", type=board_key, help="the key of its boards; all of them serve")
    add("--board-command", metavar="COMMAND",
        help="a shell command that runs {program}, of {folder}, on the board and prints what it "
        "prints, by adb or ssh")  # fmt: skip


def _add_timing_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--number", type=at_least_one, default=1, metavar="N",
        help="calls of a sample at least [%(default)s]")  # fmt: skip
    add("--repeat", type=at_least_one, default=5, metavar="N",
        help="samples, of which the median counts [%(default)s]")  # fmt: skip
    add("--min-repeat-ms", type=positive, default=10.0, metavar="MS",
        help="a sample lasts at least so long [%(default)s]")  # fmt: skip
    add("--timeout", type=positive, default=10.0, metavar="S",
        help="give up a candidate after so many seconds [%(default)s]")  # fmt: skip


def _tune(options: argparse.Namespace) -> None:
    # Whoever ends it, nothing of it stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with bypassed(options.no_store), shown_status(options.verbose > 0) as tell:
            chosen = {
                "target": chosen_target(options),
                "host_figures": host_figures(options.cc),
                "notify": lambda status: tell(_line(status), lines(status)),
            }
            report = tune(**given(tune, options) | chosen)
    except KeyboardInterrupt:
        print(f"every finished trial is kept in {options.output}", file=sys.stderr)
        raise
    _print_report(report)
    print(f"{report.trials} trials in {options.output}, {report.seconds:.0f} s")


def _print_report(report: TuneReport) -> None:
    """The tasks for people, those that take longest first."""
    tasks = sorted(report.tasks, key=lambda task: -task.count * (task.tuned_s or 0.0))
    rows = [
        [
            workload_from_text(task.workload).describe(),
            task.count,
            task.trials,
            task.errors,
            task.algorithm or "-",
            *([f"{seconds * 1e3:.4g}" if seconds else "-" for seconds in _seconds(task)]),
            f"{task.tuned_s / task.untuned_s:.3f}" if task.tuned_s and task.untuned_s else "-",
        ]
        for task in tasks
    ]
    header = ("layer", "times", "trials", "errors", "algorithm", "untuned ms", "tuned ms", "ratio")
    print(format_table(header, rows))
    layers = [t for t in report.tasks if "|" not in t.workload and t.tuned_s and t.untuned_s]
    untuned = sum(task.count * (task.untuned_s or 0.0) for task in layers)
    tuned = sum(task.count * (task.tuned_s or 0.0) for task in layers)
    if untuned:
        print(
            f"all layers one after the other, {report.cost_kind}: {tuned * 1e3:.4g} ms tuned, "
            f"{untuned * 1e3:.4g} ms untuned: {tuned / untuned:.3f}"
        )
    for network in report.networks:
        print(network)
    if report.not_compared:
        print(f"whole networks were not compared: {report.not_compared}")


def _seconds(task: TaskReport) -> tuple[float | None, float | None]:
    return task.untuned_s, task.tuned_s


def lines(status: Status) -> list[str]:
    """What stands on a terminal meanwhile."""
    known = not math.isnan(status.seconds_left)
    left = f", about {_duration(status.seconds_left)} left" if known else ""
    gain = status.tuned_s / status.untuned_s if status.untuned_s else 1.0
    lost = "" if status.boards else " (waiting for one to come back)"
    return [
        f"{status.phase}: {status.trials} of {status.of_trials}, {status.errors} failed; "
        f"boards: {status.boards}{lost}; {_duration(status.seconds)}{left}",
        f"layers tried so far: {status.tuned_s * 1e3:.4g} ms, {gain:.3f} of untuned",
        f"now: {_task_line(status)}",
    ]


def _line(status: Status) -> str:
    return f"[{status.trials}/{status.of_trials}] {_task_line(status)}"


def _task_line(status: Status) -> str:
    """The task that was measured last: its best, against the untuned default."""
    name = status.workload.describe()
    if status.best is None:
        return f"{name}: nothing works yet"
    text = f"{name}: {status.best.candidate.algorithm} {status.best.cost_s * 1e3:.4g} ms"
    if status.untuned is not None:
        text += f", {status.best.cost_s / status.untuned.cost_s:.3f} of untuned"
    return text


def _duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
