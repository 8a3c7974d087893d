"""The flags of TFLite's benchmark_model, as data: which there are, and which are honoured here.

The names, types and defaults are the C++ tool's. One that cannot be honoured is accepted all the
same, with a line that says why, so that a command written for the tool runs; and like the tool,
this one goes on when it meets a flag that nobody knows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tvmc.command import LineParser, at_least_one
from tvmc.running.run_command import delegate_options

#: What ``--op_profiling_output_mode`` may be.
PROFILE_MODES = ("stdout", "csv", "proto")


class Flag(NamedTuple):
    """A flag that is honoured: what argparse has to know."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str


def boolean(text: str) -> bool:
    """``true``, ``false``, ``1`` or ``0``."""
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


def thread_count(text: str) -> int:
    """A number of threads, or -1 for what the runtime takes by itself, which is one."""
    return -1 if text.strip() == "-1" else at_least_one(text)


def profile_mode(text: str) -> str:
    """One of :data:`PROFILE_MODES`."""
    if text not in PROFILE_MODES:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PROFILE_MODES)}")
    return text


HONOURED = (
    Flag("num_threads", thread_count, -1, "threads; -1: as many as the runtime takes [-1]"),
    Flag("num_runs", at_least_one, 50, "at least this many invocations [50]"),
    Flag("min_secs", float, 1.0, "run at least this long [1]"),
    Flag("max_secs", float, 150.0, "start no run after this time [150]"),
    Flag("run_delay", float, -1.0, "seconds between two runs"),
    Flag("run_frequency", float, -1.0, "runs a second, instead of run_delay"),
    Flag("warmup_runs", int, 1, "at least this many runs before [1]"),
    Flag("warmup_min_secs", float, 0.5, "warm up at least this long [0.5]"),
    Flag("dry_run", boolean, False, "load the model and run nothing"),
    Flag("verbose", boolean, False, "log the flags that were not given too"),
    Flag("report_peak_memory_footprint", boolean, False, "watch the memory of the process"),
    Flag("memory_footprint_check_interval_ms", int, 50, "how often [50]"),
    Flag("signature_to_run_for", str, "", "the signature to run, of a model with several"),
    Flag("list_signatures", boolean, False, "print the model's signatures and stop"),
    Flag("input_layer", str, "", "names of the inputs, with commas"),
    Flag("input_layer_shape", str, "", "their shapes: 1,224,224,3:1,20"),
    Flag("input_layer_value_range", str, "", "NAME,LOW,HIGH:… for integer inputs"),
    Flag("input_layer_value_files", str, "", "NAME:FILE,… raw bytes; random values elsewhere"),
    Flag("external_delegate_path", Path, None, "shared library of a delegate"),
    Flag("external_delegate_options", delegate_options, {}, "KEY:VALUE;KEY:VALUE"),
    Flag("use_xnnpack", boolean, True, "false: the built-in kernels for what no delegate takes"),
    Flag("require_full_delegation", boolean, False, "fail unless one node of a delegate is all"),
    Flag("enable_op_profiling", boolean, False, "the time of every node"),
    Flag("op_profiling_output_mode", profile_mode, "stdout", "stdout, csv or proto [stdout]"),
    Flag("op_profiling_output_file", Path, None, "where to, instead of the log"),
    Flag("profiling_output_csv_file", Path, None, "the older name of the latter two"),
    Flag("output_filepath", Path, None, "write the raw bytes of all outputs here"),
    Flag("output_proto_filepath", Path, None, "write all outputs here as a tf.Example"),
    Flag("result_file_path", Path, None, "write the figures here as a BenchmarkResult"),
)

#: Without effect here, and nothing is lost: names, or limits of buffers that there are none of.
WITHOUT_EFFECT = (
    "benchmark_name", "output_prefix", "max_profiling_buffer_entries",
    "allow_dynamic_profiling_buffer_increase", "gpu_invoke_loop_times",
    "tensor_name_display_length", "tensor_type_display_length", "alloc_type_display_length",
)  # fmt: skip

