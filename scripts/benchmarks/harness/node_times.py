"""The time of every node of a network, in any runtime alike.

XNNPACK and other delegates do not tell what their layers take. So each node becomes a .tflite file
of its own, with its weights, and the runtimes run these in turns. Activations between two nodes
are then not in the caches as they would be within the network, and nothing is fused across nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np

from schedules.files import replace_atomically
from scripts.benchmarks.harness.comparison import compare
from scripts.benchmarks.harness.inference import WITH_WEIGHTS, random_inputs
from scripts.benchmarks.harness.interleaving import milliseconds
from tvmc.running.interpreter import Session, runtime
from tvmc.tables import format_table

#: What convolutions and fully-connected layers take of AlexNet's time in Caffe on a CPU (Jia 2014;
#: Warden 2015, "Why GEMM is at the heart of deep learning").
LITERATURE_SHARE = 0.89


def seconds_by_operator(
    graph: Path, folder: Path, kinds: Sequence[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Least seconds of each node, summed by operator, for each runtime.

    Parameters
    ----------
    folder : path
        Where the network was prepared, and the file of one node at a time may be written.
    kinds : sequence of str
        Runtimes of TFLite.
    rounds : int
        Samples of each node.
    """
    sums: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    path = folder / "node.tflite"
    for operator, data in single_nodes(graph):
        replace_atomically(path, data)
        inputs = random_inputs(Session(path, runtime("litert"), xnnpack=False))
        for row in compare(path, kinds, folder, inputs, rounds=rounds):
            of_kind = sums[row["runtime"]]
            of_kind[operator] = of_kind.get(operator, 0.0) + row["times"]["min_s"]
    return sums


def single_nodes(graph: Path, batch: int = 1) -> Iterator[tuple[str, bytes]]:
    """Operator and .tflite file of every node of the main graph, in order of execution.

    For a ``batch``, activations of one image are of so many; nodes with weights can take them.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    model = schema.ModelT.InitFromPackedBuf(graph.read_bytes(), 0)
    main = model.subgraphs[0]
    for node in main.operators:
        code = model.operatorCodes[node.opcodeIndex]
        tensors = list(dict.fromkeys(i for i in (*node.inputs, *node.outputs) if i >= 0))
        buffers, kept = [schema.BufferT()], []
        for index in tensors:
            tensor = main.tensors[index]
            data = model.buffers[tensor.buffer].data
            tensor_copy = schema.TensorT()
            vars(tensor_copy).update(vars(tensor), buffer=len(buffers) if data is not None else 0)
            shape = [] if tensor.shape is None else list(tensor.shape)  # of a scalar
            if data is None and shape[:1] == [1]:
                tensor_copy.shape = np.array([batch, *shape[1:]], np.int32)
            kept.append(tensor_copy)
            if data is not None:
                buffers.append(model.buffers[tensor.buffer])
        places = {index: place for place, index in enumerate(tensors)} | {-1: -1}
        alone = schema.OperatorT()
        vars(alone).update(vars(node), opcodeIndex=0)
        alone.inputs, alone.outputs = (
            np.array([places[i] for i in indices], np.int32)
            for indices in (node.inputs, node.outputs)
        )
        part = schema.SubGraphT()
        part.tensors, part.operators, part.outputs = kept, [alone], alone.outputs
        part.inputs = [i for i in alone.inputs if i >= 0 and not kept[i].buffer]
        single = schema.ModelT()
        single.version, single.subgraphs, single.buffers = model.version, [part], buffers
        single.operatorCodes = [code]
        yield names[max(code.builtinCode, code.deprecatedBuiltinCode)], _packed(single)


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def describe(seconds: Mapping[str, Mapping[str, float]]) -> str:
    """A table of what `seconds_by_operator` returned, and what layers with weights take of it."""
    totals = {kind: sum(times.values()) for kind, times in seconds.items()}
    operators = dict.fromkeys(operator for times in seconds.values() for operator in times)
    rows = []
    for operator in operators:
        row = [operator]
        for kind, times in seconds.items():
            row += [milliseconds(times[operator]), f"{times[operator] / totals[kind]:.1%}"]
        rows.append(row)
    header = ["operator", *(title for kind in seconds for title in (f"{kind} ms", "share"))]
    shares = ", ".join(
        f"{sum(times.get(operator, 0.0) for operator in WITH_WEIGHTS) / totals[kind]:.1%} ({kind})"
        for kind, times in seconds.items()
    )
    return (
        f"{format_table(header, rows)}\nconvolutions and fully-connected layers: {shares}; "
        f"{LITERATURE_SHARE:.0%} in the literature (Caffe on a CPU, with normalisation layers)"
    )
