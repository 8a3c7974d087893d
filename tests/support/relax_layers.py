"""Layers and chains of them as Relax functions, written as importers write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from schedules.layer.workload import Conv2dWorkload


def constant(values: np.ndarray) -> Any:
    return relax.const(np.ascontiguousarray(values))


def image_variable(workload: Conv2dWorkload, name: str = "x") -> relax.Var:
    return relax.Var(name, relax.TensorType(workload.input_shape, workload.dtype))


def conv2d(
    workload: Conv2dWorkload,
    x: relax.Expr,
    weights: np.ndarray,
    layout: str = "HWIO",
    half: bool = False,
) -> relax.Expr:
    """The convolution alone; ``half``: by float16 weights behind a conversion."""
    order = ["OHWI".index(axis) for axis in layout]
    values = weights.transpose(order)
    w = constant(values.astype(np.float16) if half else values)
    if half:
        w = relax.op.astype(w, "float32")
    return relax.op.nn.conv2d(
        x,
        w,
        strides=(workload.stride_height, workload.stride_width),
        padding=(workload.pad_top, workload.pad_left, workload.pad_bottom, workload.pad_right),
        dilation=(workload.dilation_height, workload.dilation_width),
        groups=workload.groups,
        data_layout="NHWC",
        kernel_layout=layout,
    )


def activated(builder: relax.BlockBuilder, x: relax.Expr, activation: str) -> relax.Expr:
    """``x`` behind an activation, as TVM's importer of .tflite models has it."""
    if activation == "relu":
        return builder.emit(relax.op.nn.relu(x))
    if activation == "relu6":
        return builder.emit(relax.op.clip(x, 0, 6))
    if activation == "relu_n1_to_1":
        return builder.emit(relax.op.clip(x, -1, 1))
    if activation == "swish":
        return builder.emit(relax.op.multiply(x, builder.emit(relax.op.sigmoid(x))))
    if activation == "hard_swish":
        shifted = builder.emit(relax.op.add(x, relax.const(np.float32(3))))
        gate = builder.emit(relax.op.clip(shifted, 0, 6))
        product = builder.emit(relax.op.multiply(x, gate))
        return builder.emit(relax.op.divide(product, relax.const(np.float32(6))))
    return x


def emit_layer(
    builder: relax.BlockBuilder,
    workload: Conv2dWorkload,
    x: relax.Expr,
    weights: np.ndarray,
    bias: np.ndarray | None,
    residual: relax.Expr | None = None,
    **options: Any,
) -> relax.Expr:
    """A whole layer; ``options`` as of :func:`conv2d`."""
    y = builder.emit(conv2d(workload, x, weights, **options))
    if bias is not None:
        y = builder.emit(relax.op.add(y, constant(bias)))
    y = activated(builder, y, workload.activation)
    if residual is not None:
        y = builder.emit(relax.op.add(y, residual))
    return activated(builder, y, workload.output_activation)


def chain_module(
    layers: Sequence[Conv2dWorkload],
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray | None],
    own_input: bool = False,
    name: str = "main",
    **options: Any,
) -> tvm.IRModule:
    """Layers one after the other. The last one's residual is the input, or a second parameter."""
    builder = relax.BlockBuilder()
    x = image_variable(layers[0])
    parameters, residual = [x], None
    if layers[-1].residual:
        residual = x
        if not own_input:
            residual = relax.Var("r", relax.TensorType(layers[-1].output_shape, "float32"))
            parameters.append(residual)
    with builder.function(name, parameters):
        with builder.dataflow():
            y: relax.Expr = x
            for layer, w, b in zip(layers, weights, biases, strict=True):
                added = residual if layer.residual else None
                y = emit_layer(builder, layer, y, w, b, added, **options)
            # What follows must not be taken for a part of the layer.
            y = builder.emit_output(relax.op.multiply(y, relax.const(np.float32(1))))
        builder.emit_func_output(y)
    return builder.get()


def run(module: tvm.IRModule, target: Any, *inputs: np.ndarray, **options: Any) -> np.ndarray:
    """Compile ``module`` with TVM's own pipeline unless ``options`` say otherwise, and call it."""
    executable = relax.build(module, target, **options)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](*map(tvm.runtime.tensor, inputs)).numpy()
