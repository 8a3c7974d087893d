"""``tvmc calibrate``: what a board's cores do in a second."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tvmc.tables import format_bytes, format_table
from tvmc.target_options import add_target_options, chosen_target
from tvmc.tuning.tune_command import add_board_options


def add_parser(commands: Any) -> None:
    """Add the command to those of ``tvmc``."""
    command = commands.add_parser(
        "calibrate",
        help="measure a board's multiply-adds and bytes a second",
        description="Measure what the cores of a board do in a second: multiply-adds, bytes from "
        "each cache and from memory, of one thread and of all, and waiting for each other.",
    )
    command.set_defaults(run=_calibrate)
    add = command.add_argument
    add("-o", "--output", metavar="DIR", type=Path,
        help="keep it in the board.json of this folder of records")  # fmt: skip
    add("--cc", metavar="COMMAND", help="C compiler for the target instead of the bundled zig")
    add("--json", action="store_true", help="print JSON instead of a table")
    add_target_options(command)
    add_board_options(command.add_argument_group("the board", "without these, this machine"))


def _calibrate(options: argparse.Namespace) -> None:
    from schedules.target.simd import Simd
    from schedules.target.toolchain import Toolchain
    from schedules.tuning.measure.calibrate import calibrate
    from schedules.tuning.records.board_info import BoardInfo, check_same
    from schedules.tuning.records.task import tuning_target
    from tvmc.tuning.tuner import board_runner

    simd, toolchain = Simd.named(chosen_target(options)), Toolchain.named(options.cc)
    runner = board_runner(
        simd, toolchain, options.rpc_tracker, options.rpc_key, options.board_command
    )
    try:
        board, calibration = calibrate(simd, runner, toolchain)
    finally:
        runner.close()
    if options.output is not None:
        info = BoardInfo.of(options.output.name, tuning_target(simd), board)
        check_same(options.output, replace(info, calibration=calibration)).write(options.output)
    if options.json:
        print(json.dumps({"board": board, "calibration": calibration.to_dict()}, indent=2))
        return
    print(
        f"{board['cpu']}: {calibration.macs / 1e9:.1f} G multiply-adds a second (float32, one "
        f"thread); {calibration.barrier_s * 1e6:.2f} us for {calibration.threads} threads to meet"
    )
    header = ("read from", "bytes", "GB/s, one thread", "all threads", "multiply-adds an element")
    rows = [
        [level, format_bytes(b.bytes), f"{b.one / 1e9:.1f}", f"{b.all / 1e9:.1f}",
         f"{calibration.macs_of(level, 4):.1f}"]
        for level, b in calibration.bandwidths.items()
    ]  # fmt: skip
    print(format_table(header, rows))
