"""The convolutions of a Relax function as layers that the planner knows.

A layer is a ``relax.nn.conv2d`` (grouped and depthwise ones too) or a ``relax.matmul`` by a
constant, and takes in its neighbours: a ``relax.nn.pad`` of zeros in front; behind it, the addition
of a bias; an activation; the addition of a tensor that is there already, as in a residual
connection; and an activation behind that. Tensors in between must be read by nobody else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax

from schedules.errors import LeanconvError
from schedules.layer.chains import find_chains
from schedules.layer.network import CONV, DENSE, DEPTHWISE, Layer, Network, Step, describe
from schedules.layer.workload import DTYPE_BYTES, Conv2dWorkload, composed

CONV2D, MATMUL = "relax.nn.conv2d", "relax.matmul"
#: ``relax.clip`` to these bounds is an activation that kernels know.
_CLIPS = {(0.0, 6.0): "relu6", (-1.0, 1.0): "relu_n1_to_1", (0.0, math.inf): "relu"}
_ACTIVATIONS = {"relax.nn.relu": "relu", "relax.nn.relu6": "relu6"}


@dataclass(frozen=True)
class Constants:
    """Weights of a layer in the order OHWI, and its bias, both in its element type."""

    weights: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class RelaxNetwork(Network):
    """The layers of one Relax function.

    Nodes are its bindings, tensors its variables, both numbered in their order.

    Parameters
    ----------
    constants : mapping of int to Constants
        By the ``index`` of each layer that has a workload.
    residuals : mapping of int to int
        By the ``index`` of each layer that has one: the tensor that is added.
    variables : tuple of Var
        By the number of the tensor.
    """

    constants: Mapping[int, Constants]
    residuals: Mapping[int, int]
    variables: tuple[Any, ...]


def read(name: str, function: relax.Function) -> RelaxNetwork:
    """The layers of ``function``, whose constants have been folded."""
    return _Reader(function).network(name)


class _Refused(Exception):
    """Why a node is no layer that leanconv takes."""

    def __init__(self, reason: str, kind: str = CONV, geometry: str = "?") -> None:
        super().__init__(reason)
        self.kind, self.geometry = kind, geometry


class _Reader:
    """One function's bindings, and who reads which variable."""

    def __init__(self, function: relax.Function) -> None:
        self.values: list[Any] = []
        self.variables: list[Any] = []
        self.numbers: dict[Any, int] = {}
        self.steps: list[Step] = []
        self.writer: dict[int, int] = {}
        self.readers: dict[int, list[int]] = {}
        #: Nodes whose order does not matter and that can be left out: those of dataflow blocks.
        self.pure: set[int] = set()
        self.params = self._tensors(function.params)
        for block in function.body.blocks:
            for binding in block.bindings:
                node = len(self.values)
                self.values.append(binding.value)
                read = self._tensors(_variables(binding.value))
                (written,) = self._tensors([binding.var])
                self.steps.append(Step(node, read, (written,)))
                self.writer[written] = node
                for tensor in read:
                    self.readers.setdefault(tensor, []).append(node)
                if isinstance(block, relax.DataflowBlock):
                    self.pure.add(node)
        self.results = self._tensors(_variables(function.body.body))
        self.constants: dict[int, Constants] = {}
        self.residuals: dict[int, int] = {}

    def _tensors(self, variables: Sequence[Any]) -> tuple[int, ...]:
        """The numbers of ``variables``, given to those that are new."""
        for variable in variables:
            if variable not in self.numbers:
                self.numbers[variable] = len(self.variables)
                self.variables.append(variable)
        return tuple(self.numbers[variable] for variable in variables)

    def network(self, name: str) -> RelaxNetwork:
        """All layers, and the chains among them."""
        layers = tuple(self._layer(node) for node in sorted(self.pure) if self._is_layer(node))
        return RelaxNetwork(
            name=name,
            layers=layers,
            chains=find_chains(layers, self._only_reader),
            steps=tuple(self.steps),
            inputs=self.params,
            outputs=tuple(dict.fromkeys(self.results)),
            sizes={tensor: _bytes(variable) for tensor, variable in enumerate(self.variables)},
            constants=self.constants,
            residuals=self.residuals,
            variables=tuple(self.variables),
        )

    def _only_reader(self, tensor: int) -> int | None:
        readers = self.readers.get(tensor, [])
        if len(readers) != 1 or tensor in self.results or readers[0] not in self.pure:
            return None
        return readers[0]

    def _is_layer(self, node: int) -> bool:
        call = self.values[node]
        operator = _operator(call)
        return operator == CONV2D or (operator == MATMUL and _array(call.args[1]) is not None)

    # One layer

    def _layer(self, node: int) -> Layer:
        call = self.values[node]
        operator = _operator(call)
        weight_bytes = _bytes(call.args[1])
        try:
            kind, workload, weights = (_dense if operator == MATMUL else _conv2d)(call)
        except _Refused as error:
            kind, geometry, reason = error.kind, error.geometry, str(error)
            return Layer(node, operator, kind, geometry, None, reason, weight_bytes, 0, (node,))
        layer = Layer(
            node,
            operator,
            kind,
            describe(kind, workload),
            workload,
            None,
            weight_bytes,
            workload.macs,
            (node,),
            self.numbers[call.args[0]],
            self._output(node),
        )
        layer = self._merge_pad(layer)
        layer, bias = self._merge_bias(layer)
        layer = self._merge_activation(layer, "activation")
        with_residual = self._merge_residual(layer)
        if with_residual is not layer:
            layer = self._merge_activation(with_residual, "output_activation")
        assert layer.workload is not None
        self.constants[node] = Constants(weights, bias)
        return replace(layer, geometry=describe(kind, layer.workload))

    def _merge_pad(self, layer: Layer) -> Layer:
        assert layer.workload is not None and layer.input is not None
        pad = self.writer.get(layer.input)
        if pad is None or layer.kind == DENSE or layer.workload.is_padded:
            return layer
        call = self.values[pad]
        if _operator(call) != "relax.nn.pad" or self._only_reader(layer.input) is None:
            return layer
        amounts = [int(amount) for amount in call.attrs.pad_width]
        image = call.args[0]
        known = _is_variable(image) and pad in self.pure and call.attrs.pad_mode == "constant"
        zeros = known and float(call.attrs.pad_value) == 0.0 and len(amounts) == 8
        if not zeros or min(amounts) < 0 or any(amounts[:2] + amounts[6:]):
            return layer
        shape = _shape(image)
        assert shape is not None, "the padded image has a shape"
        workload = replace(
            layer.workload,
            in_height=shape[1],
            in_width=shape[2],
            pad_top=amounts[2],
            pad_bottom=amounts[3],
            pad_left=amounts[4],
            pad_right=amounts[5],
        )
        nodes = (pad, *layer.nodes)
        return replace(layer, workload=workload, input=self.numbers[image], nodes=nodes)

    def _merge_bias(self, layer: Layer) -> tuple[Layer, np.ndarray]:
        assert layer.workload is not None and layer.output is not None
        channels, dtype = layer.workload.out_channels, layer.workload.dtype
        node = self._only_reader(layer.output)
        if node is not None and _operator(self.values[node]) == "relax.add":
            arrays = [_array(argument) for argument in self.values[node].args]
            bias = next((array for array in arrays if array is not None), None)
            shape = _shape(self.variables[layer.output])
            fits = bias is not None and bias.size == channels and bias.shape[-1:] == (channels,)
            if bias is not None and fits and _shape(self.values[node]) == shape:
                return self._extended(layer, node, {}), bias.reshape(channels)
        return layer, np.zeros(channels, dtype)

    def _merge_activation(self, layer: Layer, slot: str) -> Layer:
        assert layer.workload is not None and layer.output is not None
        before = getattr(layer.workload, slot)
        node = self._only_reader(layer.output)
        if node is not None:
            behind = _activation(self.values[node])
            activation = composed(before, behind) if behind else None
            if activation is None:
                return layer
            return self._merge_activation(self._extended(layer, node, {slot: activation}), slot)
        if before != "none":
            return layer
        found = {"hard_swish": self._hard_swish(layer.output), "swish": self._swish(layer.output)}
        for activation, nodes in found.items():
            for node in nodes:
                layer = self._extended(layer, node, {slot: activation})
        return layer

    def _swish(self, tensor: int) -> Sequence[int]:
        """The nodes of ``x * sigmoid(x)`` if they alone read ``x``, or none."""
        if tensor in self.results or len(self.readers.get(tensor, [])) != 2:
            return ()
        nodes = sorted(self.readers[tensor])
        operators = [_operator(self.values[node]) for node in nodes]
        if operators != ["relax.sigmoid", "relax.multiply"] or not set(nodes) <= self.pure:
            return ()
        return nodes if self._only_reader(self._output(nodes[0])) == nodes[1] else ()

    def _hard_swish(self, tensor: int) -> Sequence[int]:
        """The nodes of ``x * clip(x + 3, 0, 6) / 6`` if they alone read ``x``, or none."""
        if tensor in self.results or len(self.readers.get(tensor, [])) != 2:
            return ()
        x = self.variables[tensor]
        nodes = [min(self.readers[tensor])]
        expected: list[tuple[str, float | None]] = [("relax.add", 3.0), ("relax.clip", None)]
        expected += [("relax.multiply", None), ("relax.divide", 6.0)]
        for position, (operator, number) in enumerate(expected):
            call = self.values[nodes[-1]]
            if nodes[-1] not in self.pure or _operator(call) != operator:
                return ()
            if number is not None and number not in map(_number, call.args):
                return ()
            if operator == "relax.clip" and _clip(call) != (0.0, 6.0):
                return ()
            if operator == "relax.multiply" and not any(a.same_as(x) for a in call.args):
                return ()
            if position + 1 < len(expected):
                reader = self._only_reader(self._output(nodes[-1]))
                if reader is None:
                    return ()
                nodes.append(reader)
        return nodes if self.readers[tensor] == sorted((nodes[0], nodes[2])) else ()

    def _merge_residual(self, layer: Layer) -> Layer:
        assert layer.workload is not None and layer.output is not None
        node = self._only_reader(layer.output)
        if node is None or _operator(self.values[node]) != "relax.add":
            return layer
        if layer.workload.groups > 1 and not layer.workload.is_depthwise:
            return layer  # its kernels are made for one group
        output = self.variables[layer.output]
        (other,) = (a for a in self.values[node].args if not a.same_as(output))
        if not _is_variable(other) or _shape(other) != _shape(output):
            return layer
        if _dtype(other) != layer.workload.dtype:
            return layer
        # Of two layers that are added, the one that is computed last takes the other's output.
        residual = self.numbers[other]
        if self.writer.get(residual, -1) > max(layer.nodes):
            return layer
        self.residuals[layer.index] = residual
        return self._extended(layer, node, {"residual": True})

    def _extended(self, layer: Layer, node: int, changes: dict[str, str | bool]) -> Layer:
        """``layer`` with the work of the node behind it."""
        assert layer.workload is not None
        workload: Conv2dWorkload = replace(layer.workload, **changes)  # type: ignore[arg-type]
        nodes = (*layer.nodes, node)
        return replace(layer, workload=workload, nodes=nodes, output=self._output(node))

    def _output(self, node: int) -> int:
        return self.steps[node].outputs[0]


