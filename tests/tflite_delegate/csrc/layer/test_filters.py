"""Layers of which whole filters are zero: kernels compute the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.budget.recorded import read_plan
from schedules.files import write_json
from schedules.layer.network import Layer, Network
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import Limits
from schedules.select.selection import select_all
from schedules.select.within import selection_as_recorded
from schedules.target.simd import Simd
from schedules.transforms.cook_toom import filtering
from tests.support.reference import conv2d, winograd_bound
from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.read import model as tflite_model
from tflite_delegate.selection import select
from tvmc.planning.plan_command import plan

SHAPE = (1, 9, 8, 64)
#: Layer, filters that are zero, and those that its kernel computes.
LAYERS: dict[str, tuple[Conv, Sequence[int], int]] = {
    "first": (Conv(48, activation="relu"), range(16), 32),
    "last": (Conv(40, activation="relu6"), range(20, 40), 32),
    "alternating": (Conv(64, (2, 2), weight_type="float16"), range(0, 64, 2), 32),
    "all": (Conv(24, stride=(2, 2)), range(24), 16),
    "all but a few": (Conv(37, dilation=(2, 1)), sorted({*range(37)} - {1, 20, 36}), 16),
    "few": (Conv(40, (1, 1)), range(5), 40),
    "residual": (Conv(64, (1, 1), padding="VALID"), range(32), 64),
}


def weights(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    conv, zeros, _ = LAYERS[name]
    values, bias = conv.constants(SHAPE[3])
    values[list(zeros)] = -0.0
    return values, bias


def model(batch: int = 1) -> bytes:
    writer = ModelWriter()
    shape = (batch, *SHAPE[1:])
    x = writer.tensor(shape, dynamic_batch=batch == 1)
    outputs = []
    for name, (conv, _, _) in LAYERS.items():
        constants = [-1 if each is None else writer.constant(each) for each in weights(name)]
        y, y_shape = writer.conv(x, shape, conv, batch == 1, constants)
        outputs.append(writer.node("ADD", [y, x], y_shape) if name == "residual" else y)
    return writer.finish([x], outputs)


def expected(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The output in float64, and the bound of what rounding adds, in the planned algorithms."""
    conv = LAYERS[name][0]
    layer = replace(conv.workload(x.shape), weight_dtype="float32")
    values, bias = weights(name)
    result, bound = conv2d(layer, x, values, bias)
    if conv.kernel == (3, 3) and conv.stride == conv.dilation == (1, 1):
        bound = winograd_bound(layer, (filtering(4, 3), filtering(4, 3)), x, values, bias)
    return result, bound


@pytest.fixture(scope="module", params=[False, True], ids=["heap", "embedded"])
def delegate_path(build_delegate: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    return build_delegate(model(), embeds=request.param)


def test_as_defined_and_as_tflite_itself(litert: InterpreterApi, delegate_path: Path) -> None:
    """Also batches, and images that have no kernel, which the generic one computes."""
    delegate = litert.load_delegate(str(delegate_path))
    interpreter, builtin = litert.open(model(), delegate), litert.open(model())
    for shape in ((1, 11, *SHAPE[2:]), (3, *SHAPE[1:]), SHAPE):
        for other in (interpreter, builtin):
            other.resize_tensor_input(0, shape)
        (x,) = random_inputs(interpreter)
        pairs = zip(run(interpreter, [x]), run(builtin, [x]), strict=True)
        for name, (y, theirs) in zip(LAYERS, pairs, strict=True):
            result, bound = expected(name, x)
            more = x if name == "residual" else 0
            assert np.all(abs(y - (result + more)) <= bound + 1e-7 * abs(result + more)), name
            assert np.allclose(y, theirs, rtol=0, atol=1e-4), name
    report = read_report(delegate_path, delegate)
    in_library = [entry["embedded_bytes"] > 0 for entry in report["layers"]]
    assert all(entry["packed_bytes"] == 0 for entry in report["layers"]) or not any(in_library)
    assert (report["claimed"], report["unknown"]) == (len(LAYERS), 0)
    for (name, (_, _, kept)), entry in zip(LAYERS.items(), report["layers"], strict=True):
        assert (entry["calls"], entry["generic_calls"]) == (2, 1), name
        is_sparse = entry["algorithm"] == "sparse_direct"  # which leaves out all zeros
        assert is_sparse or f"->{kept}" in entry["name"], name


def test_nothing_gets_where_weights_are_zero(litert: InterpreterApi, delegate_path: Path) -> None:
    delegate = litert.load_delegate(str(delegate_path))
    interpreter = litert.open(model(), delegate)
    x = np.full(SHAPE, np.nan, np.float32)
    y = dict(zip(LAYERS, run(interpreter, [x]), strict=True))["last"]
    _, bias = weights("last")
    assert bias is not None
    assert np.all(y[..., 32:] == np.clip(bias[32:], 0, 6))
    memory = read_report(delegate_path, delegate)["memory"]
    assert memory["own_bytes"] <= memory["promised_own_bytes"] < 1.5 * memory["own_bytes"]


def test_the_reader_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "filters.tflite"
    path.write_bytes(model())
    layers = tflite_model.read(path).layers
    assert [layer.zero_filters for layer in layers] == [
        len(zeros) for _, zeros, _ in LAYERS.values()
    ]


def test_plans_leave_them_out_and_files_of_plans_too(tmp_path: Path) -> None:
    path, file = tmp_path / "filters.tflite", tmp_path / "plan.json"
    path.write_bytes(model())
    curve = plan(path)
    write_json(file, curve.to_dict())
    simd = Simd.named("host")
    recorded = selection_as_recorded(curve.network, simd, read_plan(file, None))
    within = select(path, simd, ("auto",), Limits(held_bytes=curve.solutions[-1].bytes))[0]
    for selection in (recorded, within):
        computed = {
            chain[0]: kernel.plan.layers[-1].out_channels
            for chain, kernel in selection.units.items()
            if kernel.plan.algorithm != "sparse_direct"
        }
        assert computed and any(kept < 40 for kept in computed.values())
        assert all(computed[i] == list(LAYERS.values())[i][2] for i in computed)


def test_few_products_are_not_worth_it() -> None:
    """Filters are left out where that saves more than spreading the others takes."""
    simd = Simd.named("x86-64-v4")
    for text, kept in (("14x14x512->512 k1x1", 384), ("14x14x16->512 k1x1", 512)):
        layer = Layer(0, "CONV_2D", "conv", text, Conv2dWorkload.from_text(text), None, 0, 0)
        few = replace(layer, zero_filters=128)
        network = Network("few", (few,), (), (), (), (), {})
        for algorithms, filters in ((["auto"], kept), (["indirect", "im2col"], 512)):
            (selection,) = select_all([network], simd, algorithms, Limits())
            assert selection.layers[0].kernels[0].plan.layer.out_channels == filters
