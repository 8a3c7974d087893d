"""Every algorithm on the layers that the literature on low-memory convolution measures.

    python -m scripts.benchmarks.algorithms
    python -m scripts.benchmarks.algorithms --layers cv9,cv10 --algorithms im2col,mec
    python -m scripts.benchmarks.algorithms --pictures docs --json rows.json

The layers are MEC's cv1 to cv12 and a 5x5 convolution of a 300x300 and of a 1960x1960 image to 32
channels, none of them padded: .tflite models of one convolution with bias and ReLU, batch 1,
float32, run by LiteRT on one thread. Beside the algorithms stand XNNPACK and TFLite's built-in
kernel, which pass through the same measurements.

workspace, packed: bytes that the algorithm asks for, and its weights in its layout
peak heap: the most that was on the heap, beside the input and output tensors, from before the
    interpreter was made to the end of its first run, in a process of its own
    (benchmarks/harness/heap_peak.py)
ratios: of the least and of the median times, all runtimes of a layer timed in turns
max error: the largest absolute difference of an output element to float64
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tvmc
from schedules.algorithms import REGISTRY, Unsupported
from schedules.errors import LeanconvError
from schedules.files import check_writable, replace_atomically, write_json
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from scripts.benchmarks.harness.charts import dot_chart
from scripts.benchmarks.harness.exact import max_errors
from scripts.benchmarks.harness.heap_peak import HeapMeter, HeapUse
from scripts.benchmarks.harness.inference import random_inputs
from scripts.benchmarks.harness.interleaving import Timing, interleave, milliseconds
from scripts.models.make import LITERATURE_LAYERS, ensure
from tflite_delegate.read import model as tflite_model
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.running.interpreter import Runtime, Session, runtime
from tvmc.tables import format_bytes, format_table

XNNPACK, BUILT_IN = "LiteRT + XNNPACK", "LiteRT built-in"
PEERS: dict[str, dict[str, Any]] = {XNNPACK: {}, BUILT_IN: {"xnnpack": False}}
HEADER = (
    "layer",
    "algorithm",
    "workspace",
    "packed",
    "peak heap",
    "min ms",
    "min / XNNPACK",
    "median / XNNPACK",
    "min / built-in",
    "median / built-in",
    "max error",
)


@dataclass
class Row:
    """One algorithm, or one of LiteRT's own kernels, on one layer.

    ``session`` holds arguments of :class:`scripts.benchmarks.harness.inference.Session`. What could
    not be measured is ``None``, and ``reason`` says why.
    """

    layer: str
    geometry: str
    algorithm: str
    session: dict[str, Any] | None = None
    plan: Plan | None = None
    heap: HeapUse | None = None
    timing: Timing | None = None
    ratios: dict[str, tuple[float, float]] = field(default_factory=dict)
    max_error: float | None = None
    reason: str | None = None

    @property
    def workspace_bytes(self) -> int | None:
        """Of an algorithm, also where it could not be run."""
        return self.plan.workspace_bytes if self.plan else None

    @property
    def packed_bytes(self) -> int | None:
        """Weights and bias as the algorithm packs them."""
        if self.plan is None:
            return None
        return self.plan.packed.bytes(self.plan.layer.element_bytes)

    @property
    def process_bytes(self) -> int:
        """What the measured run took on the heap, tensors included."""
        assert self.heap is not None, "only of what was measured"
        return self.heap.peak_bytes + self.heap.tensor_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; bytes and seconds."""
        ratios = {
            peer: {"minima": minima, "medians": medians}
            for peer, (minima, medians) in self.ratios.items()
        }
        return {
            "layer": self.layer,
            "geometry": self.geometry,
            "algorithm": self.algorithm,
            "reason": self.reason,
            "workspace_bytes": self.workspace_bytes,
            "packed_bytes": self.packed_bytes,
            "heap": asdict(self.heap) if self.heap else None,
            "times": self.timing.to_dict() if self.timing else None,
            "ratios": ratios,
            "max_error": self.max_error,
        }

    def columns(self) -> list[str]:
        """Text for the columns of ``HEADER``."""
        peak = self.heap.peak_bytes if self.heap else None
        memory = (self.workspace_bytes, self.packed_bytes, peak)
        ratios = [self.ratios.get(peer) for peer in PEERS]
        return [
            self.layer,
            self.algorithm,
            *("-" if count is None else format_bytes(count) for count in memory),
            milliseconds(self.timing.minimum) if self.timing else "-",
            *(f"{value:.3f}" if pair else "-" for pair in ratios for value in pair or (0, 0)),
            "-" if self.max_error is None else f"{self.max_error:.2g}",
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.algorithms", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--layers", metavar="A,B", help=f"of {', '.join(LITERATURE_LAYERS)} [all]")
    parser.add_argument("--algorithms", metavar="A,B", help="[all of `tvmc algorithms`]")
    parser.add_argument(
        "--rounds", type=at_least_one, default=10, help="samples of each time [%(default)s]"
    )
    parser.add_argument(
        "--memory",
        type=at_least_one,
        metavar="MIB",
        help="what one run may take [a third of what is free, as three are timed at once]",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="write time.svg and memory.svg there"
    )
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.algorithms", lambda: compare_all(options))


