"""A model before it is compiled: its inputs and outputs, and which layers leanconv takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedules.errors import LeanconvError

if TYPE_CHECKING:
    from tflite_delegate.read.graph import Graph
    from tflite_delegate.read.model import Layer
    from tvmc.compiling.package import TensorInfo


@dataclass(frozen=True)
class Model:
    """What :func:`load` found; :mod:`tvmc`'s functions take it in place of a path.

    Parameters
    ----------
    path : Path
        The .tflite file.
    inputs, outputs : tuple of TensorInfo
        Those of the main graph, in its order, in the shapes that the file has.
    layers : tuple of Layer
        One for every convolution, depthwise and fully-connected node; ``reason`` says why leanconv
        leaves a layer alone.
    input_shapes : mapping of str to tuple of int
        Other shapes for inputs, by name, as they were given.
    signature : str, optional
        The one whose inputs and outputs these are.
    """

    path: Path
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[Layer, ...]
    input_shapes: Mapping[str, tuple[int, ...]]
    signature: str | None = None


def load(
    path: str | Path,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    signature: str | None = None,
) -> Model:
    """Read a .tflite model.

    Parameters
    ----------
    path : path
        The .tflite file.
    input_shapes : mapping of str to tuple of int, optional
        Shapes for some of its inputs, kept for whoever compiles it.
    signature : str, optional
        The name of one of the model's signatures, whose graph is then meant, with the names that
        it has for inputs and outputs; by default the main graph.

    Raises
    ------
    LeanconvError
        If the file is not a whole .tflite model, or ``input_shapes`` or ``signature`` names nothing
        of it.
    """
    from tflite_delegate.read import model as tflite_model  # imports numpy

    path = Path(path)
    layers = tflite_model.read(path).layers
    inputs, outputs = _interface(path, signature)
    names = [tensor.name for tensor in inputs]
    for name in input_shapes or {}:
        if name not in names:
            raise LeanconvError(f"{path} has no input {name!r}: {', '.join(names)}")
    return Model(path, inputs, outputs, layers, dict(input_shapes or {}), signature)


def _interface(
    path: Path, signature: str | None
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of a graph of a file that was read before."""
    import tflite

    from tflite_delegate.read.graph import Graph
    from tflite_delegate.read.model import opened
    from tflite_delegate.read.signatures import named_signature

    with opened(path) as content:
        model = tflite.Model.GetRootAs(content, 0)
        chosen = named_signature(path, model, signature)
        graph = Graph(model, content, chosen.graph)
        source = graph.graph
        return (
            _tensors(graph, "input", source.InputsLength(), source.Inputs, chosen.inputs),
            _tensors(graph, "output", source.OutputsLength(), source.Outputs, chosen.outputs),
        )


def _tensors(
    graph: Graph, kind: str, count: int, index_of: Callable[[int], int], known: Mapping[int, str]
) -> tuple[TensorInfo, ...]:
    from tflite_delegate.read.names import unique_names
    from tvmc.compiling.package import TensorInfo

    indices = [index for index in map(index_of, range(count)) if index >= 0]  # negative: left out
    own = [known.get(index) or graph.graph.Tensors(index).Name() for index in indices]
    names = unique_names(own, kind)
    tensors = map(graph.tensor, indices)
    return tuple(
        TensorInfo(name, tensor.shape, tensor.type)
        for name, tensor in zip(names, tensors, strict=True)
    )
