"""Layers of networks of volumes, ours beside LiteRT's own CONV_3D.

    python -m scripts.benchmarks.winograd.volumes --json volumes.json
    python -m scripts.benchmarks.winograd.volumes --layers 8x14x14x64

Kernels of 3x3x3, SAME, are called bare with biases of zero, all of a layer and LiteRT's (that is
CONV_3D alone, without a bias) in turns, on one thread.

F(m), indirect3d: of `winograd3d`, and the definition; F(m) has stride 1 alone
built-in: LiteRT's kernel, which XNNPACK leaves to TFLite: its workspace is what the arena holds
    beside input and output
/ built-in, / definition: of least times; the definition is `indirect3d`
fewer: multiplications of the definition over those of the kernel
taken: what the planner takes
max diff: to LiteRT's results; expected: relative error by the model
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from schedules.algorithms.volumes.winograd3d import FORMS
from schedules.layer.volume import Conv3dWorkload
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from scripts.benchmarks.harness.bare import compile_bare
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    chosen,
    difference,
    factor,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.runners import BUILT_IN, Runner, open_runner
from scripts.models.make import quiet_tensorflow
from tvmc.command import LineParser
from tvmc.tables import format_bytes

DEFINITION = "indirect3d"
#: Images, height and width, channels in and out, stride along all three.
LAYERS = {
    "16x56x56x3": (16, 56, 3, 32, 1),
    "16x28x28x32": (16, 28, 32, 32, 1),
    "8x14x14x64": (8, 14, 64, 64, 1),
    "8x14x14x128": (8, 14, 128, 128, 1),
    "4x7x7x256": (4, 7, 256, 256, 1),
    "16x28x28x32 s2": (16, 28, 32, 64, 2),
}


def _options(parser: LineParser) -> None:
    parser.add_argument("--layers", metavar="A,B", help=f"of {', '.join(LAYERS)} [all]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Every layer in every form."""
    for name in chosen("layer", options.layers, LAYERS):
        say(f"{name} …")
        yield from bench(name, options.rounds)


def bench(name: str, rounds: int) -> Iterator[Row]:
    """The rows of one layer: of LiteRT, and of each form of ours."""
    layer = layer_of(*LAYERS[name])
    random, simd = np.random.default_rng(0), Simd.named("host")
    x = random.standard_normal(layer.input_shape, np.float32)
    scale = np.float32(np.prod(layer.weight_shape[1:]) ** -0.5)
    weights = scale * random.standard_normal(layer.weight_shape, np.float32)
    plans = plans_of(layer, simd)
    taken = plan_kernel(layer, simd)
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder_name:
        folder = Path(folder_name)
        kernels = compile_bare(plans, dict.fromkeys(plans, weights), x, folder)
        runner = built_in_layer(layer, weights, x, folder)
        times = interleave({**kernels, BUILT_IN: runner.invoke}, rounds=rounds)
        (expected,) = runner.outputs()
    assert runner.session is not None, "it is LiteRT's"
    arena = runner.session.probe().arena_bytes()
    shared: Row = {"layer": name, "geometry": layer.to_text()}
    yield shared | {
        "kernel": BUILT_IN,
        "times": times[BUILT_IN].to_dict(),
        "ratios": {"definition": times[BUILT_IN].minimum / times[DEFINITION].minimum},
        "workspace_bytes": arena - x.nbytes - expected.nbytes,
        "weight_bytes": weights.nbytes,
    }
    for subject, plan in plans.items():
        bases = {"built-in": BUILT_IN, "definition": DEFINITION}
        least = times[subject].minimum
        *_, y = kernels[subject].arguments
        yield shared | {
            "kernel": _form(plan),
            "times": times[subject].to_dict(),
            "ratios": {base: least / times[other].minimum for base, other in bases.items()},
            "fewer": layer.macs / plan.macs,
            "workspace_bytes": plan.workspace_bytes,
            "weight_bytes": plan.packed.weight_bytes,
            "taken": "taken" if _form(plan) == _form(taken) else None,
            "difference": float(abs(y - expected).max()),
            "expected_error": plan.expected_error,
        }


def layer_of(
    depth: int, size: int, channels: int, out_channels: int, stride: int
) -> Conv3dWorkload:
    """3x3x3, SAME."""
    return Conv3dWorkload.with_padding(
        "SAME", in_depth=depth, in_height=size, in_width=size, in_channels=channels,
        out_channels=out_channels, kernel_depth=3, kernel_height=3, kernel_width=3,
        stride_depth=stride, stride_height=stride, stride_width=stride,
    )  # fmt: skip


def plans_of(layer: Conv3dWorkload, simd: Simd) -> dict[str, Plan]:
    """All forms that compute it, by names that C knows."""
    plans = {DEFINITION: plan_kernel(layer, simd, DEFINITION)}
    if layer.stride_depth == layer.stride_height == layer.stride_width == 1:
        for m in FORMS:
            plans[f"f{m}"] = plan_kernel(layer, simd, f"winograd3d:outputs={m}")
    return plans


def _form(plan: Plan) -> str:
    return f"F({plan.knobs['outputs']})" if "outputs" in plan.knobs else plan.algorithm


def built_in_layer(
    layer: Conv3dWorkload, weights: np.ndarray, x: np.ndarray, folder: Path
) -> Runner:
    """LiteRT's kernel for weights (M, K_d, K_h, K_w, C), with ``x`` in its input."""
    strides = [1, layer.stride_depth, layer.stride_height, layer.stride_width, 1]
    with quiet_tensorflow():
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(x.shape, tf.float32)])
        def network(volume: Any) -> Any:
            taps = tf.constant(weights.transpose(1, 2, 3, 4, 0))
            return tf.nn.conv3d(volume, taps, strides, "SAME")

        functions = [network.get_concrete_function()]
        model = tf.lite.TFLiteConverter.from_concrete_functions(functions, network).convert()
    path = folder / "layer.tflite"
    path.write_bytes(model)
    runner = open_runner(BUILT_IN, path, 1, folder)
    runner.set_inputs([x])
    return runner


COLUMNS = {
    "layer": cell("layer"),
    "kernel": cell("kernel"),
    "taken": cell("taken"),
    "ms": cell("times", "min_s", form=milliseconds),
    "/ built-in": cell("ratios", "built-in", form=ratio),
    "/ definition": cell("ratios", "definition", form=ratio),
    "fewer": cell("fewer", form=factor),
    "workspace": cell("workspace_bytes", form=format_bytes),
    "weights": cell("weight_bytes", form=format_bytes),
    "max diff": cell("difference", form=difference),
    "expected": cell("expected_error", form=difference),
}


def report(rows: Rows) -> Iterator[str]:
    """A line for each layer and form; what is taken beside LiteRT, at its worst."""
    yield table(COLUMNS, rows)
    taken = [row["ratios"]["built-in"] for row in rows if row.get("taken")]
    yield f"taken / built-in at most {max(taken, default=1.0):.3f}"


BENCHMARK = Benchmark("winograd.volumes", __doc__, measure, report, _options, {"rounds": 20})
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