def compare_all(options: argparse.Namespace) -> None:
    """Measure every layer, print the table, write the files."""
    layers = _chosen("layer", options.layers, list(LITERATURE_LAYERS))
    algorithms = _chosen("algorithm", options.algorithms, REGISTRY.names())
    pictures = [options.pictures / name for name in PICTURES] if options.pictures else []
    for path in [*pictures, *([options.json] if options.json else [])]:
        check_writable(path)
    limit = options.memory << 20 if options.memory else _free_bytes() // 3
    graphs = ensure([LITERATURE_LAYERS[name].name for name in layers])
    rows: list[Row] = []
    with HeapMeter.compiled() as meter:
        for name, graph in zip(layers, graphs, strict=True):
            rows += compare(name, graph, algorithms, meter, limit, options.rounds)
    print(format_table(HEADER, [row.columns() for row in rows]))
    for row in rows:
        if row.reason:
            print(f"{row.layer}, {row.algorithm}: {row.reason}")
    if options.json:
        write_json(options.json, [row.to_dict() for row in rows])
    for path in pictures:
        replace_atomically(path, PICTURES[path.name](rows).encode())


def _chosen(what: str, text: str | None, known: Sequence[str]) -> Sequence[str]:
    """The names in ``text``, in the order of those known; all if there is no text."""
    if text is None:
        return known
    wanted = text.split(",")
    for name in wanted:
        if name not in known:
            raise LeanconvError(f"unknown {what} {name!r}: one of {', '.join(known)}")
    return [name for name in known if name in wanted]


def _free_bytes() -> int:
    """Memory that can be taken without pushing anything out of it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024


# One layer


def compare(
    name: str,
    graph: Path,
    algorithms: Sequence[str],
    meter: HeapMeter,
    limit_bytes: int,
    rounds: int,
) -> list[Row]:
    """The rows of one layer: LiteRT's own kernels, then the algorithms."""
    geometry = str(LITERATURE_LAYERS[name])
    (layer,) = tflite_model.read(graph).layers
    assert layer.workload is not None, "float32 convolutions are all that is made here"
    rows = [Row(name, geometry, peer, session) for peer, session in PEERS.items()]
    planned = [Row(name, geometry, algorithm) for algorithm in algorithms]
    for row in planned:
        _plan(row, layer.workload, limit_bytes)
    rows += planned
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        _compile([row for row in planned if not row.reason], graph, Path(folder) / "layer.so")
        _say(f"{name}: measuring memory …")
        for row in rows:
            _measure_heap(row, graph, meter, limit_bytes)
        measured = [row for row in rows if row.heap is not None]
        _say(f"{name}: timing …")
        for batch in _batches(measured, 3 * limit_bytes):
            _time(batch, graph, layer.workload, rounds)
    return rows


def _plan(row: Row, workload: Conv2dWorkload, limit_bytes: int) -> None:
    """Plan the row's algorithm, or give the reason why it cannot be run."""
    try:
        row.plan = plan_kernel(workload, Simd.named("host"), row.algorithm)
    except Unsupported as error:
        row.reason = str(error)
        return
    needed = workload.input_bytes + workload.output_bytes
    needed += (row.workspace_bytes or 0) + (row.packed_bytes or 0)
    if needed > limit_bytes:
        row.reason = f"it takes {format_bytes(needed)}, more than {format_bytes(limit_bytes)}"


