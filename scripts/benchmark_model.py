r"""TFLite's benchmark_model for people without the C++ binary.

    python -m scripts.benchmark_model --graph model.tflite \
        --external_delegate_path ./libmodel_delegate.so --num_threads 1

The flags have the names and the defaults of the C++ tool, all of which are taken,
``--flag=value`` or ``--flag value``; one that cannot be honoured here says so in a line. The
summary lines, profiles and files have its forms, so what reads the one reads the other.
``--compare`` alternates the delegate with XNNPACK and with the built-in kernels in one run;
``--json FILE`` writes the same figures for programs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from schedules.files import check_writable, replace_atomically, write_json
from scripts.benchmarks.harness.inference import (
    COMPARISON_HEADER,
    MEMORY_NOTE,
    compare,
    delegate_memory,
)
from scripts.benchmarks.harness.interleaving import Timing
from scripts.tflite_benchmark import flags as benchmark_flags
from scripts.tflite_benchmark import profile as benchmark_profile
from scripts.tflite_benchmark.proto import benchmark_result, example
from scripts.tflite_benchmark.session import (
    PeakMemory,
    SignatureSession,
    read_inputs,
    resident,
    resize_inputs,
)
from tvmc.command import exit_status
from tvmc.running.interpreter import Session, runtime
from tvmc.tables import format_bytes, format_table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    options = parse_arguments(arguments)
    return exit_status("benchmark_model", lambda: run(options))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what was given for nothing is warned of."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options, unknown = benchmark_flags.parser(__doc__).parse_known_args(given)
    for line in benchmark_flags.warnings(options, given, unknown):
        print(f"WARNING: {line}", file=sys.stderr)
    if options.profiling_output_csv_file:
        options.op_profiling_output_mode = "csv"
        options.op_profiling_output_file = options.profiling_output_csv_file
    return options


def run(options: argparse.Namespace) -> None:
    """Benchmark as the options say, and print."""
    files = ("output_filepath", "output_proto_filepath", "result_file_path", "json",
             "op_profiling_output_file")  # fmt: skip
    for path in filter(None, (getattr(options, name) for name in files)):
        check_writable(path)
    if options.op_profiling_output_mode == "proto" and not options.op_profiling_output_file:
        raise LeanconvError("--op_profiling_output_mode=proto needs --op_profiling_output_file")
    if options.list_signatures:
        list_signatures(options)
        return
    figures = compare_runtimes(options) if options.compare else benchmark(options)
    if options.json:
        write_json(options.json, figures)


def list_signatures(options: argparse.Namespace) -> None:
    """The keys of the model's signatures."""
    interpreter = Session(options.graph, runtime(options.runtime), xnnpack=False).interpreter
    keys = list(interpreter.get_signature_list())
    info(f"The Model contains {len(keys)} signature key(s).")
    for key in keys:
        info(f"-> Signature Key: {key}")


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """One runtime alone, reported like the C++ tool."""
    chosen = runtime(options.runtime)
    start_rss = _peak_rss_mib()
    info("STARTING!")
    _log_parameters(options)
    with PeakMemory(options) as peak:
        started = time.perf_counter()
        session = open_session(options)
        initialization = time.perf_counter() - started
        init_rss = _peak_rss_mib()
        info(f"Loaded model {options.graph}")
        info(f"The input model file size (MB): {options.graph.stat().st_size / 1e6:.6g}")
        info(f"Initialized session in {initialization * 1e3:.6g}ms.")
        _check_delegation(session, options)
        values = read_inputs(
            session, options.input_layer_value_files, options.input_layer_value_range
        )
        session.set_inputs(values)
        if options.dry_run:
            info("Nothing is run, as --dry_run says.")
            return {"graph": str(options.graph), "runtime": chosen.name, "init_s": initialization}
        warmup = _repeat(session, options.warmup_runs, options.warmup_min_secs, options)
        timing = _repeat(session, options.num_runs, options.min_secs, options)
    overall_rss = _peak_rss_mib()
    _log_summary(initialization, warmup, timing)
    _log_memory(init_rss - start_rss, overall_rss - start_rss, peak)
    report = session.report()
    if report:
        info(_describe_report(report))
    _write_outputs(session, options)
    figures = {
        "graph": str(options.graph),
        "runtime": chosen.name,
        "init_s": initialization,
        "first_inference_s": warmup.seconds[0],
        "warmup_avg_s": statistics.fmean(warmup.seconds),
        "inference_avg_s": statistics.fmean(timing.seconds),
        **timing.to_dict(),
        "arena_bytes": session.probe().arena_bytes(),
        "peak_rss_delta_bytes": int((overall_rss - start_rss) * 2**20),
        "peak_rss_bytes": int(peak.mebibytes * 2**20) or None,
        "delegate": report,
    }
    if options.result_file_path:
        growth = (init_rss - start_rss, overall_rss - start_rss)
        input_bytes = sum(value.nbytes for value in values)
        raw = _result_proto(options, initialization, warmup, timing, growth, peak, input_bytes)
        replace_atomically(options.result_file_path, raw)
        info(f"Saved benchmark result to: {options.result_file_path}")
    figures["profile"] = _profile(session, options) if options.enable_op_profiling else None
    return figures


