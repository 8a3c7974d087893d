"""The convolutions of a Relax function as layers that the planner knows.

A layer is a ``relax.nn.conv2d`` (grouped and depthwise ones too), a ``relax.nn.conv3d`` or a
``relax.matmul`` by a constant. It takes in the addition of a bias, and the neighbours of
:mod:`schedules.layer.merge`. Weights that all are numbers of float16 stay so in memory, which
changes no result. Quantised layers are calls of :mod:`schedules.relax.quantised`, and so are those
of Winograd's domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import relax

from schedules.errors import LeanconvError
from schedules.kernel.hybrid.scales import ChannelScales
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.chains import find_chains
from schedules.layer.graph import only_reader
from schedules.layer.merge import merge_neighbours
from schedules.layer.network import CONV, DENSE, DEPTHWISE, VOLUME, Layer, Network, describe
from schedules.layer.sparsity import zeros_of
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.words import pairs_overflow
from schedules.layer.workload import Conv2dWorkload
from schedules.relax.graph import RelaxGraph, array_of, bytes_of, dtype_of, operator_of, shape_of
from schedules.relax.quantised import QuantisedCall, quantised_call

CONV2D, MATMUL, CONV3D = "relax.nn.conv2d", "relax.matmul", "relax.nn.conv3d"


@dataclass(frozen=True)
class Constants:
    """Weights of a layer, OHWI or ODHWI, its bias, and how it is quantised, if it is."""

    weights: np.ndarray
    bias: np.ndarray
    quantisation: Quantisation | ChannelScales | None = None

    def of_channels(self, channels: slice) -> Constants:
        """The same for some of the output channels."""
        own = self.quantisation and self.quantisation.of_channels(channels)
        return Constants(self.weights[channels], self.bias[channels], own)


@dataclass(frozen=True)
class RelaxNetwork(Network):
    """The layers of one Relax function: nodes are its bindings, tensors its variables.

    Parameters
    ----------
    constants : mapping of int to Constants
        By the ``index`` of each layer that has a workload.
    variables : sequence of Var
        By the number of the tensor.
    """

    constants: Mapping[int, Constants]
    variables: Sequence[Any]


def read(
    name: str, function: relax.Function, functions: Mapping[str, Any] | None = None
) -> RelaxNetwork:
    """The layers of ``function``, whose constants have been folded.

    ``functions`` are those of its module by their names, as its quantised layers are some of them.
    """
    graph = RelaxGraph(function)
    constants: dict[int, Constants] = {}
    layers: list[Layer] = []
    for node in sorted(graph.pure):
        call = graph.values[node]
        quantised = quantised_call(call, functions or {})
        if quantised is not None:
            layers.append(_quantised_layer(graph, node, quantised, constants))
        elif _is_layer(call):
            layers.append(_layer(graph, node, constants))
    return RelaxNetwork(
        name=name,
        layers=tuple(layers),
        chains=find_chains(graph, layers),
        walks_rows=False,
        steps=tuple(graph.steps),
        inputs=graph.inputs,
        outputs=graph.outputs,
        sizes={tensor: bytes_of(variable) for tensor, variable in enumerate(graph.variables)},
        constants=constants,
        variables=graph.variables,
    )


class _Refused(Exception):
    """Why a node is no layer that leanconv takes."""

    def __init__(self, reason: str, kind: str = CONV, geometry: str = "?") -> None:
        super().__init__(reason)
        self.kind, self.geometry = kind, geometry


def _is_layer(call: Any) -> bool:
    operator = operator_of(call)
    if operator == MATMUL:
        return array_of(call.args[1]) is not None
    return operator in _READERS


def _layer(graph: RelaxGraph, node: int, constants: dict[int, Constants]) -> Layer:
    """The layer of a node, with what it takes in; its constants are added to the others'."""
    call = graph.values[node]
    operator = operator_of(call)
    weight_bytes = bytes_of(call.args[1])
    try:
        kind, workload, weights = _READERS[operator](call)
    except _Refused as error:
        kind, geometry, reason = error.kind, error.geometry, str(error)
        return Layer(node, operator, kind, geometry, None, reason, weight_bytes, 0, (node,))
    workload = replace(workload, weight_dtype=_narrowest(weights))
    if kind in (CONV, DENSE) and workload.groups == 1 and workload.dtype == "float32":
        workload = replace(workload, zeros=zeros_of(weights, weights.size))
    layer = Layer(
        node,
        operator,
        kind,
        describe(kind, workload),
        workload,
        None,
        workload.weight_bytes,
        workload.macs,
        (node,),
        graph.numbers[call.args[0]],
        graph.steps[node].outputs[0],
    )
    layer, bias = _merge_bias(graph, layer, workload)
    constants[node] = Constants(weights, bias)
    return merge_neighbours(graph, layer)


