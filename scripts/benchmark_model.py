r"""TFLite's benchmark_model for people without the C++ binary.

    python scripts/benchmark_model.py --graph model.tflite \
        --external_delegate_path ./libmodel_delegate.so --num_threads 1

The flags have the names and the defaults of the C++ tool, ``--flag=value`` or ``--flag value``,
and the summary lines have its form, so what reads the one reads the other. ``--compare`` alternates
the delegate with XNNPACK and with the built-in kernels in one run; ``--json FILE`` writes the same
figures for programs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking import Timing
from inference import COMPARISON_HEADER, MEMORY_NOTE, compare, delegate_memory, random_inputs
from schedules.errors import LeanconvError
from schedules.files import check_writable, replace_atomically, write_json
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.interpreter import Arrays, Session, runtime
from tvmc.run_command import delegate_options
from tvmc.tables import format_bytes, format_table

#: Seconds that the C++ tool warms up for at least.
WARMUP_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    options = parse_arguments(arguments)
    return exit_status("benchmark_model", lambda: run(options))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = LineParser(prog="benchmark_model", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--graph", type=Path, required=True, help="the .tflite file")
    add("--num_threads", type=at_least_one, default=1)
    add("--num_runs", type=at_least_one, default=50, help="at least this many invocations [50]")
    add("--min_secs", type=float, default=1.0, help="run at least this long [1]")
    add("--max_secs", type=float, default=150.0, help="start no run after this time [150]")
    add("--warmup_runs", type=int, default=1)
    add("--external_delegate_path", type=Path, help="shared library of a delegate")
    add("--external_delegate_options", type=delegate_options, default={}, metavar="K:V;K:V")
    add("--use_xnnpack", type=_boolean, nargs="?", const=True, default=True,
        help="false: the built-in kernels for what no delegate takes [true]")  # fmt: skip
    add("--enable_op_profiling", type=_boolean, nargs="?", const=True, default=False,
        help="print the time of every node")  # fmt: skip
    add("--input_layer_value_files", default="", metavar="NAME:FILE,…",
        help="raw bytes of the inputs; random values where none is named")  # fmt: skip
    add("--output_filepath", type=Path, help="write the raw bytes of all outputs here")
    add("--runtime", choices=("litert", "tensorflow"), default="litert")
    add("--compare", action="store_true", help="alternate with XNNPACK and the built-in kernels")
    add("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Benchmark as the options say, and print."""
    for path in (options.output_filepath, options.json):
        if path is not None:
            check_writable(path)
    figures = compare_runtimes(options) if options.compare else benchmark(options)
    if options.json:
        write_json(options.json, figures)


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """One runtime alone, reported like the C++ tool."""
    chosen = runtime(options.runtime)
    start_rss = _peak_rss_mib()
    info("STARTING!")
    info(f"Graph: [{options.graph}]")
    info(f"#threads used for CPU inference: [{options.num_threads}]")
    if options.external_delegate_path:
        info(f"External delegate path: [{options.external_delegate_path}]")
    started = time.perf_counter()
    session = Session(
        options.graph,
        chosen,
        threads=options.num_threads,
        delegate=options.external_delegate_path,
        delegate_options=options.external_delegate_options,
        xnnpack=options.use_xnnpack,
    )
    initialization = time.perf_counter() - started
    init_rss = _peak_rss_mib()
    info(f"Loaded model {options.graph}")
    info(f"The input model file size (MB): {options.graph.stat().st_size / 1e6:.6g}")
    info(f"Initialized session in {initialization * 1e3:.6g}ms.")
    session.set_inputs(read_inputs(session, options.input_layer_value_files))

    warmup = _repeat(session, options.warmup_runs, WARMUP_SECONDS, options.max_secs)
    timing = _repeat(session, options.num_runs, options.min_secs, options.max_secs)
    warmup_average = statistics.fmean(warmup.seconds) * 1e6
    average = statistics.fmean(timing.seconds) * 1e6
    info(
        f"Inference timings in us: Init: {initialization * 1e6:.0f}, "
        f"First inference: {warmup.seconds[0] * 1e6:.0f}, "
        f"Warmup (avg): {warmup_average:.6g}, Inference (avg): {average:.6g}"
    )
    overall_rss = _peak_rss_mib()
    info("Note: memory is that of the whole process, this tool included: APPROXIMATE.")
    info(
        "Memory footprint delta from the start of the tool (MB): "
        f"init={init_rss - start_rss:.6g} overall={overall_rss - start_rss:.6g}"
    )
    report = session.report()
    if report:
        info(_describe_report(report))
    if options.output_filepath:
        raw = b"".join(np.ascontiguousarray(output).tobytes() for output in session.outputs())
        replace_atomically(options.output_filepath, raw)
    profile = _profile(session, options) if options.enable_op_profiling else None
    return {
        "graph": str(options.graph),
        "runtime": chosen.name,
        "init_s": initialization,
        "first_inference_s": warmup.seconds[0],
        "warmup_avg_s": warmup_average * 1e-6,
        "inference_avg_s": average * 1e-6,
        **timing.to_dict(),
        "arena_bytes": session.probe().arena_bytes(),
        "peak_rss_delta_bytes": int((overall_rss - start_rss) * 2**20),
        "delegate": report,
        "profile": profile,
    }


