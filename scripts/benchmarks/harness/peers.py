"""Other libraries' convolutions, to be timed beside ours: oneDNN, ONNX Runtime, ncnn.

Each computes the same layer from the same weights, in the layout that it prefers, with weights
prepared before the clock starts. They come with ``pip install 'leanconv[peers]'``; one that is
not installed is left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.models.make import ConvLayer

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """A layer with its data: image NHWC, weights OHWI, bias, and the output NHWC to expect."""

    layer: ConvLayer
    image: Array
    weights: Array
    bias: Array
    output: Array

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after each axis under SAME (all layers are square)."""
        layer = self.layer
        out = -(-layer.in_height // layer.stride)
        total = max((out - 1) * layer.stride + layer.kernel - layer.in_height, 0)
        return total // 2, total - total // 2


@dataclass(frozen=True)
class Peer:
    """One library's layer, ready to run."""

    invoke: Callable[[], Any]
    output: Callable[[], Array]  # NHWC


def one_dnn(problem: Problem, threads: int) -> Peer:
    """oneDNN through torch, channels last, weights reordered beforehand."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    before, after = problem.padding
    image = torch.from_numpy(problem.image).permute(0, 3, 1, 2)
    padding = [before, before]
    if before != after:  # oneDNN's binding pads both sides alike
        image = torch.nn.functional.pad(image, (before, after, before, after))
        image = image.contiguous(memory_format=torch.channels_last)
        padding = [0, 0]
    stride = [problem.layer.stride] * 2
    weights = torch.from_numpy(problem.weights).permute(0, 3, 1, 2)
    weights = weights.contiguous(memory_format=torch.channels_last)
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weights, padding, stride, [1, 1], 1, list(image.shape)
    )
    bias = torch.from_numpy(problem.bias)

    def invoke() -> Any:
        return torch.ops.mkldnn._convolution_pointwise(
            image, packed, bias, padding, stride, [1, 1], 1, "relu", [], ""
        )

    def output() -> Array:
        result: Array = invoke().permute(0, 2, 3, 1).contiguous().numpy()
        return result

    return Peer(invoke, output)


def onnx_runtime(problem: Problem, threads: int) -> Peer:
    """ONNX Runtime's CPU provider; NCHW, as it takes nothing else."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    layer, (before, after) = problem.layer, problem.padding
    image = np.ascontiguousarray(problem.image.transpose(0, 3, 1, 2))
    result = np.empty_like(problem.output.transpose(0, 3, 1, 2), order="C")
    weights = np.ascontiguousarray(problem.weights.transpose(0, 3, 1, 2))
    nodes = [
        helper.make_node(
            "Conv",
            ["x", "w", "b"],
            ["sum"],
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[before, before, after, after],
        ),
        helper.make_node("Relu", ["sum"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result.shape)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(problem.bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, image.shape, image.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, result.shape, result.ctypes.data)

    # The binding holds bare addresses; the default value keeps what they point to alive.
    def invoke(_alive: object = (image, result)) -> None:
        session.run_with_iobinding(binding)

    def output() -> Array:
        invoke()
        return result.transpose(0, 2, 3, 1)

    return Peer(invoke, output)


def ncnn(problem: Problem, threads: int) -> Peer:
    """ncnn in float32 with its own choice of algorithm (Winograd for 3x3)."""
    import ncnn as library

    layer, (before, after) = problem.layer, problem.padding
    net = library.Net()
    net.opt.num_threads = threads
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    # Parameters: 0 channels out, 1 kernel, 3 stride, 4 15 14 16 padding, 5 has bias, 6 weights,
    # 9 ReLU.
    numbers = {
        0: layer.out_channels,
        1: layer.kernel,
        3: layer.stride,
        4: before,
        15: after,
        14: before,
        16: after,
        5: 1,
        6: problem.weights.size,
        9: 1,
    }
    parameters = " ".join(f"{key}={value}" for key, value in numbers.items())
    text = (
        "7767517\n2 2\n"
        f"Input in0 0 1 in0 0={layer.in_width} 1={layer.in_height} 2={layer.in_channels}\n"
        f"Convolution conv 1 1 in0 out0 {parameters}\n"
    )
    data = (
        bytes(4)  # the weights are float32
        + np.ascontiguousarray(problem.weights.transpose(0, 3, 1, 2)).tobytes()
        + problem.bias.tobytes()
    )
    with tempfile.TemporaryDirectory() as folder:
        param, model = Path(folder, "layer.param"), Path(folder, "layer.bin")
        param.write_text(text)
        model.write_bytes(data)
        net.load_param(str(param))
        net.load_model(str(model))
    planes = np.ascontiguousarray(problem.image[0].transpose(2, 0, 1))
    image = library.Mat(planes)

    def run(_alive: object = planes) -> Any:  # the Mat holds a bare address
        with net.create_extractor() as extractor:
            extractor.input("in0", image)
            return extractor.extract("out0")[1]

    def output() -> Array:
        return np.array(run())[None].transpose(0, 2, 3, 1).copy()

    return Peer(run, output)


#: By the name in tables.
PEERS: dict[str, Callable[[Problem, int], Peer]] = {
    "oneDNN": one_dnn,
    "ONNX Runtime": onnx_runtime,
    "ncnn": ncnn,
}
