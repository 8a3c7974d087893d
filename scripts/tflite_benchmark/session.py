"""What benchmark_model runs: a model, or one signature of it, with inputs as the flags say."""

from __future__ import annotations

import argparse
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.errors import LeanconvError, one_line
from scripts.benchmarks.harness.inference import random_inputs
from tvmc.running.interpreter import Arrays, Runtime, Session


class SignatureSession(Session):
    """A session that runs the graph of one signature; ``None``: the only one, or the main graph.

    Raises
    ------
    LeanconvError
        If there is no such signature, or several and none is named.
    """

    def __init__(self, graph: Path, runtime: Runtime, key: str | None, **options: Any) -> None:
        super().__init__(graph, runtime, **options)
        self.signatures = tuple(self.interpreter.get_signature_list())
        self.signature = key or (self.signatures[0] if len(self.signatures) == 1 else None)
        self.subgraph = 0
        if self.signature is not None:
            self._choose(self.signature)
        elif self.signatures:
            keys = ", ".join(self.signatures)
            raise LeanconvError(f"name one of the signatures with --signature_to_run_for: {keys}")

    def _choose(self, key: str) -> None:
        if key not in self.signatures:
            keys = ", ".join(self.signatures) or "the model has none"
            raise LeanconvError(f"there is no signature {key!r}: {keys}")
        wrapper = self.interpreter._interpreter
        self.subgraph = wrapper.GetSubgraphIndexFromSignature(key)
        if self.subgraph:
            self._runner = self.interpreter.get_signature_runner(key)
            wrapper.AllocateTensors(self.subgraph)
            self._invoke = lambda: wrapper.Invoke(self.subgraph)

    def inputs(self) -> list[dict[str, Any]]:
        """Name, shape, dtype and index of every input tensor."""
        if not self.subgraph:
            return super().inputs()
        return list(self._runner.get_input_details().values())

    def set_inputs(self, values: Any) -> None:
        """Set every input tensor."""
        for details, value in zip(self.inputs(), values, strict=True):
            self.interpreter._interpreter.SetTensor(details["index"], value, self.subgraph)

    def resize(self, index: int, shape: tuple[int, ...]) -> None:
        """Give an input another shape; tensors have to be allocated again."""
        wrapper = self.interpreter._interpreter
        wrapper.ResizeInputTensor(index, np.array(shape, np.int32), False, self.subgraph)

    def allocate(self) -> None:
        """Allocate tensors, for shapes that are new."""
        try:
            self.interpreter._interpreter.AllocateTensors(self.subgraph)
        except RuntimeError as error:
            raise LeanconvError(f"these shapes do not fit: {one_line(error)}") from None

    def named_outputs(self) -> list[tuple[str, NDArray[Any]]]:
        """The outputs with the names of their tensors."""
        if not self.subgraph:
            details = self.interpreter.get_output_details()
        else:
            details = list(self._runner.get_output_details().values())
        wrapper = self.interpreter._interpreter
        return [(d["name"], wrapper.GetTensor(d["index"], self.subgraph)) for d in details]


def resize_inputs(session: SignatureSession, names: str, shapes: str) -> None:
    """``--input_layer`` and ``--input_layer_shape``: the inputs' shapes, in their order."""
    if not names and not shapes:
        return
    inputs = session.inputs()
    named = [name for name in names.split(",") if name]
    wanted = [shape for shape in shapes.split(":") if shape]
    if not len(named) == len(wanted) == len(inputs):
        raise LeanconvError(
            f"--input_layer and --input_layer_shape are not of the model's {len(inputs)} inputs"
        )
    for details, text in zip(inputs, wanted, strict=True):
        try:
            shape = tuple(int(size) for size in text.split(","))
        except ValueError:
            raise LeanconvError(f"--input_layer_shape: {text!r} is no shape") from None
        if len(shape) != len(details["shape"]) or min(shape, default=1) < 0:
            rank = len(details["shape"])
            raise LeanconvError(f"--input_layer_shape: {text!r} is not of {rank} dimensions")
        session.resize(details["index"], shape)
    session.allocate()


def read_inputs(session: Session, files: str, ranges: str = "") -> Arrays:
    """Random inputs, those in a range, and those of ``name:file,name:file`` from raw files.

    A colon inside a name is written twice, as for the C++ tool. ``ranges`` are
    ``name,low,high:…``, both ends included.

    Raises
    ------
    LeanconvError
        If a name or a file is unknown, or a file has not the size of its tensor.
    """
    values = random_inputs(session)
    positions = {details["name"]: i for i, details in enumerate(session.inputs())}

    def position(name: str) -> int:
        if name not in positions:
            raise LeanconvError(f"there is no input {name!r}: {', '.join(positions)}")
        return positions[name]

    for part in filter(None, ranges.split(":")):
        name, low, high = _range(part)
        tensor = values[position(name)]
        drawn = np.random.default_rng(0).integers(low, high, tensor.shape, endpoint=True)
        values[position(name)] = drawn.astype(tensor.dtype)
    for part in filter(None, files.split(",")):
        name, colon, file = part.replace("::", "\0").partition(":")
        name = name.replace("\0", ":")
        if not colon:
            raise LeanconvError(f"--input_layer_value_files: {part!r} is not NAME:FILE")
        tensor = values[position(name)]
        try:
            data = Path(file).read_bytes()
        except OSError as error:
            raise LeanconvError(f"cannot read {file}: {error.strerror}") from None
        if len(data) != tensor.nbytes:
            raise LeanconvError(f"{file} has {len(data)} bytes, input {name!r} has {tensor.nbytes}")
        values[position(name)] = np.frombuffer(data, tensor.dtype).reshape(tensor.shape)
    return values


def _range(part: str) -> tuple[str, int, int]:
    fields = part.rsplit(",", 2)
    try:
        name, low, high = fields[0], int(fields[1]), int(fields[2])
    except (IndexError, ValueError):
        raise LeanconvError(f"--input_layer_value_range: {part!r} is not NAME,LOW,HIGH") from None
    if low > high:
        raise LeanconvError(f"--input_layer_value_range: {part!r}: {low} is above {high}")
    return name, low, high


class PeakMemory:
    """The largest resident set of the process while the block runs, looked at now and then."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._interval = max(options.memory_footprint_check_interval_ms, 1) * 1e-3
        self._watches = options.report_peak_memory_footprint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mebibytes = 0.0

    def __enter__(self) -> PeakMemory:
        if self._watches:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._watches:
            self._stop.set()
            self._thread.join()
            self.mebibytes = max(self.mebibytes, resident()[0])

    def _watch(self) -> None:
        while True:
            self.mebibytes = max(self.mebibytes, resident()[0])
            if self._stop.wait(self._interval):
                return


def resident() -> tuple[float, float]:
    """MiB of the process in memory, and of these what is mapped from files or shared."""
    _, whole, shared = Path("/proc/self/statm").read_text().split()[:3]
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    return int(whole) * page, int(shared) * page
