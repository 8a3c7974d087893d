"""One model in TFLite's runtimes, with a leanconv delegate, and in others.

All start from the same .tflite file. ncnn, MNN and ONNX Runtime, which come with
``pip install 'leanconv[peers]'``, get it through ONNX (models/onnx_export.py; for ncnn and MNN,
further through their own converters); oneDNN, in torch, computes single convolutions. The threads
of ncnn and ONNX Runtime may spin between two layers, but not on when a run has ended, as both would
by default for many milliseconds: that takes a core from whoever is timed next.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError, complaint, reason
from scripts.benchmarks.harness.exact import single_convolution
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.models import onnx_export
from tvmc.running.interpreter import Arrays, Session, runtime

#: Polls of ncnn's threads before they sleep, some tenths of a millisecond. OpenMP reads it when it
#: is loaded, which TVM may be the cause of.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
#: TensorFlow tells of itself on standard error otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: leanconv again, with tuning records.
TUNED = f"{LEANCONV}, tuned"
XNNPACK, BUILT_IN = "LiteRT + XNNPACK", "LiteRT built-in"
NCNN, ONNX_RUNTIME, MNN = "ncnn", "ONNX Runtime", "MNN"
#: For single convolutions.
ONE_DNN, TENSORFLOW = "oneDNN", "TensorFlow"
#: Python packages that a runtime needs.
NEEDED = {
    NCNN: ("ncnn", "onnx", "pnnx"),
    ONNX_RUNTIME: ("onnxruntime", "onnx"),
    MNN: ("MNN", "onnx"),
    ONE_DNN: ("torch",),
    TENSORFLOW: ("tensorflow",),
}
NOT_INSTALLED = "not installed"
_PACKAGES = {NCNN: "ncnn", MNN: "MNN", ONNX_RUNTIME: "onnxruntime", TENSORFLOW: "tensorflow"}


@dataclass(frozen=True)
class Runner:
    """A model that is ready to run; ``session`` where TFLite runs it."""

    set_inputs: Callable[[Arrays], object]  # NHWC
    invoke: Callable[[], object]
    outputs: Callable[[], Arrays]  # of TFLite's shapes, or flat
    session: Session | None = None


def _litert(graph: Path, threads: int, _folder: Path, **arguments: Any) -> Runner:
    session = Session(graph, runtime("litert"), threads=threads, **arguments)
    return Runner(session.set_inputs, session.invoke, session.outputs, session)


def _built_in(graph: Path, threads: int, folder: Path) -> Runner:
    return _litert(graph, threads, folder, xnnpack=False)


def _leanconv(graph: Path, threads: int, folder: Path) -> Runner:
    return _litert(graph, threads, folder, delegate=library_path(folder))


def _tuned(graph: Path, threads: int, folder: Path) -> Runner:
    return _litert(graph, threads, folder, delegate=library_path(folder, TUNED))


def _onnx_runtime(_graph: Path, threads: int, folder: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        str(_onnx_path(folder)), options, providers=["CPUExecutionProvider"]
    )
    (x,), (y,) = session.get_inputs(), session.get_outputs()
    image, result = np.zeros(x.shape, np.float32), np.zeros(y.shape, np.float32)
    binding = session.io_binding()
    binding.bind_input(x.name, "cpu", 0, np.float32, image.shape, image.ctypes.data)
    binding.bind_output(y.name, "cpu", 0, np.float32, result.shape, result.ctypes.data)

    def set_inputs(values: Arrays) -> None:
        image[:] = values[0].transpose(0, 3, 1, 2)

    def outputs() -> Arrays:
        return [result.transpose(0, 2, 3, 1) if result.ndim == 4 else result.copy()]

    # The binding holds bare addresses; `image` and `result` live as long as these functions.
    return Runner(set_inputs, lambda: session.run_with_iobinding(binding), outputs)


def _ncnn(_graph: Path, threads: int, folder: Path) -> Runner:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    files = _ncnn_paths(folder)
    if net.load_param(str(files[0])) or net.load_model(str(files[1])):
        raise LeanconvError("ncnn cannot load what pnnx wrote")
    planes = np.zeros(0, np.float32)
    image = result = None

    def set_inputs(values: Arrays) -> None:
        nonlocal planes, image
        planes = np.ascontiguousarray(values[0][0].transpose(2, 0, 1))
        image = ncnn.Mat(planes)  # holds a bare address

    def invoke() -> None:
        nonlocal result
        with net.create_extractor() as extractor:
            extractor.input("in0", image)
            failed, result = extractor.extract("out0")
        if failed:
            raise LeanconvError("ncnn cannot run what pnnx wrote")

    def outputs() -> Arrays:
        found = np.array(result)
        return [found.transpose(1, 2, 0) if found.ndim == 3 else found]

    return Runner(set_inputs, invoke, outputs)


def _mnn(_graph: Path, threads: int, folder: Path) -> Runner:
    import MNN as mnn

    interpreter = mnn.Interpreter(str(_mnn_path(folder)))
    session = interpreter.createSession(
        {"backend": "CPU", "numThread": threads, "precision": "high"}
    )
    x, y = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
    kind, order = mnn.Halide_Type_Float, mnn.Tensor_DimensionType_Caffe
    result = mnn.Tensor(y.getShape(), kind, np.zeros(y.getShape(), np.float32), order)

    def set_inputs(values: Arrays) -> None:
        planes = np.ascontiguousarray(values[0].transpose(0, 3, 1, 2))
        x.copyFrom(mnn.Tensor(planes.shape, kind, planes, order))

    def outputs() -> Arrays:
        y.copyToHostTensor(result)
        found = np.array(result.getData(), np.float32).reshape(y.getShape())
        return [found.transpose(0, 2, 3, 1) if found.ndim == 4 else found]

    return Runner(set_inputs, lambda: interpreter.runSession(session), outputs)


def _one_dnn(graph: Path, threads: int, _folder: Path) -> Runner:
    """A single convolution, channels last, its weights reordered beforehand."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    workload, weights, bias = single_convolution(graph)
    w = workload
    stride = [w.stride_height, w.stride_width]
    padding = [w.pad_top, w.pad_left]
    # oneDNN's binding pads both sides alike.
    uneven = (w.pad_bottom - w.pad_top, w.pad_right - w.pad_left) != (0, 0)
    around = (w.pad_left, w.pad_right, w.pad_top, w.pad_bottom) if uneven else (0, 0, 0, 0)
    padding = [0, 0] if uneven else padding
    last = {"memory_format": torch.channels_last}
    image = torch.empty(0)
    packed = result = None

    def set_inputs(values: Arrays) -> None:
        nonlocal image, packed
        planes = torch.from_numpy(values[0]).permute(0, 3, 1, 2)
        image = torch.nn.functional.pad(planes, around).contiguous(**last)
        kernel = torch.from_numpy(weights.copy()).permute(0, 3, 1, 2).contiguous(**last)
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            kernel, padding, stride, [1, 1], 1, list(image.shape)
        )

    offsets = torch.from_numpy(bias.copy())
    activation = {"relu": "relu", "none": "none"}[workload.activation]

    def invoke() -> None:
        nonlocal result
        result = torch.ops.mkldnn._convolution_pointwise(
            image, packed, offsets, padding, stride, [1, 1], 1, activation, [], ""
        )

    def outputs() -> Arrays:
        assert result is not None, "it has run"
        return [result.permute(0, 2, 3, 1).contiguous().numpy()]

    return Runner(set_inputs, invoke, outputs)