# Operators


def _conv2d(call: relax.Call) -> tuple[str, Conv2dWorkload, np.ndarray]:
    attributes = call.attrs
    image, weights = _shape(call.args[0]), _array(call.args[1])
    if attributes.data_layout != "NHWC" or attributes.out_layout not in ("NHWC", ""):
        raise _Refused(
            f"layout {attributes.data_layout}: only NHWC; relax.transform.ConvertLayout makes it so"
        )
    if sorted(attributes.kernel_layout) != sorted("OHWI"):
        raise _Refused(f"kernel layout {attributes.kernel_layout}: not supported")
    geometry = _geometry(attributes.kernel_layout, _shape(call.args[1]))
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


def _dense(call: relax.Call) -> tuple[str, Conv2dWorkload, np.ndarray]:
    image, weights = _shape(call.args[0]), _array(call.args[1])
    assert weights is not None, "a product of two computed matrices is no layer"
    if weights.ndim != 2:
        raise _Refused(f"weights of {weights.ndim} dimensions: not supported", DENSE)
    depth, units = weights.shape
    _check_input(call, DENSE, f"dense {depth}->{units}", rank=None)
    assert image is not None
    rows = math.prod(image[:-1])
    workload = Conv2dWorkload(1, rows, depth, units, 1, 1)
    return DENSE, workload, weights.T.reshape(units, 1, 1, depth)


