"""``tvmc run``: its options, and what it prints."""

from __future__ import annotations

import argparse
import signal
import statistics
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.files import write_json
from tvmc.command import (
    address,
    at_least_one,
    board_key,
    check_output,
    given,
    positive,
    thread_count,
)
from tvmc.running.runner import FILL_MODES, run


def add_parser(commands: Any) -> None:
    """Add the command to those of ``tvmc``."""
    command = commands.add_parser(
        "run",
        help="run a compiled module, or a .tflite model",
        usage="tvmc run MODEL [options]",
        description="Run a module of `tvmc compile -f so` or `-f tar` in TVM's virtual machine, "
        "here or on a board; or a .tflite model in LiteRT, with a delegate or without.",
    )
    command.set_defaults(run=_run)
    add = command.add_argument
    add("model", metavar="MODEL", type=Path, help="the module, or the .tflite file")
    add("-i", "--inputs", metavar="FILE", type=Path,
        help="values of inputs by their names, as .npz")  # fmt: skip
    add("--fill-mode", choices=FILL_MODES, default="random",
        help="what the other inputs hold [%(default)s]")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of random values [%(default)s]")
    add("-o", "--outputs", metavar="FILE", type=Path,
        help="write output_0, output_1, … as .npz")  # fmt: skip
    add("--print-top", type=at_least_one, metavar="N", help="print the N largest values")
    add("--memory", action="store_true",
        help="print what a .tflite model holds: per function, and before and after")  # fmt: skip
    add("--report", metavar="FILE", type=Path, help="write times, profile and memory as JSON")
    add("--device", choices=["cpu"], default="cpu", help="what computes [%(default)s]")
    add("--num-threads", type=thread_count, metavar="N",
        help="threads that compute [as many as TVM takes; LiteRT: 1]")  # fmt: skip
    _add_timing_options(command.add_argument_group("time"))
    _add_board_options(command.add_argument_group("the board", "without these, this machine"))
    _add_delegate_options(command.add_argument_group("delegates of .tflite models"))


def _add_timing_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--print-time", action="store_true", help="print mean, median, percentiles and more")
    add("--repeat", type=at_least_one, default=1, metavar="N", help="samples [%(default)s]")
    add("--number", type=at_least_one, default=1, metavar="N",
        help="calls that a sample is the mean of [%(default)s]")  # fmt: skip
    add("--end-to-end", action="store_true",
        help="a call includes the way of inputs and outputs")  # fmt: skip
    add("--profile", action="store_true", help="print the time of every function")


def _add_board_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--rpc-tracker", metavar="HOST:PORT", type=address, help="a TVM RPC tracker")
    add("--rpc-key", metavar="KEY", type=board_key, help="the key of its boards; any of them runs")
    add("--rpc-timeout", metavar="S", type=positive, default=600.0,
        help="seconds to wait for a board, and for its answer [600]")  # fmt: skip


def _add_delegate_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--delegate", metavar="LIBRARY", type=Path, help="such as `tvmc compile` makes")
    add("--delegate-options", metavar="K:V;K:V", type=delegate_options, default={},
        help="handed to it, such as num_threads:2;verbose:1")  # fmt: skip


def delegate_options(text: str) -> dict[str, str]:
    """The type of an argument ``key:value;key:value``."""
    options = {}
    for part in filter(None, text.split(";")):
        key, colon, value = part.partition(":")
        if not colon or not key:
            raise argparse.ArgumentTypeError(f"{part!r} is not key:value")
        options[key] = value
    return options


def _run(options: argparse.Namespace) -> None:
    from tvmc.running.tensors import read_npz, write_npz  # imports numpy

    # Whoever ends it, nothing of it stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    written = [path for path in (options.outputs, options.report) if path]
    for path in written:
        check_output(path, (options.model, options.inputs, options.delegate))
    if len({path.resolve() for path in written}) < len(written):
        raise LeanconvError(f"{options.outputs} cannot be both the outputs and the report")
    values = {"inputs": read_npz(options.inputs)} if options.inputs else {}
    result = run(**given(run, options) | values)
    if options.outputs is not None:
        write_npz(options.outputs, result.outputs)
    if options.report is not None:
        write_json(options.report, result.to_dict())
    if options.print_top:
        print(result.format_top(options.print_top))
    if options.profile:
        print(result.format_profile())
    if result.memory is not None:
        print(result.memory.format())
    if options.print_time:
        print(result.format_times())
    median = statistics.median(result.times) * 1e3
    print(f"{result.model}, {result.runtime}: {median:.4g} ms", end="")
    print(f"; wrote {' and '.join(map(str, written))}" if written else "")