def _tensorflow(graph: Path, _threads: int, _folder: Path) -> Runner:
    """A single convolution, as TensorFlow computes it at once; threads are its own choice."""
    import tensorflow

    workload, weights, bias = single_convolution(graph)
    w = workload
    around = [(0, 0), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0)]
    kernel = tensorflow.constant(weights.transpose(1, 2, 3, 0))
    image = result = None

    def set_inputs(values: Arrays) -> None:
        nonlocal image
        image = tensorflow.constant(values[0])

    def invoke() -> None:
        nonlocal result
        strides = (w.stride_height, w.stride_width)
        sums = tensorflow.nn.conv2d(image, kernel, strides, around)
        result = tensorflow.nn.relu(tensorflow.nn.bias_add(sums, bias))

    def outputs() -> Arrays:
        assert result is not None, "it has run"
        return [result.numpy()]

    return Runner(set_inputs, invoke, outputs)


#: How each runtime opens (a .tflite file, with so many threads, what is prepared in this folder).
RUNNERS: dict[str, Callable[[Path, int, Path], Runner]] = {
    XNNPACK: _litert,
    BUILT_IN: _built_in,
    LEANCONV: _leanconv,
    TUNED: _tuned,
    NCNN: _ncnn,
    ONNX_RUNTIME: _onnx_runtime,
    MNN: _mnn,
    ONE_DNN: _one_dnn,
    TENSORFLOW: _tensorflow,
}