def open_session(options: argparse.Namespace) -> SignatureSession:
    """The model as the options say, with tensors allocated."""
    session = SignatureSession(
        options.graph,
        runtime(options.runtime),
        options.signature_to_run_for or None,
        threads=max(options.num_threads, 1),  # -1: what the runtime takes, which is one
        delegate=options.external_delegate_path,
        delegate_options=options.external_delegate_options,
        xnnpack=options.use_xnnpack,
    )
    if session.signature is not None:
        info(f"Using signature: {session.signature}")
    resize_inputs(session, options.input_layer, options.input_layer_shape)
    return session


def _log_parameters(options: argparse.Namespace) -> None:
    info(f"Graph: [{options.graph}]")
    info(f"#threads used for CPU inference: [{options.num_threads}]")
    if options.external_delegate_path:
        info(f"External delegate path: [{options.external_delegate_path}]")
    for flag in benchmark_flags.HONOURED if options.verbose else ():
        info(f"{flag.name}: [{getattr(options, flag.name)}]")


def _check_delegation(session: SignatureSession, options: argparse.Namespace) -> None:
    """``--require_full_delegation``: one node, and a delegate's."""
    if not options.require_full_delegation:
        return
    nodes = [node for node in session.probe().nodes if node.graph == session.subgraph]
    if len(nodes) != 1 or not nodes[0].is_delegate:
        hint = " (leanconv's option one_node:1 makes one node of a graph that is all its own)"
        raise LeanconvError(
            f"Disallowed CPU fallback detected: {len(nodes)} nodes"
            f"{hint if session.report() else ''}"
        )


def _log_summary(initialization: float, warmup: Timing, timing: Timing) -> None:
    info(
        f"Inference timings in us: Init: {initialization * 1e6:.0f}, "
        f"First inference: {warmup.seconds[0] * 1e6:.0f}, "
        f"Warmup (avg): {statistics.fmean(warmup.seconds) * 1e6:.6g}, "
        f"Inference (avg): {statistics.fmean(timing.seconds) * 1e6:.6g}"
    )


def _log_memory(init: float, overall: float, peak: PeakMemory) -> None:
    info("Note: memory is that of the whole process, this tool included: APPROXIMATE.")
    info(
        "Memory footprint delta from the start of the tool (MB): "
        f"init={init:.6g} overall={overall:.6g}"
    )
    if peak.mebibytes:
        whole, shared = resident()
        info(f"Overall peak memory footprint (MB) via periodic monitoring: {peak.mebibytes:.6g}")
        info("Memory status at the end of exeution:")  # as the C++ tool spells it
        info(f"- VmRSS              : {whole:.0f} MB")
        info(f"+ RssAnnon           : {whole - shared:.0f} MB")
        info(f"+ RssFile + RssShmem : {shared:.0f} MB")


