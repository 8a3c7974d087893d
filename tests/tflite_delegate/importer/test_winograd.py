"""Layers of Winograd's domain in modules: one layer each, in TVM's loops and in our kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from ai_edge_litert import schema_py_generated as schema
from tvm import relax

from schedules.errors import LeanconvError
from schedules.relax.pipeline import lower_to_calls, lower_to_loops
from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.target.simd import Simd
from scripts.models.make import quiet_tensorflow
from scripts.prune.convolution import Convolution
from scripts.prune.export import composite, custom
from tests.support.tflite_writer import packed
from tests.support.winograd_domain import winograd_conv2d
from tflite_delegate.importer.relax import import_model

HOST = Simd.named("host")
#: One behind the other; to what the last one computes, its input is added.
LAYERS: tuple[tuple[Callable[..., Any], Convolution], ...] = (
    (composite, Convolution(4, 3, False, "SAME", "RELU")),
    (custom, Convolution(2, 3, True, "SAME", "RELU6")),
    (composite, Convolution(2, 5, True, "SAME", "NONE")),
)
INPUT = (2, 13, 10, 3)
FILTERS = (8, 6, 6)


def constants(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of which half are zeros, whole blocks of the output channels, and a bias."""
    random = np.random.default_rng(number)
    channels = (INPUT[3], *FILTERS)[number]
    points = LAYERS[number][1].n ** 2
    weights = random.standard_normal((points, channels, FILTERS[number]), np.float32)
    weights *= random.random((points, channels, 1)) < 0.5
    return weights, random.standard_normal(FILTERS[number], np.float32)


@pytest.fixture(scope="module")
def exported() -> bytes:
    with quiet_tensorflow():
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(INPUT, tf.float32)])
        def network(x: Any) -> list[Any]:
            outputs = []
            for number, (written, layer) in enumerate(LAYERS):
                x = written(x, *map(tf.constant, constants(number)), layer)
                outputs.append(x)
            return [outputs[0], tf.concat([outputs[1], outputs[1] + outputs[2]], -1)]

        # Of a module, a function that stands for an operator stays one.
        module = tf.Module()
        module.network = network
        functions = [network.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
        converter.allow_custom_ops = True
        return bytes(converter.convert())


def run(module: tvm.IRModule, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of all layers, in their order."""
    calls = lower_to_calls(HOST)(lower_to_loops(HOST)(module))
    executable = tvm.compile(calls, tvm.target.Target(HOST.target), relax_pipeline=None)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    outputs = [y.numpy() for y in machine["main"](tvm.runtime.tensor(x))]
    first, others = sorted(outputs, key=lambda y: int(y.shape[-1]))
    return [first, *np.split(others, 2, axis=-1)]


def test_modules_compute_each_as_one_layer(exported: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(exported)
    module = import_model(path)
    reports: list[FunctionReport] = []
    own = schedule_convolutions(HOST, algorithms=["sparse_winograd"], report=reports.append)
    scheduled = own(module)
    layers = reports[0].selection.layers
    assert [selected.layer.op for selected in layers] == ["winograd conv"] * 3
    chosen = [selected.kernels[0].plan.algorithm for selected in layers]
    assert chosen == ["sparse_winograd"] * 3
    x = np.random.default_rng(9).standard_normal(INPUT, np.float32)
    for found in (run(module, x), run(scheduled, x)):
        image = x
        for number, ((_, layer), y) in enumerate(zip(LAYERS, found, strict=True)):
            expected, bound = winograd_conv2d(image, *constants(number), layer)
            expected += image if number == 2 else 0
            assert (abs(y - expected) <= bound + 2e-7 * abs(y)).all()
            image = y


def test_damaged_ones_are_one_line(exported: bytes, tmp_path: Path) -> None:
    """A bias of other channels, and options of no form."""
    path = tmp_path / "model.tflite"
    for change, reason in ((_other_bias, "a bias of"), (_other_options, "malformed node")):
        model = schema.ModelT.InitFromPackedBuf(exported, 0)
        codes = [entry.customCode for entry in model.operatorCodes]
        (node,) = (n for n in model.subgraphs[0].operators if codes[n.opcodeIndex])
        change(model, node)
        path.write_bytes(packed(model))
        with pytest.raises(LeanconvError, match=rf"leanconv.winograd_conv2d\): {reason}"):
            import_model(path)


def _other_bias(model: Any, node: Any) -> None:
    place = next(
        index
        for index, tensor in enumerate(model.subgraphs[0].tensors)
        if list(tensor.shape) == [FILTERS[0]] and model.buffers[tensor.buffer].data is not None
    )
    node.inputs = [*node.inputs[:2], place]


def _other_options(model: Any, node: Any) -> None:
    node.customOptions = [0, 0, 0]
