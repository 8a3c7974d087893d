"""Modelled time of whole networks on Arm cores: the delegate's and XNNPACK's.

    python -m scripts.benchmarks.arm
    python -m scripts.benchmarks.arm mobilenet_v2 --cpus cortex-a53,cortex-a76 --json rows.json

One invocation on one thread of an emulated core, after warm-ups, compiled for that core without
records. Its instructions are counted, its data caches simulated, and board/core_model.py makes
a time of both, at a nominal clock of 1 GHz. No figure is a latency: they rank kernels for a core.

instructions: executed, in millions, and multiply-adds of vectors among them
L1, L2 misses: in thousands of lines of 64 bytes
MB moved: by vector loads and stores
packed, workspace: bytes that the delegate holds for weights, and for its largest layer
ratio: to XNNPACK, below 1 is fewer or faster
mismatches: outputs other than XNNPACK's, of networks whose weights have 8 bits
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tvmc
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    chosen,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.comparison import expected_outputs, mismatches
from scripts.benchmarks.harness.inference import LEANCONV, delegate_memory
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.board.board import Board
from scripts.board.core_model import cache_geometry, find_core
from scripts.board.count import invoke
from scripts.models.finding import found
from tvmc.command import LineParser
from tvmc.tables import format_bytes

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "squeezenet", "resnet18")
CPUS = ("cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76")
#: What is also told as a ratio.
COMPARED = ("total", "modelled_s")


def millions(number: float) -> str:
    """Of instructions or bytes."""
    return f"{number / 1e6:.1f}"


def thousands(number: float) -> str:
    """Of misses."""
    return f"{number / 1e3:.0f}"


COLUMNS = {
    "network": cell("network"),
    "core": cell("cpu"),
    "runtime": cell("runtime"),
    "instructions": cell("total", form=millions),
    "multiply-adds": cell("v_fma", form=millions),
    "ratio": cell("total_ratio", form=ratio),
    "L1 misses": cell("l1_misses", form=thousands),
    "L2 misses": cell("l2_misses", form=thousands),
    "MB moved": cell("moved_bytes", form=millions),
    "packed": cell("packed_bytes", form=format_bytes),
    "workspace": cell("workspace_bytes", form=format_bytes),
    "modelled ms": cell("modelled_s", form=milliseconds),
    "time ratio": cell("modelled_s_ratio", form=ratio),
    "mismatches": cell("mismatches"),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", default=NETWORKS,
        help=f"[{' '.join(NETWORKS)}], others of models/make.py, or .tflite files")  # fmt: skip
    add("--cpus", metavar="A,B", help=f"[{','.join(CPUS)}]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for XNNPACK and one for the delegate, for each network and core."""
    cpus = chosen("core", options.cpus, CPUS)
    board = Board.default()
    board.setup()
    for model in found(options.networks):
        for cpu in cpus:
            say(f"{model.stem} on {cpu} …")
            with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
                library = Path(folder) / "delegate.so"
                tvmc.compile(model, output=library, target=cpu)
                rows = [run(board, model, cpu), run(board, model, cpu, library)]
                outputs = [row.pop("outputs") for row in rows]
            if expected_outputs(model)[1] is None:
                for row, got in zip(rows, outputs, strict=True):
                    row["mismatches"] = mismatches(got, outputs[0])
            for row in rows:
                ratios = {f"{key}_ratio": row[key] / rows[0][key] for key in COMPARED}
                yield {"network": model.stem, "cpu": cpu, **row, **ratios}


def run(board: Board, model: Path, cpu: str, library: Path | None = None) -> Row:
    """Counts, misses and modelled time of XNNPACK or of the delegate ``library``."""
    invocation = invoke(
        board, model, cpu=cpu, delegate=library, counted=True, caches=cache_geometry(cpu)
    )
    core = find_core(cpu)
    marking, region = invocation.regions
    counts = invocation.counts
    memory = delegate_memory(invocation.report)
    return {
        "runtime": XNNPACK if library is None else LEANCONV,
        "outputs": invocation.outputs,
        **counts,
        **{key: region[key] - marking[key] for key in ("l1_misses", "l2_misses")},
        "moved_bytes": counts["v_ld_bytes"] + counts["v_st_bytes"],
        "modelled_s": core.seconds(region) - core.seconds(marking),
        "packed_bytes": memory and memory.packed_bytes,
        "workspace_bytes": memory and memory.workspace_bytes,
    }


def report(rows: Rows) -> Iterator[str]:
    """All counts, network by network."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark("arm", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
