"""Models of several graphs: bodies of loops and conditions, and what signatures run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
from ai_edge_litert import schema_py_generated as schema


def join(models: Sequence[bytes], signatures: Mapping[str, int] | None = None) -> bytes:
    """One model with the graphs of all of these, in their order; the first is the main one.

    ``signatures`` maps keys to graphs. The names of their inputs and outputs are those of the
    tensors.
    """
    whole, *others = (schema.ModelT.InitFromPackedBuf(model, 0) for model in models)
    for other in others:
        (graph,) = other.subgraphs
        for tensor in graph.tensors:
            tensor.buffer += len(whole.buffers)
        for node in graph.operators:
            node.opcodeIndex += len(whole.operatorCodes)
        whole.buffers += other.buffers
        whole.operatorCodes += other.operatorCodes
        whole.subgraphs.append(graph)
    whole.signatureDefs = [
        _signature(key, number, whole.subgraphs[number])
        for key, number in (signatures or {}).items()
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _signature(key: str, number: int, graph: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key.encode(), number
    signature.inputs = [_named(graph, index) for index in graph.inputs]
    signature.outputs = [_named(graph, index) for index in graph.outputs]
    return signature


def _named(graph: Any, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = graph.tensors[index].name, index
    return entry
