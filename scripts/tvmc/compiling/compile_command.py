"""``tvmc compile``: its options, and the table of what was done with each layer."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schedules.plan.objectives import OBJECTIVES
from schedules.store import bypassed
from tvmc.command import (
    add_store_option,
    add_weight_options,
    at_least_one,
    byte_count,
    byte_counts,
    given,
    names,
    positive,
    thread_count,
)
from tvmc.compiling.compiler import OUTPUT_FORMATS, compile
from tvmc.compiling.module_options import add_module_options, check_module_options
from tvmc.progress import shown_progress
from tvmc.tables import format_bytes, format_table
from tvmc.target_options import add_target_options, chosen_target
from tvmc.tuning.host_figures import host_figures

#: Those of :data:`tflite_delegate.table.ROUNDINGS`, which imports TVM.
ROUNDINGS = ("xnnpack", "builtin", "reference")
#: Those of :data:`tflite_delegate.precision.PRECISIONS`, likewise.
PRECISIONS = ("fp32", "fp16")


def add_parser(commands: Any) -> None:
    """Add the command to those of ``tvmc``."""
    command = commands.add_parser(
        "compile",
        help="compile a .tflite model's convolutions",
        usage="tvmc compile MODEL -o OUT [options]",
        description="Compile a .tflite model's convolutions into a delegate that TFLite loads, or "
        "the whole model into a module for TVM's runtime.",
    )
    command.set_defaults(run=_compile)
    add = command.add_argument
    add("model", metavar="MODEL", type=Path, help="the .tflite file")
    add("-o", "--output", metavar="OUT", type=Path, required=True, help="what to write")
    add("-f", "--output-format", metavar="FORMAT", choices=OUTPUT_FORMATS, default="delegate",
        help="delegate: a shared library for TFLite; delegate-source: a folder for CMake; so, tar: "
        "a TVM module for `tvmc run` [%(default)s]")  # fmt: skip
    add("--report", metavar="FILE", type=Path, help="write what was done with each layer, as JSON")
    add("--cc", "--cross-compiler", metavar="COMMAND",
        help="C compiler for the target instead of the bundled zig")  # fmt: skip
    add("--jobs", type=at_least_one, metavar="N", help="layers compiled at the same time")
    add("--batch", type=at_least_one, metavar="N",
        help="images that inputs will be resized to, of a model for one, with -f delegate…: their "
        "kernels share weights; modules take --input-shapes")  # fmt: skip
    add("--rounding", choices=ROUNDINGS,
        help="whose arithmetic integers follow to the last bit: TFLite's by default, its own "
        "kernels', or its reference kernels' [xnnpack]")  # fmt: skip
    add("--precision", choices=PRECISIONS,
        help="what layers of floats are computed in, with -f delegate…: fp16, twice as many "
        "numbers at a time of 11 bits each, on Arm processors with +fullfp16 [fp32, but "
        "fp16 where the model's metadata allows it]")  # fmt: skip
    add_store_option(command)
    add_target_options(command)
    _add_kernel_options(command.add_argument_group("kernels"))
    add_module_options(command)


def _add_kernel_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--algorithm", metavar="NAME[,NAME…]", type=names, default=["auto"], dest="algorithms",
        help="use these, the first that supports a layer as its default; auto chooses for each "
        "layer; NAME:KNOB=VALUE sets a knob [auto]")  # fmt: skip
    add("--objective", choices=OBJECTIVES, default="time",
        help="what auto minimises: modelled time; the bytes held where that costs little time (the "
        "knee of `tvmc plan`'s curve); the bytes held whatever it costs [%(default)s]")  # fmt: skip
    add("--workspace-limit", metavar="BYTES", type=byte_count,
        help="workspace of a layer at most, for one thread; 64K, 2M")  # fmt: skip
    add("--memory-limit", metavar="BYTES[,BYTES…]", type=byte_counts,
        help="all that a delegate holds at most: tensors, workspace, packed weights and its own "
        "data; see `tvmc plan`. With several, one below the other, the library has a plan for each "
        "and the delegate's option memory_limit chooses")  # fmt: skip
    add("--threads", metavar="N", type=thread_count,
        help="threads that kernels are chosen for, whose workspace a limit counts [1]")  # fmt: skip
    add("--plan", metavar="FILE[#BYTES]",
        help="the kernels of a plan that `tvmc plan --json FILE` wrote: the fastest of the file, "
        "or the fastest within so many bytes")  # fmt: skip
    add_weight_options(group)
    add("--max-error", metavar="X", type=positive,
        help="expected relative error of Winograd's algorithm at most "
        "[3 times that of direct convolution]")  # fmt: skip
    add("--tuning-records", metavar="PATH", type=Path, action="append", default=[],
        help="use what `tvmc tune` has measured: a file or a folder; "
        "may be given several times")  # fmt: skip
    add("--no-calibration", dest="calibration", action="store_false",
        help="plan for the target as it is known, not as `tvmc calibrate` measured the board of "
        "the records, nor as this machine was measured once")  # fmt: skip
    add("--desired-layout", metavar="NHWC", type=_layout, default="NHWC",
        help="the only layout, as in the model")  # fmt: skip


def _layout(text: str) -> str:
    if text != "NHWC":
        raise argparse.ArgumentTypeError(
            f"there is no {text}: the kernels read NHWC, as TFLite's models have it"
        )
    return text


def _compile(options: argparse.Namespace) -> None:
    check_module_options(options)
    with bypassed(options.no_store), shown_progress(options.verbose > 0) as progress:
        chosen = {
            "target": chosen_target(options),
            "host_figures": host_figures(options.cc),
            "progress": progress,
        }
        report = compile(**given(compile, options) | chosen)
    for warning in report.tuning.warnings if report.tuning else ():
        print(f"tvmc: warning: {warning}", file=sys.stderr)
    print_report(report.to_dict())
    print(f"wrote {options.output}" + (f" and {options.report}" if options.report else ""))


def print_report(report: dict[str, Any]) -> None:
    """The layers for people, graph by graph."""
    others = [graph for graph in report.get("subgraphs", ()) if graph["layers"]]
    host = "TVM" if "tvm" in report else "TFLite"
    if report["layers"] or not others:
        _print_layers(report["layers"], host)
    _print_others(report)
    for graph in others:
        runs = "".join(f", signature {key!r}" for key in graph["signatures"])
        print(f"\nsubgraph {graph['subgraph']}{runs}:")
        _print_layers(graph["layers"], host)
        _print_others(graph)
    _print_summary(report, [layer for graph in (report, *others) for layer in graph["layers"]])


def _print_layers(layers: Sequence[dict[str, Any]], host: str) -> None:
    rows = []
    for layer in layers:
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
                layer["why"] if claimed else f"left to {host}: {layer['reason']}",
            ]
        )
    header = ("node", "operator", "geometry", "algorithm", "workspace", "packed", "why")
    print(format_table(header, rows))


def _print_summary(report: dict[str, Any], layers: Sequence[dict[str, Any]]) -> None:
    """``layers`` are those of all graphs."""
    claimed = [layer for layer in layers if layer["claimed"]]
    if "verification" in report:
        print(report["verification"])
    if report["tuning"]:
        _print_tuning(report["tuning"], Counter(layer["tuning"] for layer in claimed))
    macs = sum(layer["macs"] for layer in layers)
    share = sum(layer["macs"] for layer in claimed) / macs if macs else 0.0
    workspace = max((layer["workspace_bytes"] for layer in claimed), default=0)
    packed = sum(layer["packed_bytes"] for layer in claimed)
    embedded = sum(layer["packed_bytes"] for layer in claimed if layer["embedded"])
    where = f" ({format_bytes(embedded)} in the library)" if embedded else ""
    held = [f"tensors and workspace at once {format_bytes(report['peak_bytes'])}"]
    if "own_bytes" in report:
        held.append(f"the delegate's own {format_bytes(report['own_bytes'])}")
    print(
        f"{len(claimed)} of {len(layers)} layers for {report['target']}, "
        f"{share:.1%} of the multiplications; workspace {format_bytes(workspace)} (shared), "
        f"packed weights {format_bytes(packed)}{where}; {'; '.join(held)}; "
        f"{format_bytes(report['library_bytes'])} in {report['seconds']:.1f} s"
    )


def _print_others(report: dict[str, Any]) -> None:
    """The nodes that are no layers."""
    if "tvm" in report:
        print(f"the rest, by TVM: {', '.join(sorted(report['others'])) or 'nothing'}")
        return
    between, left = report["between"], report["left"]
    if between:
        counts = Counter(between.values())
        text = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        print(f"in between, computed by the delegate: {text}")
    for partition in left:
        text = ", ".join(partition["operators"])
        print(f"left to TFLite, {partition['share']:.1%} of the data: {text}")


def _print_tuning(tuning: dict[str, Any], layers: Counter[str]) -> None:
    """Where the layers' plans come from."""
    how = "modelled, not measured, for" if tuning["cost_kind"] == "modelled" else "measured on"
    print(
        f"records {how} {tuning['board']}: {layers['tuned']} layers tuned, "
        f"{layers['transferred']} transferred from others, {layers['default']} untuned"
    )
