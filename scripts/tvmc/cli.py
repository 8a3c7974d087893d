"""The command line of ``tvmc``.

Whatever a user can cause ends as one line, ``tvmc: error: …``, and exit status 2. TVM is imported
when something is compiled and not before: it takes a second.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schedules import __version__
from schedules.simd import PRESETS, Simd
from tvmc.command import LineParser, at_least_one, byte_count, exit_status, positive
from tvmc.compiler import OBJECTIVES, OUTPUT_FORMATS, compile, known_algorithms
from tvmc.progress import shown_progress
from tvmc.records import add_parser as add_records
from tvmc.rpc_server import add_parser as add_rpc_server
from tvmc.tables import format_bytes, format_table
from tvmc.tune_command import add_parser as add_tune


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    return exit_status("tvmc", lambda: options.run(options))


def _parser() -> LineParser:
    parser = LineParser(
        prog="tvmc",
        description="Compile the convolutions of TFLite models for memory-limited devices.",
    )
    parser.add_argument("--version", action="version", version=f"tvmc (leanconv) {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser(
        "compile",
        help="compile a .tflite model's convolutions",
        description="Compile a .tflite model's convolutions into a delegate that TFLite loads.",
    )
    command.set_defaults(run=_compile)
    add = command.add_argument
    add("model", metavar="MODEL", type=Path, help="the .tflite file")
    add("--target", default="host", help="host, a name from `tvmc targets`, or a TVM target [host]")
    add("-o", "--output", metavar="OUT", type=Path, required=True, help="what to write")
    add("-f", "--output-format", choices=OUTPUT_FORMATS, default="delegate",
        help="delegate: a shared library; delegate-source: a folder for CMake")  # fmt: skip
    add("--report", metavar="FILE", type=Path, help="write what was done with each layer, as JSON")
    add("--algorithm", metavar="NAME[,NAME…]", type=_names, default=["auto"],
        help="use these, the first that supports a layer as its default; auto chooses for each "
        "layer; NAME:KNOB=VALUE sets a knob [auto]")  # fmt: skip
    add(
        "--workspace-limit",
        metavar="BYTES",
        type=byte_count,
        help="workspace of a layer at most, for one thread; 64K, 2M",
    )
    add("--max-error", metavar="X", type=positive,
        help="expected relative error of Winograd's algorithm at most "
        "[3 times that of direct convolution]")  # fmt: skip
    add("--objective", choices=OBJECTIVES, default="time",
        help="what auto minimises: modelled time; the bytes held where that costs hardly any time; "
        "the bytes held whatever it costs [%(default)s]")  # fmt: skip
    add("--tuning-records", metavar="PATH", type=Path, action="append", default=[],
        help="use what `tvmc tune` has measured: a file or a folder; "
        "may be given several times")  # fmt: skip
    add("--cc", metavar="COMMAND", help="C compiler for the target instead of the bundled zig")
    add("--jobs", type=at_least_one, metavar="N", help="layers compiled at the same time")
    add("-v", "--verbose", action="store_true", help="say more while compiling")

    add_tune(commands)
    add_records(commands)
    add_rpc_server(commands)

    command = commands.add_parser("targets", help="list the targets known by name")
    command.set_defaults(run=_targets)
    command = commands.add_parser("algorithms", help="list the algorithms")
    command.set_defaults(run=_algorithms)
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME,NAME")
    return names


def _compile(options: argparse.Namespace) -> None:
    with shown_progress(options.verbose) as progress:
        report = compile(
            options.model,
            target=options.target,
            output=options.output,
            output_format=options.output_format,
            algorithms=options.algorithm,
            workspace_limit=options.workspace_limit,
            max_error=options.max_error,
            objective=options.objective,
            tuning_records=options.tuning_records,
            cc=options.cc,
            jobs=options.jobs,
            report=options.report,
            progress=progress,
        )
    for warning in report.tuning.warnings if report.tuning else ():
        print(f"tvmc: warning: {warning}", file=sys.stderr)
    print_report(report.to_dict())
    print(f"wrote {options.output}" + (f" and {options.report}" if options.report else ""))


def print_report(report: dict[str, Any]) -> None:
    """The layers for people."""
    rows = []
    for layer in report["layers"]:
        claimed = layer["claimed"]
        merged = [node for node in layer["nodes"] if node != layer["index"]]
        rows.append(
            [
                "+".join(map(str, [layer["index"], *merged])),
                layer["op"],
                layer["geometry"],
                layer["algorithm"] if claimed else "-",
                format_bytes(layer["workspace_bytes"]) if claimed else "-",
                format_bytes(layer["packed_bytes"]) if claimed else "-",
                layer["why"] if claimed else f"left to TFLite: {layer['reason']}",
            ]
        )
    header = (
        "node",
        "operator",
        "geometry",
        "algorithm",
        "workspace",
        "packed",
        "why",
    )
    print(format_table(header, rows))
    _print_others(report)
    claimed = [layer for layer in report["layers"] if layer["claimed"]]
    if report["tuning"]:
        _print_tuning(report["tuning"], Counter(layer["tuning"] for layer in claimed))
    macs = sum(layer["macs"] for layer in report["layers"])
    share = sum(layer["macs"] for layer in claimed) / macs if macs else 0.0
    workspace = max((layer["workspace_bytes"] for layer in claimed), default=0)
    packed = sum(layer["packed_bytes"] for layer in claimed)
    print(
        f"{len(claimed)} of {len(report['layers'])} layers for {report['target']}, "
        f"{share:.1%} of the multiplications; workspace {format_bytes(workspace)} (shared), "
        f"packed weights {format_bytes(packed)}; tensors and workspace at once "
        f"{format_bytes(report['peak_bytes'])}; "
        f"{format_bytes(report['library_bytes'])} in {report['seconds']:.1f} s"
    )


def _print_others(report: dict[str, Any]) -> None:
    """The nodes that are no layers."""
    between, left = report["between"], report["left"]
    if between:
        counts = Counter(between.values())
        names = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        print(f"in between, computed by the delegate: {names}")
    for partition in left:
        names = ", ".join(partition["operators"])
        print(f"left to TFLite, {partition['share']:.1%} of the data: {names}")


def _print_tuning(tuning: dict[str, Any], layers: Counter[str]) -> None:
    """Where the layers' plans come from."""
    how = "modelled, not measured, for" if tuning["cost_kind"] == "modelled" else "measured on"
    print(
        f"records {how} {tuning['board']}: {layers['tuned']} layers tuned, "
        f"{layers['transferred']} transferred from others, {layers['default']} untuned"
    )


def _targets(_options: argparse.Namespace) -> None:
    header = ("target", "processor", "vector", "L1", "L2", "triple")
    targets: dict[str, Simd] = {"host": Simd.named("host"), **PRESETS}
    rows = [
        [
            name,
            simd.mcpu,
            f"{8 * simd.vector_bytes} bits",
            format_bytes(simd.l1_bytes),
            format_bytes(simd.l2_bytes),
            simd.triple,
        ]
        for name, simd in targets.items()
    ]
    print(format_table(header, rows))


def _algorithms(_options: argparse.Namespace) -> None:
    print(format_table(("algorithm", "source"), known_algorithms()))