def _check_input(call: relax.Call, kind: str, geometry: str, rank: int | None = 4) -> None:
    """Refuse an input that no kernel reads."""
    image = call.args[0]
    shape = _shape(image)
    if shape is None or (rank is not None and len(shape) != rank):
        raise _Refused("input shape is not known before the model runs", kind, geometry)
    types = sorted({_dtype(image), _dtype(call.args[1]), _dtype(call)} - set(DTYPE_BYTES))
    if types:
        raise _Refused(f"{' and '.join(types)} tensors: not supported yet", kind, geometry)
    if not _is_variable(image):
        raise _Refused("its input is a constant", kind, geometry)


def _geometry(layout: str, shape: Sequence[int] | None) -> str:
    if shape is None:
        return "?"
    out, height, width, depth = (shape[layout.index(axis)] for axis in "OHWI")
    return f"conv{height}x{width} ?x?x{depth}->{out}"


def _activation(call: Any) -> str | None:
    operator = _operator(call)
    if operator == "relax.clip":
        return _CLIPS.get(_clip(call))
    return _ACTIVATIONS.get(operator)


def _clip(call: relax.Call) -> tuple[float, float]:
    least, most = (float(getattr(bound, "value", math.nan)) for bound in call.args[1:])
    return least, most


# Expressions