def _write_outputs(session: SignatureSession, options: argparse.Namespace) -> None:
    outputs = session.named_outputs()
    if options.output_filepath:
        raw = b"".join(np.ascontiguousarray(output).tobytes() for _, output in outputs)
        replace_atomically(options.output_filepath, raw)
    if options.output_proto_filepath:
        replace_atomically(options.output_proto_filepath, example(outputs))


def _result_proto(
    options: argparse.Namespace,
    initialization: float,
    warmup: Timing,
    timing: Timing,
    growth: tuple[float, float],
    peak: PeakMemory,
    input_bytes: int,
) -> bytes:
    seconds = timing.seconds
    average = statistics.fmean(seconds)
    latency = (
        *(average, min(seconds), max(seconds), statistics.pstdev(seconds), timing.percentile(50)),
        *(timing.percentile(5), timing.percentile(95), initialization, warmup.seconds[0]),
        statistics.fmean(warmup.seconds),
    )
    return benchmark_result(
        [value * 1e3 for value in latency],
        [int(size * 1024) for size in growth],
        peak.mebibytes or None,
        options.graph.stat().st_size / 1e6,
        (len(seconds), len(warmup.seconds)),
        input_bytes / 2**20 / average,
    )


def compare_runtimes(options: argparse.Namespace) -> dict[str, Any]:
    """The delegate, XNNPACK and the built-in kernels in one interleaved run."""
    if options.signature_to_run_for:
        raise LeanconvError("--compare runs the main graph, and no signature")
    chosen = runtime(options.runtime)
    session = Session(options.graph, chosen, xnnpack=False)
    values = read_inputs(session, options.input_layer_value_files)
    del session
    results = compare(
        options.graph,
        options.external_delegate_path,
        runtime=chosen,
        threads=max(options.num_threads, 1),
        delegate_options=options.external_delegate_options,
        values=values,
        rounds=options.num_runs,
        seconds=options.max_secs,
    )
    print(format_table(COMPARISON_HEADER, [result.columns() for result in results]))
    print(MEMORY_NOTE)
    return {"results": [result.to_dict() for result in results]}


def _repeat(session: Session, runs: int, min_seconds: float, options: argparse.Namespace) -> Timing:
    """Invoke at least ``runs`` times and ``min_seconds``, but start nothing after the maximum."""
    info(
        f"Running benchmark for at least {runs} iterations and at least {min_seconds:g} seconds "
        f"but terminate if exceeding {options.max_secs:g} seconds."
    )
    gap = 1.0 / options.run_frequency if options.run_frequency > 0 else 0.0
    seconds: list[float] = []
    start = now = time.perf_counter()
    while not seconds or (
        (len(seconds) < runs or now - start < min_seconds) and now - start < options.max_secs
    ):
        before = time.perf_counter()
        session.invoke()
        seconds.append(time.perf_counter() - before)
        pause = start + gap * len(seconds) - time.perf_counter() if gap else options.run_delay
        if pause > 0:
            time.sleep(pause)
        now = time.perf_counter()
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


def _profile(session: SignatureSession, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of every node over ``num_runs`` further invocations, written and returned."""
    probe = session.probe()
    session.set_inputs(
        read_inputs(session, options.input_layer_value_files, options.input_layer_value_range)
    )
    session.invoke()
    with probe.timing():
        for _ in range(options.num_runs):
            session.invoke()
    nodes = [node for node in probe.nodes if node.seconds]
    mode, file = options.op_profiling_output_mode, options.op_profiling_output_file
    if mode == "proto":
        replace_atomically(file, benchmark_profile.proto_of(nodes, options.graph.name))
    else:
        form = benchmark_profile.csv_of if mode == "csv" else benchmark_profile.text_of
        text = f"Operator-wise Profiling Info for Regular Benchmark Runs:\n{form(nodes)}"
        if file:
            replace_atomically(file, text.encode())
        else:
            print(text)
    return [
        {
            "node": node.index,
            "subgraph": node.graph,
            "name": benchmark_profile.type_of(node),
            "avg_s": statistics.fmean(node.seconds),
        }
        for node in nodes
    ]


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


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main())
