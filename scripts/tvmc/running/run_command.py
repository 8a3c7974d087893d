"""``tvmc run``: its options, and what it prints."""

from __future__ import annotations

import argparse
import signal
import statistics
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from tvmc.command import address, at_least_one, board_key, positive, thread_count
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
    add("--report", metavar="FILE", type=Path, help="write times and profile as JSON")
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
    for path in (options.outputs, options.report):
        if path is not None:
            _check_output(path, options)
    result = run(
        options.model,
        inputs=None if options.inputs is None else read_npz(options.inputs),
        fill_mode=options.fill_mode,
        seed=options.seed,
        repeat=options.repeat,
        number=options.number,
        end_to_end=options.end_to_end,
        profile=options.profile,
        num_threads=options.num_threads,
        rpc_tracker=options.rpc_tracker,
        rpc_key=options.rpc_key,
        rpc_timeout=options.rpc_timeout,
        delegate=options.delegate,
        delegate_options=options.delegate_options,
    )
    if options.outputs is not None:
        write_npz(options.outputs, result.outputs)
    if options.report is not None:
        write_json(options.report, result.to_dict())
    if options.print_top:
        print(result.format_top(options.print_top))
    if options.profile:
        print(result.format_profile())
    if options.print_time:
        print(result.format_times())
    median = statistics.median(result.times) * 1e3
    written = " and ".join(str(path) for path in (options.outputs, options.report) if path)
    print(f"{result.model}, {result.runtime}: {median:.4g} ms", end="")
    print(f"; wrote {written}" if written else "")


def _check_output(path: Path, options: argparse.Namespace) -> None:
    """Find out before the work whether ``path`` can be written, and destroy nothing."""
    check_writable(path)
    for other in (options.model, options.inputs, options.delegate):
        if other is not None and path.resolve() == other.resolve():
            raise LeanconvError(f"cannot write {path}: it is read as well")
    if options.outputs and options.report and options.outputs.resolve() == options.report.resolve():
        raise LeanconvError(f"{path} cannot be both the outputs and the report")