def _compile(rows: Sequence[Row], graph: Path, library: Path) -> None:
    """Compile the algorithms of all rows, which are of one layer, into one delegate."""
    if not rows:
        return
    names = [row.algorithm for row in rows]
    _say(f"{rows[0].layer}, {rows[0].geometry}: compiling {', '.join(names)} …")
    compiled = tvmc.compile(graph, output=library, algorithms=names).algorithms
    for row in rows:
        if row.algorithm in compiled:
            options = {"algorithm": row.algorithm}
            row.session = {"delegate": library, "delegate_options": options}
        else:
            row.reason = "the delegate does not know its weight layout"


def _measure_heap(row: Row, graph: Path, meter: HeapMeter, limit_bytes: int) -> None:
    if row.session is None:
        return
    try:
        row.heap = meter.measure(graph, limit_bytes, **row.session)
    except LeanconvError as error:
        row.reason = str(error)


def _batches(rows: Sequence[Row], room_bytes: int) -> Iterator[list[Row]]:
    """Rows to be timed together, in each LiteRT's own kernels, as far as memory lasts."""
    peers = [row for row in rows if row.algorithm in PEERS]
    batch = list(peers)
    for row in rows[len(peers) :]:
        needed = sum(other.process_bytes for other in [*batch, row])
        if needed > room_bytes and len(batch) > len(peers):
            yield batch
            batch = list(peers)
        batch.append(row)
    if batch:
        yield batch


def _time(batch: Sequence[Row], graph: Path, workload: Conv2dWorkload, rounds: int) -> None:
    """Fill in times, ratios and errors."""
    litert = runtime("litert")
    sessions = {row.algorithm: _session(row, graph, litert) for row in batch}
    any_session = next(iter(sessions.values()))
    weights, bias = _constants(any_session, workload)
    (image,) = random_inputs(any_session)
    for session in sessions.values():
        session.set_inputs([image])
    timings = interleave(
        {name: session.invoke for name, session in sessions.items()}, rounds=rounds
    )
    outputs = {name: _output(session) for name, session in sessions.items()}
    errors = max_errors(workload, image, weights, bias, outputs)
    for row in batch:
        row.timing, row.max_error = timings[row.algorithm], errors[row.algorithm]
        row.ratios = {peer: row.timing.ratio(timings[peer]) for peer in PEERS if peer in timings}


def _session(row: Row, graph: Path, litert: Runtime) -> Session:
    session = Session(graph, litert, **(row.session or {}))
    report = session.report()
    if report and [layer["algorithm"] for layer in report["layers"]] != [row.algorithm]:
        raise LeanconvError(f"the delegate does not run {row.algorithm} on {row.layer}")
    return session


def _constants(session: Session, workload: Conv2dWorkload) -> list[NDArray[np.float32]]:
    """Weights (M, K_h, K_w, C) and bias (M,) of a model of one convolution."""
    indices = {
        tuple(details["shape"]): details["index"]
        for details in session.interpreter.get_tensor_details()
    }
    shapes = (workload.weight_shape, (workload.out_channels,))
    return [session.interpreter.get_tensor(indices[shape]) for shape in shapes]


def _output(session: Session) -> NDArray[np.float32]:
    """The output tensor where it lies."""
    (details,) = session.interpreter.get_output_details()
    output: NDArray[np.float32] = session.interpreter.tensor(details["index"])()
    return output


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Pictures


def _time_picture(rows: Sequence[Row]) -> str:
    return _picture(
        rows,
        "Time of one convolution, one thread",
        f"least time, relative to {XNNPACK}",
        [row.ratios[XNNPACK][0] if XNNPACK in row.ratios else None for row in rows],
    )


def _memory_picture(rows: Sequence[Row]) -> str:
    return _picture(
        rows,
        "Memory of one convolution",
        "peak heap beside the input and output tensors, KiB",
        [row.heap.peak_bytes / 1024 if row.heap else None for row in rows],
        floor=1.0,
    )


def _picture(
    rows: Sequence[Row],
    title: str,
    axis: str,
    values: Sequence[float | None],
    floor: float | None = None,
) -> str:
    layers = list(dict.fromkeys(row.layer for row in rows))
    series: dict[str, list[float | None]] = {row.algorithm: [] for row in rows}
    for row, value in zip(rows, values, strict=True):
        series[row.algorithm].append(value)
    return dot_chart(title, axis, layers, series, floor=floor)


PICTURES = {"time.svg": _time_picture, "memory.svg": _memory_picture}


if __name__ == "__main__":
    sys.exit(main())
