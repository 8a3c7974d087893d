"""What comparing a compiled model with LiteRT's built-in kernels finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError
from schedules.progress import Progress
from tvmc.comparing.delegate_tensors import DelegateTensors
from tvmc.comparing.differences import Row, compare
from tvmc.comparing.module_tensors import ModuleTensors
from tvmc.comparing.tflite_graph import Array, TfliteGraph
from tvmc.comparing.typical_inputs import typical_inputs
from tvmc.compiling.package import Metadata, TensorInfo
from tvmc.jobs import Job
from tvmc.running.tensors import input_values
from tvmc.running.vm_process import Request, run_in_process


@dataclass(frozen=True)
class Differences:
    """What came of a comparison.

    Parameters
    ----------
    rows : tuple of Row
        Every tensor that can be seen, in graph order.
    first : Row or None
        The first that differs by more than its bound.
    """

    rows: tuple[Row, ...]
    first: Row | None

    def __str__(self) -> str:
        """One line."""
        if self.first is None:
            share = max((row.share for row in self.rows), default=0.0)
            return f"{len(self.rows)} tensors compared, at most {share:.2g} of the bound apart"
        row = self.first
        return (
            f"tensor {row.name}, which {row.computed_by} computed for {row.operator}, is "
            f"{row.difference:.3g} from LiteRT's, over the bound of {row.bound:.3g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tensors": [row.to_dict() for row in self.rows],
            "first": self.first.to_dict() if self.first else None,
        }


def diff_module(
    model: Path,
    library: Path,
    metadata: Metadata,
    *,
    inputs: Mapping[str, Array] | None = None,
    seed: int = 0,
    progress: Progress,
) -> Differences:
    """Compare a module for TVM's runtime, which this machine can run.

    Raises
    ------
    LeanconvError
        If ``model`` is not the module's, an input is wrong, or either cannot be run.
    """
    graph = TfliteGraph(model, metadata.signature)
    _check_interface(graph, model, metadata)
    values = _values(graph, metadata.inputs, inputs or {}, seed)
    job = Job(values, 1, 1, False, None, False, keep_results=True)
    progress(0, len(graph.nodes), "running the module")
    _, outcome = run_in_process(Request(library, None, job, metadata.target, None))
    by_tensor = dict(zip((t for t in graph.inputs if t >= 0), values, strict=True))
    tensors = ModuleTensors(graph, outcome.outputs, outcome.results)
    rows = compare(graph, by_tensor, tensors, progress)
    return _differences(graph, rows, tensors.first_difference(rows))


def diff_delegate(
    model: Path,
    delegate: Path,
    *,
    inputs: Mapping[str, Array] | None = None,
    options: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: Progress,
) -> Differences:
    """The same for a delegate in LiteRT."""
    from tvmc.running.interpreter import Session, runtime, tensor_info

    session = Session(model, runtime("litert"), xnnpack=False)
    graph = TfliteGraph(model)
    infos = [tensor_info(details) for details in session.inputs()]
    values = dict(zip(graph.inputs, _values(graph, infos, inputs or {}, seed), strict=True))
    tensors = DelegateTensors(graph, model, delegate, values, options or {})
    rows = compare(graph, values, tensors, progress)
    return _differences(graph, rows, next((row for row in rows if not row.within), None))


def _check_interface(graph: TfliteGraph, model: Path, metadata: Metadata) -> None:
    """Find out whether a module may be of this model; sizes that it leaves open can be others."""
    are_open = any(len(graph.open_axes(tensor)) > 1 for tensor in graph.inputs if tensor >= 0)
    for tensors, infos in (graph.inputs, metadata.inputs), (graph.outputs, metadata.outputs):
        given = [tensor for tensor in tensors if tensor >= 0]
        fits = len(given) == len(infos) and all(
            _fits(graph, tensor, info, are_open and tensors is graph.outputs)
            for tensor, info in zip(given, infos, strict=True)
        )
        if not fits:
            raise LeanconvError(
                f"the module was not compiled from {model}: inputs or outputs differ"
            )


def _fits(graph: TfliteGraph, tensor: int, info: TensorInfo, any_size: bool) -> bool:
    own, free, shape = graph.shape(tensor), graph.open_axes(tensor), info.shape
    if graph.dtype(tensor) != info.dtype:
        return False
    if not own and tensor not in graph.inputs:
        return True  # nothing at all is known of what the model computes
    return len(own) == len(shape) and all(
        any_size or axis in free or size == shape[axis] for axis, size in enumerate(own)
    )


def _values(
    graph: TfliteGraph, infos: Sequence[TensorInfo], given: Mapping[str, Array], seed: int
) -> list[Array]:
    """Given values, and typical ones for the other inputs."""
    typical = typical_inputs(graph, infos, seed)
    if not given:
        return typical
    if len({info.name for info in infos}) < len(infos):
        raise LeanconvError("inputs of this model cannot be given: their names are not unique")
    pairs = zip(infos, input_values(infos, given, "zeros", seed), typical, strict=True)
    return [value if info.name in given else other for info, value, other in pairs]


def _differences(graph: TfliteGraph, rows: Sequence[Row], first: Row | None) -> Differences:
    computed = [tensor for node in graph.nodes for tensor in node.outputs]
    by_tensor = {row.tensor: row for row in [*rows, *([first] if first else [])]}
    return Differences(tuple(by_tensor[t] for t in computed if t in by_tensor), first)