def _operator(expression: Any) -> str:
    """Name of the operator that is called; empty if it is none."""
    is_call = isinstance(expression, relax.Call) and isinstance(expression.op, tvm.ir.Op)
    return str(expression.op.name) if is_call else ""


def _is_variable(expression: Any) -> bool:
    return isinstance(expression, relax.Var)


def _array(expression: Any) -> np.ndarray | None:
    """The value of a constant tensor."""
    value = expression.value if isinstance(expression, tvm.ir.GenericConst) else None
    return value.numpy() if isinstance(value, tvm.runtime.Tensor) else None


def _number(expression: Any) -> float | None:
    """The value of a constant with one element."""
    array = _array(expression)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _shape(expression: Any) -> tuple[int, ...] | None:
    """``None`` if it is not a tensor, or not of a fixed shape."""
    shape = getattr(expression.ty, "shape", None)
    sizes = getattr(shape, "values", None)
    if sizes is None or not all(isinstance(size, tvm.tirx.IntImm) for size in sizes):
        return None
    return tuple(int(size) for size in sizes)


def _dtype(expression: Any) -> str:
    return str(getattr(expression.ty, "dtype", "unknown"))


def _bytes(expression: Any) -> int:
    """Bytes of a tensor; 0 if that is not known."""
    shape = _shape(expression)
    if shape is None:
        return 0
    return math.prod(shape) * int(tvm.DataType(_dtype(expression)).itemsize)


def _variables(expression: Any) -> list[Any]:
    """Every variable that an expression reads, as often as it does."""
    found: list[Any] = []

    def visit(part: Any) -> None:
        if isinstance(part, relax.Var):
            found.append(part)

    relax.analysis.post_order_visit(expression, visit)
    return found
