"""Kernels as functions of TVM's runtime, with the workspace as one of their results.

A kernel is the C functions that a delegate calls (:mod:`schedules.lower.c_abi`), and a function
around them in TVM's calling convention, with destinations passed::

    kernel(X, [R,] W, B, Y [, workspace])

``W`` and ``B`` are the bytes of all packed weights and biases, of every layer and group, in one
tensor each; behind the biases of a quantised layer is what else its kernel reads.
The function calls each stage on all threads of TVM's pool, image by image and group by group. The
caller allocates the workspace as it does ``Y``, so that Relax's memory plan shares it between
kernels.

Both are compiled into one module of TVM's runtime, or the C functions into objects that are linked
with it. TVM's own lowering, which a Relax module's functions go through, would allocate register
tiles on the heap, and knows neither stages nor masked loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.ir import PointerType, PrimType

from schedules.kernel import packing
from schedules.kernel.packing import PackedWeights
from schedules.layer.workload import DTYPE_BYTES
from schedules.lower.c_abi import codegen
from schedules.lower.kernel import CKernel, Stage
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from schedules.relax.network import Constants
from schedules.target.simd import Simd


@dataclass(frozen=True)
class RelaxKernel:
    """One kernel as a Relax function calls it.

    Parameters
    ----------
    name : str
        Of the runtime's function.
    plan : Plan
        What it computes: one image, or several of the batch.
    compiled : CKernel
        Its C functions.
    input_shape, output_shape : tuple of int
        Of ``X`` and ``Y``, all images and groups: NHWC; of a fully-connected layer whatever the
        network has.
    threads : int
        Threads that share each stage.
    """

    name: str
    plan: Plan
    compiled: CKernel
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    threads: int

    @property
    def image_calls(self) -> int:
        """Calls that compute all images."""
        one = self.plan.layers[0].all_groups().input_shape  # of a call
        return math.prod(self.input_shape) // math.prod(one)

    @property
    def workspace_bytes(self) -> int:
        """Of all threads."""
        return self.compiled.workspace_bytes + (self.threads - 1) * self.compiled.thread_bytes

    @property
    def has_residual(self) -> bool:
        """Whether another tensor is added."""
        return self.plan.layers[-1].residual

    # Constants

    def pack(self, layers: Sequence[Constants], simd: Simd) -> tuple[np.ndarray, np.ndarray]:
        """``W`` and ``B`` from what all layers have."""
        weights, biases = [], []
        for group in range(self.plan.calls):
            for layer, packed in zip(layers, self.plan.parts, strict=True):
                part = _of_group(layer, group, self.plan.calls)
                weights.append(_in_lines(_weights(part, packed, simd)))
                biases.append(_in_lines(_constants(part, packed, simd)))
        return np.concatenate(weights), np.concatenate(biases)

    @property
    def weight_bytes(self) -> int:
        """Bytes of ``W`` for one group."""
        return sum(align(part.weight_bytes) for part in self.plan.parts)

    @property
    def bias_bytes(self) -> int:
        """Bytes of ``B`` for one group."""
        return sum(align(part.constant_bytes) for part in self.plan.parts)

    @property
    def packed_bytes(self) -> int:
        """Of ``W`` and ``B``."""
        return self.plan.calls * (self.weight_bytes + self.bias_bytes)


# Functions


def build(kernels: Sequence[RelaxKernel], functions: tvm.IRModule, simd: Simd) -> Any:
    """A module of TVM's runtime with all ``kernels``.

    Parameters
    ----------
    kernels : sequence of RelaxKernel
        Each becomes a function of its name.
    functions : IRModule
        Their C functions, lowered; without those that are compiled already.
    """
    target = tvm.target.Target(simd.target)
    passes = [
        tirx.transform.BindTarget(target.with_host(target)),
        tirx.transform.FlattenBuffer(),
        tirx.transform.MakePackedAPI(),
    ]
    module = tvm.IRModule({kernel.name: _function(kernel) for kernel in kernels})
    module = tvm.ir.transform.Sequential(passes)(module)
    module.update(functions)
    return codegen(module, simd)


def _function(kernel: RelaxKernel) -> tirx.PrimFunc:
    """What calls the stages of ``kernel``, image by image and group by group."""
    calls = kernel.plan.calls
    dtype = kernel.plan.layers[0].dtype
    tensors = {"X": (kernel.input_shape, dtype)}
    if kernel.has_residual:
        tensors["R"] = kernel.output_shape, dtype
    tensors["W"] = (calls * kernel.weight_bytes,), "uint8"
    tensors["B"] = (calls * kernel.bias_bytes,), "uint8"
    tensors["Y"] = kernel.output_shape, dtype
    buffers = {name: tirx.decl_buffer(*tensor, name) for name, tensor in tensors.items()}
    arguments = list(buffers.values())
    nothing = tirx.reinterpret(PointerType(PrimType(dtype)), tirx.const(0, "uint64"))
    workspace = nothing
    if kernel.workspace_bytes:
        arguments.append(tirx.decl_buffer((kernel.workspace_bytes,), "uint8", "workspace"))
        workspace = arguments[-1].data
    image, group = tirx.Var("image", "int64"), tirx.Var("group", "int64")
    element = DTYPE_BYTES[dtype]
    x_step, y_step = (
        (math.prod(shape) * element // kernel.image_calls, shape[-1] * element // calls)
        for shape in (kernel.input_shape, kernel.output_shape)
    )
    constants = {"W": (0, kernel.weight_bytes), "B": (0, kernel.bias_bytes)}
    # Bytes from one image, and from one group, to the next.
    steps = {"X": x_step, "R": y_step, **constants, "Y": y_step}
    pointers = []
    for name, (image_step, group_step) in steps.items():
        if name in buffers:
            offset = image * image_step + group * group_step
            pointers.append(tirx.handle_add_byte_offset(buffers[name].data, offset))
        else:
            pointers.append(nothing)
    pointers.append(workspace)
    stages = [_stage(stage, pointers, kernel.threads) for stage in kernel.compiled.stages]
    body = stages[0] if len(stages) == 1 else tirx.SeqStmt(stages)
    body = tirx.For(group, 0, calls, tirx.ForKind.SERIAL, body)
    body = tirx.For(image, 0, kernel.image_calls, tirx.ForKind.SERIAL, body)
    function = tirx.PrimFunc(arguments, body)
    return function.with_attr({"global_symbol": kernel.name, "tirx.noalias": True})


def _stage(stage: Stage, pointers: Sequence[Any], threads: int) -> tirx.Stmt:
    """The work items of ``stage``, shared by all threads."""
    thread = tirx.Var("thread", "int32")
    begin, end = (tirx.floordiv(t * stage.extent, threads) for t in (thread, thread + 1))
    call = tirx.call_extern("int32", stage.symbol, *pointers, thread, begin, end)
    kind = tirx.ForKind.PARALLEL if threads > 1 else tirx.ForKind.SERIAL
    return tirx.For(thread, 0, threads, kind, tirx.Evaluate(call))


# Constants


def _of_group(constants: Constants, group: int, groups: int) -> Constants:
    if groups == 1:
        return constants
    channels = len(constants.bias) // groups
    return constants.of_channels(slice(group * channels, (group + 1) * channels))


def _weights(constants: Constants, packed: PackedWeights, simd: Simd) -> np.ndarray:
    weights = constants.weights
    if constants.quantisation is not None:
        weights = constants.quantisation.packable(weights, packed, simd)
    return packing.pack(weights, packed)


def _constants(constants: Constants, packed: PackedWeights, simd: Simd) -> np.ndarray:
    """The bias, and behind it what else a quantised layer's kernel reads."""
    if constants.quantisation is None:
        return packing.pack_bias(constants.bias, packed)
    return constants.quantisation.packed(constants.weights, constants.bias, packed, simd)


def _in_lines(values: np.ndarray) -> np.ndarray:
    """The bytes of ``values`` up to where the next begin: :mod:`schedules.lower.c_abi`."""
    flat = values.reshape(-1).view(np.uint8)
    return np.pad(flat, (0, align(flat.size) - flat.size))