def import_package(kind: str) -> None:
    """Import what a runtime needs before it opens a model: its memory is of no model."""
    importlib.import_module(_PACKAGES.get(kind, "ai_edge_litert.interpreter"))


def open_runner(kind: str, graph: Path, threads: int, folder: Path) -> Runner:
    """One of :data:`RUNNERS`, or the delegate with the algorithm of that name alone."""
    if kind in RUNNERS:
        return RUNNERS[kind](graph, threads, folder)
    options = {"algorithm": kind}
    runner = _litert(
        graph, threads, folder, delegate=library_path(folder), delegate_options=options
    )
    assert runner.session is not None, "it is LiteRT's"
    report = runner.session.report()
    if report and [layer["algorithm"] for layer in report["layers"]] != [kind]:
        raise LeanconvError(f"the delegate does not run {kind} on {graph.stem}")
    return runner


# What is prepared of a network in a folder of its own


def library_path(folder: Path, kind: str = LEANCONV) -> Path:
    """Where the delegate is: for either kind a name of its own, or the other would be loaded."""
    return folder / ("tuned.so" if kind == TUNED else "network.so")


def inputs_path(folder: Path) -> Path:
    """Inputs, NHWC, for processes that have none yet."""
    return folder / "inputs.npz"


def _onnx_path(folder: Path) -> Path:
    return folder / "network.onnx"


def _ncnn_paths(folder: Path) -> tuple[Path, Path]:
    return folder / "network.ncnn.param", folder / "network.ncnn.bin"


def _mnn_path(folder: Path) -> Path:
    return folder / "network.mnn"


def prepare(kind: str, graph: Path, folder: Path) -> None:
    """Convert ``graph`` for a runtime that does not read .tflite.

    Raises
    ------
    LeanconvError
        If the runtime or its converter is not installed, or the model cannot be converted.
    """
    needed = NEEDED.get(kind, ())
    if any(importlib.util.find_spec(module) is None for module in needed):
        raise LeanconvError(NOT_INSTALLED)
    if "onnx" in needed and not _onnx_path(folder).exists():
        onnx_export.export(graph, _onnx_path(folder))
    if kind == NCNN:
        _convert_to_ncnn(folder)
    if kind == MNN:
        _convert_to_mnn(folder)


def prepare_all(kinds: Iterable[str], graph: Path, folder: Path) -> dict[str, str]:
    """Prepare for all of ``kinds``; returns why some cannot run the model."""
    reasons = {}
    for kind in kinds:
        try:
            prepare(kind, graph, folder)
        except Exception as error:  # each library has its own
            reasons[kind] = reason(error)
    return reasons


def _convert_to_ncnn(folder: Path) -> None:
    """Run pnnx, and keep of what it writes what ncnn reads."""
    spec = importlib.util.find_spec("pnnx")
    assert spec is not None and spec.origin is not None
    # The program itself: its Python front end would import torch.
    command = [str(Path(spec.origin).with_name("pnnx")), _onnx_path(folder).name, "fp16=0"]
    before = set(folder.iterdir())
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode or not all(path.exists() for path in _ncnn_paths(folder)):
        raise LeanconvError(f"pnnx cannot convert it: {complaint(done.stderr)}")
    for path in set(folder.iterdir()) - before - set(_ncnn_paths(folder)):
        path.unlink()


def _convert_to_mnn(folder: Path) -> None:
    """Run MNN's converter.

    Its library: the program around it installs a package that reports to its maker what it does.
    """
    program = "import _tools, sys; _tools.mnnconvert(sys.argv)"
    files = "--modelFile", str(_onnx_path(folder)), "--MNNModel", str(_mnn_path(folder))
    command = [sys.executable, "-c", program, "-f", "ONNX", *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode or not _mnn_path(folder).exists():
        raise LeanconvError(f"MNN cannot convert it: {complaint(done.stderr)}")
