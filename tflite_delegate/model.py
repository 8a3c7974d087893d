"""Find the layers of a .tflite model, and say for each whether leanconv can take it.

Only the structure of the model is read, never its weights, so a model of any size costs little.
Everything in a file is taken for possibly damaged.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tflite

from schedules.errors import LeanconvError
from tflite_delegate.chains import Chain, find_chains
from tflite_delegate.graph import DAMAGE, Graph, checked_length
from tflite_delegate.layers import OPERATORS, Layer, read_layer
from tflite_delegate.units import merge_neighbours

__all__ = ["Layer", "Model", "Step", "read"]

_IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class Step:
    """A node: its operator as TFLite numbers it, and the tensors that it reads and writes."""

    index: int
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """The layers of a .tflite model.

    Parameters
    ----------
    path : Path
        The file.
    layers : tuple of Layer
        One for every convolution, depthwise and fully-connected node of the main graph.
    subgraphs : int
        Graphs in the model; all but the first (bodies of loops and conditions) are not read.
    chains : tuple of tuple of int
        Positions of layers that one kernel could compute (see :mod:`tflite_delegate.chains`).
    steps : tuple of Step
        Every node of the main graph in the order of execution.
    sizes : mapping of int to int
        Bytes of each tensor that is computed; for a batch of one where it is not known.
    """

    path: Path
    layers: tuple[Layer, ...]
    subgraphs: int
    chains: tuple[Chain, ...]
    steps: tuple[Step, ...]
    sizes: Mapping[int, int]


def read(path: str | Path) -> Model:
    """Read the layers of the .tflite model at ``path``.

    Raises
    ------
    LeanconvError
        If the file cannot be read or is not a whole .tflite model.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            if file.tell() == 0:
                raise LeanconvError(f"{path} is empty")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise LeanconvError(f"model {path} does not exist") from None
    except IsADirectoryError:
        raise LeanconvError(f"{path} is a directory, not a .tflite model") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise LeanconvError(f"model {path} cannot be read: {error}") from None
    with content:
        if content[4:8] != _IDENTIFIER:
            raise LeanconvError(f"{path} is not a .tflite model (no {_IDENTIFIER.decode()} mark)")
        try:
            return _read(path, content)
        except DAMAGE as error:
            detail = " ".join(str(error).split())
            raise LeanconvError(f"{path} is damaged: {detail or type(error).__name__}") from None


def _read(path: Path, content: mmap.mmap) -> Model:
    model = tflite.Model.GetRootAs(content, 0)
    subgraphs = checked_length(model.SubgraphsLength(), content, "subgraphs")
    if subgraphs == 0:
        raise LeanconvError(f"{path} is damaged: it has no graph")
    graph = Graph(model, content)
    layers = tuple(
        merge_neighbours(graph, read_layer(graph, node))
        for node in graph.nodes
        if node.code in OPERATORS
    )
    steps = tuple(
        Step(
            node.index,
            node.code,
            tuple(tensor for tensor in node.inputs if tensor is not None),
            tuple(tensor for tensor in node.outputs if tensor is not None),
        )
        for node in graph.nodes
    )
    sizes = {tensor: graph.tensor(tensor).bytes for step in steps for tensor in step.outputs}
    return Model(path, layers, subgraphs, find_chains(graph, layers), steps, sizes)
