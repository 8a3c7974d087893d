"""The layers of networks one by one, through the delegate, beside XNNPACK.

    python -m scripts.benchmarks.nodes mobilenet_v2 efficientnet_lite0 --operator DEPTHWISE_CONV_2D
    python -m scripts.benchmarks.nodes resnet50 --operator FULLY_CONNECTED
    python -m scripts.benchmarks.nodes resnet18 --algorithm indirect --only 7x7x512

Each distinct layer of a network is cut out, with its weights, as a .tflite file of its own; nothing
is fused across layers. Both runtimes run it in one process in turns, on one thread. Ratios are to
LiteRT + XNNPACK, below 1 is faster; the last line of each operator is their geometric mean.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tvmc
from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from scripts.benchmarks.harness.inference import random_inputs
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.node_times import WITH_WEIGHTS, single_nodes
from scripts.models.architectures import ARCHITECTURES
from scripts.models.make import ensure
from tflite_delegate.read import model as tflite_model
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.running.interpreter import Session, runtime
from tvmc.tables import format_table

HEADER = ("operator", "layer", "algorithm", "leanconv ms", "XNNPACK ms", "min ratio", "median")


@dataclass(frozen=True)
class Row:
    """One layer: least seconds of either runtime, and the ratios of minima and medians."""

    operator: str
    layer: str
    algorithm: str
    seconds: float
    xnnpack_seconds: float
    ratio_of_minima: float
    ratio_of_medians: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.nodes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("networks", nargs="+", metavar="NETWORK", help=" ".join(ARCHITECTURES))
    add("--operator", choices=WITH_WEIGHTS, help="only layers of this kind")
    add("--only", metavar="TEXT", help="only layers with TEXT in their description")
    add("--algorithm", default="auto", help="as for tvmc compile, one of them [%(default)s]")
    add("--rounds", type=at_least_one, default=50, help="samples of each [%(default)s]")
    add("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.nodes", lambda: bench_all(options))


def bench_all(options: argparse.Namespace) -> None:
    """Measure every layer and print the table."""
    if options.json:
        check_writable(options.json)
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        for graph in ensure(options.networks):
            for operator, layer, path in _layers(graph, Path(name)):
                chosen = options.operator in (None, operator)
                if chosen and layer not in rows and (options.only or "") in layer:
                    print(f"{layer} …", file=sys.stderr, flush=True)
                    rows[layer] = bench(operator, layer, path, options)
    lines = []
    for operator in dict.fromkeys(row.operator for row in rows.values()):
        shown = [row for row in rows.values() if row.operator == operator]
        lines += [_columns(row) for row in shown]
        mean = statistics.geometric_mean(row.ratio_of_minima for row in shown)
        lines.append([operator, "geometric mean", "", "", "", f"{mean:.3f}", ""])
    print(format_table(HEADER, lines))
    if options.json:
        write_json(options.json, [asdict(row) for row in rows.values()])


def _layers(graph: Path, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Operator, description and .tflite file of each layer with weights that can be compiled."""
    for place, (operator, data) in enumerate(single_nodes(graph)):
        if operator in WITH_WEIGHTS:
            # A name of its own: a library that is loaded already is not loaded again.
            path = folder / f"{graph.stem}_{place}.tflite"
            path.write_bytes(data)
            (layer,) = tflite_model.read(path).layers
            if layer.workload is not None:
                yield operator, layer.geometry, path
            path.unlink()


def bench(operator: str, layer: str, path: Path, options: argparse.Namespace) -> Row:
    """One layer in both runtimes."""
    library = path.with_suffix(".so")
    report = tvmc.compile(path, output=library, algorithms=[options.algorithm])
    litert = runtime("litert")
    ours, xnnpack = Session(path, litert, delegate=library), Session(path, litert)
    claimed = ours.report()
    if not claimed or claimed["claimed"] != 1:
        raise LeanconvError(f"the delegate does not run {layer} on this machine")
    inputs = random_inputs(xnnpack)
    for session in (ours, xnnpack):
        session.set_inputs(inputs)
    timings = interleave({"ours": ours.invoke, "XNNPACK": xnnpack.invoke}, rounds=options.rounds)
    minima, medians = timings["ours"].ratio(timings["XNNPACK"])
    return Row(
        operator,
        layer,
        str(report.layers[0].algorithm),
        timings["ours"].minimum,
        timings["XNNPACK"].minimum,
        minima,
        medians,
    )


def _columns(row: Row) -> list[str]:
    return [
        row.operator,
        row.layer,
        row.algorithm,
        milliseconds(row.seconds),
        milliseconds(row.xnnpack_seconds),
        f"{row.ratio_of_minima:.3f}",
        f"{row.ratio_of_medians:.3f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