def _quantised_layer(
    graph: RelaxGraph, node: int, call: QuantisedCall, constants: dict[int, Constants]
) -> Layer:
    """The layer of a call; its constants are added to the others'."""
    workload, weights = call.workload, call.weights
    constants[node] = Constants(weights, call.bias, call.quantisation)
    is_of_floats = isinstance(call.quantisation, ChannelScales)
    way = "hybrid" if is_of_floats else "winograd" if workload.domain else "quantised"
    layer = Layer(
        node,
        f"{way} {call.kind}",
        call.kind,
        describe(call.kind, workload),
        workload,
        None,
        weights.nbytes,
        workload.macs,
        (node,),
        overflows_pairs=workload.is_quantised
        and pairs_overflow(
            weights.transpose(1, 2, 3, 0) if workload.is_depthwise else weights, workload
        ),
    )
    if not isinstance(call.input, relax.Var):
        return replace(layer, workload=None, reason="its input is a constant")
    image = graph.numbers[call.input]
    if isinstance(call.quantisation, Quantisation):
        graph.zeros[image] = call.quantisation.input_zero
    layer = replace(layer, input=image, output=graph.steps[node].outputs[0])
    return merge_neighbours(graph, layer)


def _merge_bias(
    graph: RelaxGraph, layer: Layer, workload: Conv2dWorkload
) -> tuple[Layer, np.ndarray]:
    assert layer.output is not None
    channels = workload.out_channels
    node = only_reader(graph, layer.output)
    addition = None if node is None else graph.operation(node)
    if addition is not None and addition.name == "add":
        arrays = [array_of(argument) for argument in graph.values[addition.node].args]
        bias = next((array for array in arrays if array is not None), None)
        fits = bias is not None and bias.size == channels and bias.shape[-1:] == (channels,)
        if bias is not None and fits and graph.shape(addition.output) == graph.shape(layer.output):
            nodes = (*layer.nodes, addition.node)
            return replace(layer, nodes=nodes, output=addition.output), bias.reshape(channels)
    return layer, np.zeros(channels, workload.dtype)


def _narrowest(weights: np.ndarray) -> str:
    """``float16`` if every weight is one, as of models with such constants; else ``float32``."""
    with np.errstate(over="ignore"):
        halves = weights.astype(np.float16)
    return "float16" if np.array_equal(halves, weights) else "float32"


# Operators


