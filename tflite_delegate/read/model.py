"""Find the layers of a .tflite model, and say for each whether leanconv can take it.

Only the structure of the model is read, never its weights, so a model of any size costs little.
Everything in a file is taken for possibly damaged.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tflite

from schedules.errors import LeanconvError
from schedules.layer import network
from schedules.layer.chains import find_chains
from schedules.layer.merge import merge_followers, merge_neighbours
from schedules.layer.network import Layer, Network, for_batch
from schedules.layer.pooled import pooled_layer
from tflite_delegate.read.composite import read_composite
from tflite_delegate.read.graph import DAMAGE, Graph, Node, checked_length, told_damage
from tflite_delegate.read.layers import layer_operator, read_layer
from tflite_delegate.read.memory import is_view, shared_inputs
from tflite_delegate.read.signatures import Signature, read_signatures

__all__ = ["Layer", "Model", "Step", "read"]

_IDENTIFIER = b"TFL3"
#: Metadata that lets a model be computed in float16.
_HALVES = re.compile(rb"(?:bf16)?fp16(?:bf16)?accfp16")


@dataclass(frozen=True)
class Step(network.Step):
    """A node.

    ``code`` is its operator as TFLite numbers it; ``types`` are those of what it reads and writes,
    but for constants of int32 such as shapes. ``constant_bytes`` are those of the constants of
    float32, and of what is made of others.
    """

    code: int
    types: frozenset[str]
    constant_bytes: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class Model(Network):
    """The layers of one graph of a .tflite model, and with the main graph all others.

    Parameters
    ----------
    path : Path
        The file.
    subgraph : int
        Which graph of the file it is; 0 is the main one.
    signatures : tuple of str
        Keys of the signatures that run the graph.
    others : tuple of Model
        Of the main graph: all further ones, such as bodies of loops and conditions.
    allows_float16 : bool
        Whether its metadata lets it be computed in float16, sums too.
    """

    steps: tuple[Step, ...]
    path: Path
    subgraph: int
    signatures: tuple[str, ...]
    others: tuple[Model, ...]
    allows_float16: bool = False

    def for_batch(self, images: int) -> Model:
        """The model for so many images.

        Raises
        ------
        LeanconvError
            If it is for several already.
        """
        for graph in self.graphs:
            for layer in graph.layers:
                if layer.workload is not None and layer.workload.batch > 1:
                    raise LeanconvError(
                        f"{self.name} is for a batch already: node {layer.index} computes "
                        f"{layer.workload.batch} images"
                    )
        others = tuple(for_batch(other, images) for other in self.others)
        return replace(for_batch(self, images), others=others)

    @property
    def graphs(self) -> tuple[Model, ...]:
        """This one, and the others."""
        return (self, *self.others)


def read(path: str | Path) -> Model:
    """Read the layers of the .tflite model at ``path``.

    Raises
    ------
    LeanconvError
        If the file cannot be read or is not a whole .tflite model.
    """
    path = Path(path)
    with opened(path) as content:
        if content[4:8] != _IDENTIFIER:
            raise LeanconvError(f"{path} is not a .tflite model (no {_IDENTIFIER.decode()} mark)")
        return _read(path, content)


@contextmanager
def opened(path: Path) -> Iterator[mmap.mmap]:
    """The content of a file; raises LeanconvError if there is none, or it turns out damaged."""
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
        try:
            yield content
        except DAMAGE as error:
            raise LeanconvError(f"{path} is damaged: {told_damage(error)}") from None


def _read(path: Path, content: mmap.mmap) -> Model:
    model = tflite.Model.GetRootAs(content, 0)
    subgraphs = checked_length(model.SubgraphsLength(), content, "subgraphs")
    if subgraphs == 0:
        raise LeanconvError(f"{path} is damaged: it has no graph")
    signatures = read_signatures(model)
    main, *others = (
        _read_graph(path, Graph(model, content, number), number, signatures)
        for number in range(subgraphs)
    )
    return replace(main, others=tuple(others), allows_float16=_allows_float16(model, content))


def _allows_float16(model: tflite.Model, content: mmap.mmap) -> bool:
    """As TFLite's ``reduced_precision_metadata.h`` has it: what may be multiplied, and summed."""
    entries = map(
        model.Metadata, range(checked_length(model.MetadataLength(), content, "metadata"))
    )
    found = [entry.Buffer() for entry in entries if entry.Name() == b"reduced_precision_support"]
    if not found or found[0] >= model.BuffersLength():
        return False
    data = model.Buffers(found[0]).DataAsNumpy()
    return isinstance(data, np.ndarray) and bool(_HALVES.fullmatch(data.tobytes()))


