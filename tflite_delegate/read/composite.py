"""Layers with weights in Winograd's domain that are written as built-in operators.

A depthwise layer that transforms tiles of the image and goes over from one to the next in steps of
m; and behind it RESHAPE, TRANSPOSE, BATCH_MATMUL, TRANSPOSE, FULLY_CONNECTED, TRANSPOSE, RESHAPE,
DEPTH_TO_SPACE, perhaps SLICE, and ADD of the bias. Constants must be those of Winograd's algorithm
to the bit, and what is in between read by nobody else. The delegate recognises them by the same
rules (csrc/layer/winograd/composite.c).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tflite import BuiltinOperator

from schedules.errors import LeanconvError
from schedules.layer.graph import only_reader
from schedules.layer.network import CONV, DEPTHWISE, Layer
from schedules.layer.winograd_weights import WinogradWeights
from schedules.layer.workload import Conv2dWorkload
from schedules.transforms.cook_toom import Filtering, as_floats, filtering
from tflite_delegate.read.graph import ACTIVATIONS, Graph, Node
from tflite_delegate.read.winograd import OUTPUTS, matrices_of

_NOTHING = np.zeros(0, np.float32)


class _OtherError(Exception):
    """The nodes are something else."""


class _Walk:
    """Goes from node to node, each of which alone reads what the one before computes."""

    def __init__(self, graph: Graph, layer: Layer) -> None:
        assert layer.output is not None
        self.graph, self.output, self.nodes = graph, layer.output, list(layer.nodes)

    def next_node(self, code: int, inputs: int) -> Node | None:
        """The next one, if it has that operator and so many inputs; stays where it is."""
        index = only_reader(self.graph, self.output)
        node = None if index is None else self.graph.nodes[index]
        if node is None or node.code != code or len(node.outputs) != 1 or node.outputs[0] is None:
            return None
        operands = node.inputs[:inputs]
        is_fit = len(operands) == inputs and None not in operands[1:]
        is_fit = is_fit and node.inputs[inputs:] in ((), (None,)) and operands[0] == self.output
        return node if is_fit and self.graph.dtype(node.outputs[0]) == "float32" else None

    def go(self, code: int, inputs: int) -> Node:
        """Likewise, and goes there; raises _OtherError if it is none."""
        node = self.next_node(code, inputs)
        if node is None or node.outputs[0] is None:
            raise _OtherError
        self.nodes.append(node.index)
        self.output = node.outputs[0]
        return node

    def integers(self, node: Node, place: int = 1) -> list[int]:
        """A vector that it reads."""
        index = node.inputs[place]
        values = None if index is None else self.graph.integers(index)
        if values is None or index is None or self.graph.dtype(index) != "int32":
            raise _OtherError
        return values

    def turn(self, *axes: int) -> None:
        """A TRANSPOSE."""
        _demand(self.integers(self.go(BuiltinOperator.TRANSPOSE, 2)) == list(axes))


def _demand(condition: bool) -> None:
    if not condition:
        raise _OtherError


def read_composite(graph: Graph, layer: Layer) -> Layer | None:
    """The layer that begins with a depthwise one, of which all neighbours are merged, or None."""
    tiles = layer.workload
    if layer.kind != DEPTHWISE or tiles is None or layer.output is None or tiles.residual:
        return None
    if tiles.weight_dtype != "float32" or tiles.dtype != "float32":
        return None
    walk = _Walk(graph, layer)
    if walk.next_node(BuiltinOperator.RESHAPE, 2) is None:
        return None
    try:
        return _read(walk, layer, tiles)
    except (_OtherError, LeanconvError):
        return None


def _read(walk: _Walk, layer: Layer, tiles: Conv2dWorkload) -> Layer:
    graph = walk.graph
    form = _form_of(tiles)
    points = form.inputs**2
    _demand(_transforms_image(graph, graph.nodes[layer.index], form))
    channels = tiles.out_channels // points
    count = tiles.batch * tiles.out_height * tiles.out_width
    wanted = [count, channels, points]
    _demand(tiles.in_channels == channels)
    _demand(walk.integers(walk.go(BuiltinOperator.RESHAPE, 2)) == wanted)
    walk.turn(2, 0, 1)
    weights_index, weights = _weights(walk, points, channels)
    walk.turn(1, 2, 0)
    _demand(_transforms_output(walk, form))
    filters = weights.shape[2]
    # Of one channel, this one moves nothing, and converters leave it out.
    if filters > 1 or walk.next_node(BuiltinOperator.TRANSPOSE, 2) is not None:
        walk.turn(0, 2, 1)
    height, width = _image(walk, tiles, form, filters)
    activation = _add_bias(walk, filters)
    is_relu = tiles.activation == "relu"
    workload = Conv2dWorkload(
        batch=tiles.batch,
        in_height=tiles.in_height,
        in_width=tiles.in_width,
        in_channels=channels,
        out_channels=filters,
        kernel_height=form.taps,
        kernel_width=form.taps,
        pad_top=tiles.pad_top,
        pad_bottom=_pad_behind(height, form.taps, tiles.in_height, tiles.pad_top),
        pad_left=tiles.pad_left,
        pad_right=_pad_behind(width, form.taps, tiles.in_width, tiles.pad_left),
        activation=activation,
        domain=WinogradWeights.of(matrices_of(weights), form.outputs, is_relu),
    )
    return replace(
        layer,
        kind=CONV,
        geometry=workload.describe(),
        workload=workload,
        weight_bytes=graph.tensor(weights_index).bytes,
        macs=workload.macs,
        nodes=tuple(walk.nodes),
        output=walk.output,
        weight_order=None,
        is_float_biased=False,
    )


def _form_of(tiles: Conv2dWorkload) -> Filtering:
    """The form whose tiles a depthwise layer goes over."""
    m, n = tiles.stride_height, tiles.kernel_height
    is_square = (tiles.stride_width, tiles.kernel_width) == (m, n)
    _demand(is_square and tiles.dilation_height == tiles.dilation_width == 1)
    _demand(m in OUTPUTS and n > m and tiles.activation in ("none", "relu"))
    return filtering(m, n - m + 1)


def _twice(matrix: np.ndarray) -> np.ndarray:
    """What it makes of rows and columns of a tile: (rows^2, columns^2), rounded once."""
    return np.kron(matrix, matrix).astype(np.float32)


def _constant(graph: Graph, index: int | None) -> np.ndarray:
    """A copy, so that nothing of a file that turns out damaged is held on to; else nothing."""
    if index is None or min(graph.tensor(index).shape, default=0) < 1:
        return _NOTHING
    values = graph.floats(index)
    return _NOTHING if values is None else values.copy()


def _transforms_image(graph: Graph, node: Node, form: Filtering) -> bool:
    n = form.inputs
    weights = _constant(graph, node.inputs[1])
    if weights.shape[:-1] != (1, n, n) or weights.shape[-1] % n**2:
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        values = _constant(graph, bias)
        if values.shape != weights.shape[-1:] or values.any():
            return False
    image = _twice(as_floats(form.image))
    return bool((weights.reshape(n**2, -1, n**2) == image.T[:, None, :]).all())


def _transforms_output(walk: _Walk, form: Filtering) -> bool:
    node = walk.go(BuiltinOperator.FULLY_CONNECTED, 2)
    options = node.options("FullyConnectedOptions")
    _demand(options is not None)
    assert options is not None
    is_plain = options.FusedActivationFunction() == 0 and options.WeightsFormat() == 0
    wanted = _twice(as_floats(form.output))
    return (
        is_plain
        and bool(options.KeepNumDims())
        and np.array_equal(_constant(walk.graph, node.inputs[1]), wanted)
    )


def _weights(walk: _Walk, points: int, channels: int) -> tuple[int, np.ndarray]:
    """The tensor of the weights, and what it holds: (n^2, C, M)."""
    node = walk.go(BuiltinOperator.BATCH_MATMUL, 2)
    options = node.options("BatchMatMulOptions")
    index = node.inputs[1]
    weights = _constant(walk.graph, index)
    _demand(options is None or not (options.AdjX() or options.AdjY()))
    _demand(weights.ndim == 3 and weights.shape[:2] == (points, channels) and weights.size > 0)
    assert index is not None
    return index, weights


def _image(walk: _Walk, tiles: Conv2dWorkload, form: Filtering, filters: int) -> tuple[int, int]:
    """Height and width of the image that the tiles become."""
    down, across, m = tiles.out_height, tiles.out_width, form.outputs
    grid = [tiles.batch, down, across, m**2 * filters]
    _demand(walk.integers(walk.go(BuiltinOperator.RESHAPE, 2)) == grid)
    options = walk.go(BuiltinOperator.DEPTH_TO_SPACE, 1).options("DepthToSpaceOptions")
    _demand(options is not None and options.BlockSize() == m)
    if walk.next_node(BuiltinOperator.SLICE, 3) is None:
        return down * m, across * m
    node = walk.go(BuiltinOperator.SLICE, 3)
    begin, size = walk.integers(node, 1), walk.integers(node, 2)
    _demand(begin == [0, 0, 0, 0] and len(size) == 4)
    _demand((size[0], size[3]) == (tiles.batch, filters))
    _demand(1 <= size[1] <= down * m and 1 <= size[2] <= across * m)
    return size[1], size[2]


def _add_bias(walk: _Walk, filters: int) -> str:
    """The activation behind the bias."""
    node = walk.go(BuiltinOperator.ADD, 2)
    options = node.options("AddOptions")
    activation = ACTIVATIONS.get(options.FusedActivationFunction()) if options else None
    _demand(_constant(walk.graph, node.inputs[1]).shape == (filters,))
    if activation is None:
        raise _OtherError
    return activation


def _pad_behind(outputs: int, taps: int, size: int, before: int) -> int:
    """Zeros behind an axis with so many in front: less than none would cut the image's tiles."""
    pad = outputs + taps - 1 - size - before
    _demand(pad >= 0)
    return pad