def _conv2d(call: relax.Call) -> tuple[str, Conv2dWorkload, np.ndarray]:
    attributes = call.attrs
    image, weights = shape_of(call.args[0]), array_of(call.args[1])
    if attributes.data_layout != "NHWC" or attributes.out_layout not in ("NHWC", ""):
        raise _Refused(
            f"layout {attributes.data_layout}: only NHWC; relax.transform.ConvertLayout makes it so"
        )
    if sorted(attributes.kernel_layout) != sorted("OHWI"):
        raise _Refused(f"kernel layout {attributes.kernel_layout}: not supported")
    geometry = _geometry(attributes.kernel_layout, shape_of(call.args[1]))
    _check_input(call, CONV, geometry)
    if weights is None:
        raise _Refused("weights are computed at run time", CONV, geometry)
    assert image is not None
    ohwi = weights.transpose([attributes.kernel_layout.index(axis) for axis in "OHWI"])
    out_channels, kernel_height, kernel_width, _ = ohwi.shape
    pads = [int(amount) for amount in attributes.padding]
    top, left, bottom, right = pads if len(pads) == 4 else pads * (4 // len(pads))
    try:
        workload = Conv2dWorkload(
            batch=image[0],
            in_height=image[1],
            in_width=image[2],
            in_channels=image[3],
            out_channels=out_channels,
            kernel_height=kernel_height,
            kernel_width=kernel_width,
            stride_height=int(attributes.strides[0]),
            stride_width=int(attributes.strides[-1]),
            dilation_height=int(attributes.dilation[0]),
            dilation_width=int(attributes.dilation[-1]),
            pad_top=top,
            pad_bottom=bottom,
            pad_left=left,
            pad_right=right,
            groups=int(attributes.groups),
        )
    except LeanconvError as error:
        raise _Refused(str(error), CONV, geometry) from None
    return (DEPTHWISE if workload.is_depthwise else CONV), workload, ohwi


def _conv3d(call: relax.Call) -> tuple[str, Conv2dWorkload, np.ndarray]:
    attributes = call.attrs
    image, weights = shape_of(call.args[0]), array_of(call.args[1])
    if attributes.data_layout != "NDHWC" or attributes.out_layout not in ("NDHWC", ""):
        raise _Refused(f"layout {attributes.data_layout}: only NDHWC", VOLUME)
    if sorted(attributes.kernel_layout) != sorted("ODHWI"):
        raise _Refused(f"kernel layout {attributes.kernel_layout}: not supported", VOLUME)
    _check_input(call, VOLUME, "conv3d", rank=5)
    if weights is None:
        raise _Refused("weights are computed at run time", VOLUME)
    assert image is not None
    odhwi = weights.transpose([attributes.kernel_layout.index(axis) for axis in "ODHWI"])
    pads = [int(amount) for amount in attributes.padding]
    pads = pads * (6 // len(pads))
    geometry: dict[str, Any] = {
        "batch": image[0],
        "in_channels": image[4],
        "out_channels": odhwi.shape[0],
        "groups": int(attributes.groups),
    }
    axes = (("depth", "front", "back"), ("height", "top", "bottom"), ("width", "left", "right"))
    for place, (axis, before, after) in enumerate(axes):
        geometry |= {
            f"in_{axis}": image[1 + place],
            f"kernel_{axis}": odhwi.shape[1 + place],
            f"stride_{axis}": int(attributes.strides[place]),
            f"dilation_{axis}": int(attributes.dilation[place]),
            f"pad_{before}": pads[place],
            f"pad_{after}": pads[3 + place],
        }
    try:
        return VOLUME, Conv3dWorkload(**geometry), odhwi
    except LeanconvError as error:
        raise _Refused(str(error), VOLUME) from None


def _dense(call: relax.Call) -> tuple[str, Conv2dWorkload, np.ndarray]:
    image, weights = shape_of(call.args[0]), array_of(call.args[1])
    assert weights is not None, "a product of two computed matrices is no layer"
    if weights.ndim != 2:
        raise _Refused(f"weights of {weights.ndim} dimensions: not supported", DENSE)
    depth, units = weights.shape
    _check_input(call, DENSE, f"dense {depth}->{units}", rank=None)
    assert image is not None
    rows = math.prod(image[:-1])
    workload = Conv2dWorkload(1, rows, depth, units, 1, 1)
    return DENSE, workload, weights.T.reshape(units, 1, 1, depth)


_READERS: Mapping[str, Callable[[relax.Call], tuple[str, Conv2dWorkload, np.ndarray]]] = {
    CONV2D: _conv2d,
    CONV3D: _conv3d,
    MATMUL: _dense,
}


def _check_input(call: relax.Call, kind: str, geometry: str, rank: int | None = 4) -> None:
    """Refuse an input that no kernel reads."""
    image = call.args[0]
    shape = shape_of(image)
    if shape is None or (rank is not None and len(shape) != rank):
        raise _Refused("input shape is not known before the model runs", kind, geometry)
    types = sorted({dtype_of(image), dtype_of(call.args[1]), dtype_of(call)} - {"float32"})
    if types:
        raise _Refused(f"{' and '.join(types)} tensors: not supported yet", kind, geometry)
    if not isinstance(image, relax.Var):
        raise _Refused("its input is a constant", kind, geometry)


def _geometry(layout: str, shape: Sequence[int] | None) -> str:
    if shape is None:
        return "?"
    out, height, width, depth = (shape[layout.index(axis)] for axis in "OHWI")
    return f"conv{height}x{width} ?x?x{depth}->{out}"