def compare_runtimes(options: argparse.Namespace) -> dict[str, Any]:
    """The delegate, XNNPACK and the built-in kernels in one interleaved run."""
    chosen = runtime(options.runtime)
    session = Session(options.graph, chosen, xnnpack=False)
    values = read_inputs(session, options.input_layer_value_files)
    del session
    results = compare(
        options.graph,
        options.external_delegate_path,
        runtime=chosen,
        threads=options.num_threads,
        delegate_options=options.external_delegate_options,
        values=values,
        rounds=options.num_runs,
        seconds=options.max_secs,
    )
    print(format_table(COMPARISON_HEADER, [result.columns() for result in results]))
    print(MEMORY_NOTE)
    return {"results": [result.to_dict() for result in results]}


def read_inputs(session: Session, files: str) -> Arrays:
    """Random inputs, and those of ``name:file,name:file`` from raw files.

    A colon inside a name is written twice, as for the C++ tool.

    Raises
    ------
    LeanconvError
        If a name or a file is unknown, or a file has not the size of its tensor.
    """
    values = random_inputs(session)
    positions = {details["name"]: i for i, details in enumerate(session.inputs())}
    for part in filter(None, files.split(",")):
        name, colon, file = part.replace("::", "\0").partition(":")
        name = name.replace("\0", ":")
        if not colon:
            raise LeanconvError(f"--input_layer_value_files: {part!r} is not NAME:FILE")
        if name not in positions:
            raise LeanconvError(f"there is no input {name!r}: {', '.join(positions)}")
        tensor = values[positions[name]]
        try:
            data = Path(file).read_bytes()
        except OSError as error:
            raise LeanconvError(f"cannot read {file}: {error.strerror}") from None
        if len(data) != tensor.nbytes:
            raise LeanconvError(f"{file} has {len(data)} bytes, input {name!r} has {tensor.nbytes}")
        values[positions[name]] = np.frombuffer(data, tensor.dtype).reshape(tensor.shape)
    return values


def _repeat(session: Session, runs: int, min_seconds: float, max_seconds: float) -> Timing:
    """Invoke at least ``runs`` times and ``min_seconds``, but start nothing after the maximum."""
    info(
        f"Running benchmark for at least {runs} iterations and at least {min_seconds:g} seconds "
        f"but terminate if exceeding {max_seconds:g} seconds."
    )
    seconds: list[float] = []
    start = now = time.perf_counter()
    while not seconds or (
        (len(seconds) < runs or now - start < min_seconds) and now - start < max_seconds
    ):
        session.invoke()
        before, now = now, time.perf_counter()
        seconds.append(now - before)
    timing = Timing(tuple(seconds))
    info(f"{statistics_line(timing)}\n")
    return timing


def statistics_line(timing: Timing) -> str:
    """``count=… first=… … p95=…`` in microseconds, as the C++ tool writes it."""
    micros = [round(seconds * 1e6) for seconds in timing.seconds]
    if len(set(micros)) == 1:
        return f"count={len(micros)} curr={micros[-1]}"
    points = " ".join(
        f"{name}={timing.percentile(percent) * 1e6:.0f}"
        for name, percent in (("p5", 5), ("median", 50), ("p95", 95))
    )
    return (
        f"count={len(micros)} first={micros[0]} curr={micros[-1]} min={min(micros)} "
        f"max={max(micros)} avg={statistics.fmean(micros):.6g} "
        f"std={statistics.pstdev(micros):.0f} {points}"
    )


def _profile(session: Session, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of every node over ``num_runs`` further invocations, printed and returned."""
    probe = session.probe()
    session.set_inputs(read_inputs(session, options.input_layer_value_files))
    session.invoke()
    with probe.timing():
        for _ in range(options.num_runs):
            session.invoke()
    rows: list[dict[str, Any]] = [
        {"node": node.index, "name": node.name, "avg_s": statistics.fmean(node.seconds)}
        for node in probe.nodes
        if node.seconds
    ]
    total = sum(row["avg_s"] for row in rows) or 1.0
    print("============================== Run Order ==============================")
    table = [
        [row["node"], row["name"], f"{row['avg_s'] * 1e3:.3f}", f"{100 * row['avg_s'] / total:.1f}"]
        for row in rows
    ]
    print(format_table(("node", "node type", "avg ms", "%"), table))
    print(f"\nNumber of nodes executed: {len(rows)}")
    print("============================== Summary by node type ==============================")
    by_type: dict[str, list[float]] = {}
    for row in rows:
        # All layers of one algorithm are one type.
        by_type.setdefault(row["name"].split(" ")[0], []).append(row["avg_s"])
    ordered = sorted(by_type.items(), key=lambda item: -sum(item[1]))
    table = [
        [name, len(times), f"{sum(times) * 1e3:.3f}", f"{100 * sum(times) / total:.1f}"]
        for name, times in ordered
    ]
    print(format_table(("node type", "count", "avg ms", "%"), table))
    return rows


def _describe_report(report: dict[str, Any]) -> str:
    memory = delegate_memory(report)
    assert memory is not None
    return (
        f"leanconv: {report['claimed']} layers, "
        f"workspace {format_bytes(memory.workspace_bytes)}, "
        f"packed weights {format_bytes(memory.packed_bytes)}"
    )


def info(text: str) -> None:
    """One line of the log."""
    print(f"INFO: {text}", flush=True)


def _peak_rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main())
