r"""Rank kernels for an Arm core that is not at hand: a board whose seconds come from a model.

    tvmc tune model.tflite --target cortex-a76 -o tuning_logs/cortex-a76-modelled \
        --board-command 'python -m scripts.board.modelled_board --cpu cortex-a76 {program}'

Runs a tuner's program with ``--once`` on the emulated board, which counts the instructions of each
kernel and simulates its data caches, and prints what the program printed, with the time that
board/core_model.py makes of the counts in place of samples: ``samples_s`` of one element,
``cost_kind`` ``modelled``, ``instructions``, ``l1_misses`` and ``l2_misses``. The same program
gives the same numbers again. They are not latencies: they rank kernels for one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.tuning.boards.process import json_lines
from schedules.tuning.records.record import MODELLED
from scripts.board.board import Board, ending
from scripts.board.core_model import CORES, Core, cache_geometry, find_core, instructions
from scripts.board.count import profile_regions
from tvmc.command import LineParser, exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="board.modelled_board", description=__doc__)
    parser.add_argument("--cpu", required=True, help=f"one of {', '.join(CORES)}")
    parser.add_argument("program", type=Path, metavar="PROGRAM", help="what the tuner runs")
    options = parser.parse_args(arguments)
    return exit_status("board.modelled_board", lambda: run(options.program, options.cpu))


def run(program: Path, cpu: str) -> None:
    """Print the program's lines, with modelled times, also those before it crashed.

    Raises
    ------
    LeanconvError
        When there is no model of the CPU, the board is not set up, or the program is not one for
        aarch64, fails, or does not mark the kernels that it reports.
    """
    core = find_core(cpu)
    # The environment and the program's name lie on its stack, and would move what else does.
    outcome, regions = profile_regions(
        Board.default(),
        [f"./{program.name}", "--once"],
        cache_geometry(cpu),
        cpu,
        cwd=program.parent,
        env={},
    )
    for line in modelled(json_lines(outcome.stdout), regions, core):
        print(json.dumps(line), flush=True)
    if outcome.returncode != 0:
        raise LeanconvError(f"{program} {ending(outcome)} on the emulated {cpu}")


def modelled(
    lines: Sequence[dict[str, Any]], regions: Sequence[Mapping[str, Any]], core: Core
) -> Iterator[dict[str, Any]]:
    """The program's lines; those of kernels that ran with costs from their regions, in order."""
    ran = sum("kernel" in line and line["error"] is None for line in lines)
    if ran != len(regions):
        raise LeanconvError(
            f"the program ran {ran} kernels and marked {len(regions)} regions: it is not one that "
            "tvmc tune makes"
        )
    remaining = iter(regions)
    for line in lines:
        if "board" in line:
            yield {"board": {**line["board"], "cost_kind": MODELLED}}
            continue
        if "kernel" not in line or line["error"] is not None:
            yield line
            continue
        region = next(remaining)
        executed = sum(block["executions"] * instructions(block) for block in region["blocks"])
        yield {
            **line,
            "samples_s": [core.seconds(region)],
            "cost_kind": MODELLED,
            "instructions": executed,
            "l1_misses": region["l1_misses"],
            "l2_misses": region["l2_misses"],
        }


if __name__ == "__main__":
    sys.exit(main())
