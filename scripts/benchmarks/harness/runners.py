"""One network in TFLite's runtimes, with a leanconv delegate, in ncnn and in ONNX Runtime.

All start from the same .tflite file. ncnn and ONNX Runtime, which come with
``pip install 'leanconv[peers]'``, get it through ONNX (models/onnx_export.py; for ncnn, further
through its own converter pnnx). Their threads may spin between two layers, but not on when a run
has ended, as both would by default for many milliseconds: that takes a core from whoever is timed
next.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.models import onnx_export
from tvmc.running.interpreter import Arrays, Session, runtime

#: Polls of ncnn's threads before they sleep, some tenths of a millisecond. OpenMP reads it when it
#: is loaded, which TVM may be the cause of.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

#: leanconv again, with tuning records.
TUNED = f"{LEANCONV}, tuned"
XNNPACK, BUILT_IN = "LiteRT + XNNPACK", "LiteRT built-in"
NCNN, ONNX_RUNTIME = "ncnn", "ONNX Runtime"


@dataclass(frozen=True)
class Runner:
    """A network that is ready to run; ``session`` where TFLite runs it."""

    set_input: Callable[[Any], object]  # NHWC
    invoke: Callable[[], object]
    outputs: Callable[[], Arrays]  # of TFLite's shapes, or flat
    session: Session | None = None


def _litert(graph: Path, threads: int, _folder: Path, **arguments: Any) -> Runner:
    session = Session(graph, runtime("litert"), threads=threads, **arguments)

    def set_input(image: Any) -> None:
        session.set_inputs([image])

    return Runner(set_input, session.invoke, session.outputs, session)


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

    def set_input(values: Any) -> None:
        image[:] = values.transpose(0, 3, 1, 2)

    # The binding holds bare addresses; `image` and `result` live as long as these functions.
    return Runner(set_input, lambda: session.run_with_iobinding(binding), lambda: [result.copy()])


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

    def set_input(values: Any) -> None:
        nonlocal planes, image
        planes = np.ascontiguousarray(values[0].transpose(2, 0, 1))
        image = ncnn.Mat(planes)  # holds a bare address

    def invoke() -> None:
        nonlocal result
        with net.create_extractor() as extractor:
            extractor.input("in0", image)
            failed, result = extractor.extract("out0")
        if failed:
            raise LeanconvError("ncnn cannot run what pnnx wrote")

    return Runner(set_input, invoke, lambda: [np.array(result)])


#: How each runtime opens (a .tflite file, with so many threads, what is prepared in this folder).
RUNNERS: dict[str, Callable[[Path, int, Path], Runner]] = {
    XNNPACK: _litert,
    BUILT_IN: _built_in,
    LEANCONV: _leanconv,
    TUNED: _tuned,
    NCNN: _ncnn,
    ONNX_RUNTIME: _onnx_runtime,
}


# What is prepared of a network in a folder of its own


def library_path(folder: Path, kind: str = LEANCONV) -> Path:
    """Where the delegate is: for either kind a name of its own, or the other would be loaded."""
    return folder / ("tuned.so" if kind == TUNED else "network.so")


def image_path(folder: Path) -> Path:
    """An input, NHWC, for processes that have none yet."""
    return folder / "image.npy"


def _onnx_path(folder: Path) -> Path:
    return folder / "network.onnx"


def _ncnn_paths(folder: Path) -> tuple[Path, Path]:
    return folder / "network.ncnn.param", folder / "network.ncnn.bin"


def prepare(name: str, graph: Path, folder: Path) -> None:
    """Convert ``graph`` for a runtime that does not read .tflite.

    Raises
    ------
    ImportError
        If the runtime or its converter is not installed.
    LeanconvError
        If the network cannot be converted.
    """
    needed = {NCNN: ("ncnn", "onnx", "pnnx"), ONNX_RUNTIME: ("onnxruntime", "onnx")}.get(name, ())
    for module in needed:
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"{module} is not installed")
    if needed and not _onnx_path(folder).exists():
        onnx_export.export(graph, _onnx_path(folder))
    if name == NCNN:
        _convert_to_ncnn(folder)


def _convert_to_ncnn(folder: Path) -> None:
    """Run pnnx, and keep of what it writes what ncnn reads."""
    spec = importlib.util.find_spec("pnnx")
    assert spec is not None and spec.origin is not None
    # The program itself: its Python front end would import torch.
    command = [str(Path(spec.origin).with_name("pnnx")), _onnx_path(folder).name, "fp16=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode or not all(path.exists() for path in _ncnn_paths(folder)):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LeanconvError(f"pnnx cannot convert it: {last}")
    kept = {*_ncnn_paths(folder), _onnx_path(folder), image_path(folder)}
    kept |= {library_path(folder, kind) for kind in (LEANCONV, TUNED)}
    for path in set(folder.iterdir()) - kept:
        path.unlink()