def _read_graph(path: Path, graph: Graph, number: int, signatures: Sequence[Signature]) -> Model:
    layers = _read_layers(graph)
    steps = tuple(
        Step(
            node.index,
            tuple(tensor for tensor in node.inputs if tensor is not None),
            tuple(tensor for tensor in node.outputs if tensor is not None),
            node.code,
            _types(graph, node),
            shared=shared_inputs(node),
            is_view=is_view(node),
            constant_bytes=_constant_bytes(graph, node),
        )
        for node in graph.nodes
    )
    inputs = tuple(sorted(graph.inputs))
    computed = [tensor for step in steps for tensor in step.outputs]
    return Model(
        name=path.name,
        layers=layers,
        chains=find_chains(graph, layers),
        steps=steps,
        inputs=inputs,
        outputs=tuple(sorted(graph.outputs)),
        sizes={tensor: _held_bytes(graph, tensor, layers) for tensor in (*inputs, *computed)},
        path=path,
        subgraph=number,
        signatures=tuple(s.name for s in signatures if s.graph == number),
        others=(),
        pooled={
            position: pooled
            for position, layer in enumerate(layers)
            if (pooled := pooled_layer(graph, layer)) is not None
        },
    )


def _read_layers(graph: Graph) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    parts: set[int] = set()  # nodes of composites
    for node in graph.nodes:
        if layer_operator(node) is not None and node.index not in parts:
            layer = merge_neighbours(graph, read_layer(graph, node))
            composite = read_composite(graph, layer)
            if composite is not None:
                layer = merge_followers(graph, composite)
                parts.update(layer.nodes)
            layers.append(layer)
    return tuple(layers)


def composites(graph: Graph) -> list[Layer]:
    """Layers of Winograd's domain that are written as built-in operators, each by itself."""
    depthwise = [n for n in graph.nodes if n.code == tflite.BuiltinOperator.DEPTHWISE_CONV_2D]
    layers = (merge_neighbours(graph, read_layer(graph, node)) for node in depthwise)
    return [found for layer in layers if (found := read_composite(graph, layer)) is not None]


def _held_bytes(graph: Graph, tensor: int, layers: Sequence[Layer]) -> int:
    """Bytes of a tensor; 0 of an unpacked constant that layers read as it is stored."""
    taken = {layer.index for layer in layers if layer.workload is not None}
    readers = graph.readers.get(tensor, [])
    if taken.issuperset(readers) and graph.constant_behind(tensor).is_constant:
        return 0
    return graph.tensor(tensor).bytes


def _constant_bytes(graph: Graph, node: Node) -> int:
    read = [tensor for tensor in node.inputs if tensor is not None]
    constants = [graph.tensor(t) for t in read if graph.constant_behind(t).is_constant]
    return sum(tensor.bytes for tensor in constants if tensor.type == "float32")


def _types(graph: Graph, node: Node) -> frozenset[str]:
    inputs = [graph.tensor(index) for index in node.inputs if index is not None]
    outputs = [graph.tensor(index) for index in node.outputs if index is not None]
    sizes = [tensor for tensor in inputs if tensor.type == "int32" and tensor.is_whole_constant]
    return frozenset(t.type for t in (*inputs, *outputs) if t not in sizes)
