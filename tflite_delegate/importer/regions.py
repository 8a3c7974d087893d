"""Operators that run other graphs of the model: loops and calls are laid out in the graph itself.

A loop whose condition is known at every trip, as one that counts, becomes that many copies of its
body. TVM's importer makes a function of it that calls itself, which ends a long loop, and the
process with it, for want of stack; so loops that depend on values are refused.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

from schedules.errors import LeanconvError
from tflite_delegate.importer.editable import (
    EditableGraph,
    EditableModel,
    EditableOperator,
    EditableTensor,
)

#: Operators that all copies may have together, and graphs that may lie within each other.
MAX_OPERATORS = 4096
MAX_DEPTH = 8


class Walker(Protocol):
    """The walk, as far as it matters here."""

    model: EditableModel
    subgraph: EditableGraph

    def check_order(self, graph: EditableGraph) -> None:
        """Raise LeanconvError if an operand is read before it is computed."""

    def step(self, node: EditableOperator) -> None:
        """Convert one node of ``subgraph``."""


class Regions:
    """Lays other graphs out in the one that is walked."""

    def __init__(self, walker: Walker) -> None:
        self._walker = walker
        self._depth = self._operators = 0

    def results(self, node: EditableOperator) -> list[int] | None:
        """The tensors that hold what ``node`` computes, or ``None`` if it runs no other graph.

        Raises
        ------
        LeanconvError
            If it is not known how often a loop runs, or it is too often.
        """
        if node.name == "STABLEHLO_WHILE":
            raise LeanconvError("loops of StableHLO are not supported")
        if node.name == "WHILE" and (options := node.options("WhileOptions")):
            condition = self._graph(options.CondSubgraphIndex(), node.inputs, 1)
            body = self._graph(options.BodySubgraphIndex(), node.inputs, len(node.outputs))
            return self._loop(node, condition, body)
        if node.name == "IF" and (options := node.options("IfOptions")) and node.inputs:
            branches = (options.ElseSubgraphIndex(), options.ThenSubgraphIndex())
            condition_data = self._walker.subgraph.tensors[node.inputs[0]].data
            if condition_data is None:
                return None  # both branches become functions
            if condition_data.size != 1:
                raise LeanconvError("its condition is more than one value")
            operands = node.inputs[1:]
            branch = branches[bool(condition_data.reshape(())[()])]
            return self._laid_out(self._graph(branch, operands, len(node.outputs)), operands)
        if node.name == "CALL" and (options := node.options("CallOptions")):
            graph = self._graph(options.Subgraph(), node.inputs, len(node.outputs))
            return self._laid_out(graph, node.inputs)
        return None

    def _graph(self, index: int, operands: Sequence[int], results: int) -> EditableGraph:
        graphs = self._walker.model.graphs
        if not 0 < index < len(graphs):
            raise LeanconvError(f"it runs graph {index} of {len(graphs)}")
        graph = graphs[index]
        if (len(graph.inputs), len(graph.outputs)) != (len(operands), results):
            raise LeanconvError(f"graph {index} has other operands or results")
        if min(operands, default=0) < 0:
            raise LeanconvError("an operand is left out")
        return graph

    def _loop(
        self, node: EditableOperator, condition: EditableGraph, body: EditableGraph
    ) -> list[int]:
        state, place = node.inputs, self._walker.model.current
        while True:
            (decision,) = self._laid_out(condition, state)
            self._walker.model.current = place
            goes_on = self._walker.subgraph.tensors[decision].data
            if goes_on is None or goes_on.size != 1:
                raise LeanconvError("how often it runs depends on what the model computes")
            if not goes_on.reshape(())[()]:
                return list(state)
            state = self._laid_out(body, state)
            self._walker.model.current = place

    def _laid_out(self, graph: EditableGraph, operands: Sequence[int]) -> list[int]:
        """Convert a copy of ``graph`` over these tensors; the tensors of its outputs."""
        self._depth += 1
        self._operators += 1 + len(graph.operators)
        if self._depth > MAX_DEPTH or self._operators > MAX_OPERATORS:
            raise LeanconvError(f"it comes to more than {MAX_OPERATORS} operators")
        self._walker.check_order(graph)
        tensors = self._walker.subgraph.tensors
        own = dict(zip(graph.inputs, operands, strict=True))
        for index, tensor in enumerate(graph.tensors):
            if index not in own:
                own[index] = len(tensors)
                tensors.append(self._copied(tensor, len(tensors)))
        for node in graph.operators:
            node = copy.copy(node)
            node.inputs = [own.get(index, -1) for index in node.inputs]
            node.outputs = [own.get(index, -1) for index in node.outputs]
            self._walker.step(node)
        self._depth -= 1
        return [own[index] for index in graph.outputs]

    @staticmethod
    def _copied(tensor: EditableTensor, index: int) -> EditableTensor:
        tensor = copy.copy(tensor)
        tensor.name = f"%copy.{index}".encode()
        return tensor