_NO_ACCESS = "TFLite's Python interface has no such option"
_NO_DEVICE = "there is no such delegate in TFLite's Python packages"
_OTHERS = "it is for other delegates"

#: What cannot be done, and why.
NOT_HONOURED = {
    **dict.fromkeys(
        ("use_caching", "allow_fp16", "release_dynamic_tensors",
         "optimize_memory_for_large_tensors", "disable_delegate_clustering",
         "enable_builtin_cast_constant_cache", "export_model_runtime_info",
         "model_runtime_info_output_file", "print_preinvoke_state", "print_postinvoke_state",
         "xnnpack_force_fp16", "xnnpack_weight_cache_file_path", "xnnpack_runtime_flags"),
        _NO_ACCESS,
    ),
    **dict.fromkeys(
        ("max_delegated_partitions", "min_nodes_per_partition", "delegate_serialize_dir",
         "delegate_serialize_token", "first_delegate_node_index", "last_delegate_node_index"),
        _OTHERS,
    ),
    **dict.fromkeys(
        ("use_gpu", "gpu_precision_loss_allowed", "gpu_experimental_enable_quant",
         "gpu_inference_for_sustained_speed", "gpu_backend", "gpu_wait_type", "use_nnapi",
         "nnapi_execution_preference", "nnapi_execution_priority", "nnapi_accelerator_name",
         "disable_nnapi_cpu", "nnapi_allow_fp16", "nnapi_allow_dynamic_dimensions",
         "nnapi_use_burst_mode", "nnapi_support_library_path", "use_coreml", "coreml_version",
         "use_hexagon", "hexagon_lib_path", "hexagon_profiling", "use_ynnpack",
         "ynnpack_static_shape", "ynnpack_fast_math", "ynnpack_consistent_arithmetic",
         "ynnpack_no_excess_precision", "stable_delegate_settings_file"),
        _NO_DEVICE,
    ),
}  # fmt: skip


def parser(description: str | None) -> LineParser:
    """All flags of the C++ tool, and ours."""
    line = LineParser(prog="benchmark_model", description=description, allow_abbrev=False)
    line.add_argument("--graph", type=Path, required=True, help="the .tflite file")
    for flag in HONOURED:
        more: dict[str, Any] = {"nargs": "?", "const": True} if flag.parse is boolean else {}
        line.add_argument(
            f"--{flag.name}",
            type=flag.parse,
            default=flag.default,
            help=flag.help,
            metavar=None if more else "X",
            **more,
        )
    for name in (*WITHOUT_EFFECT, *NOT_HONOURED):
        line.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    group = line.add_argument_group("flags that the C++ tool has not")
    group.add_argument("--runtime", choices=("litert", "tensorflow"), default="litert")
    group.add_argument(
        "--compare", action="store_true", help="alternate with XNNPACK and the built-in kernels"
    )
    group.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    return line


def warnings(
    options: argparse.Namespace, arguments: Sequence[str], unknown: Sequence[str]
) -> list[str]:
    """A line for every flag that was given for nothing, or that the C++ tool takes otherwise."""
    lines = [
        f"--{name} is not honoured: {reason}"
        for name, reason in NOT_HONOURED.items()
        if getattr(options, name) not in (None, "", "false", "0")
    ]
    places = {word.split("=")[0]: place for place, word in enumerate(arguments)}
    xnnpack = places.get("--use_xnnpack", len(arguments))
    if options.use_xnnpack and xnnpack < places.get("--external_delegate_path", 0):
        lines.append(
            "--use_xnnpack before --external_delegate_path: the C++ tool would apply XNNPACK "
            "first; here the delegate comes first"
        )
    if unknown:
        lines.append(f"Unconsumed cmdline flags: {' '.join(unknown)}")
    return lines
