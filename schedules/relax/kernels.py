"""Kernels as functions of TVM's runtime, with the workspace as one of their results.

A kernel is the C functions that a delegate calls (:mod:`schedules.lower.c_abi`), and a function
around them in TVM's calling convention, with destinations passed::

    kernel(X, [R,] W, B, Y [, workspace])

``W`` and ``B`` hold all packed weights and biases, of every layer and group, in one tensor each.
The function calls each stage on all threads of TVM's pool, image by image and group by group. The
caller allocates the workspace as it does ``Y``, so that Relax's memory plan shares it between
kernels.

Both are compiled into one module of TVM's runtime, or the C functions into objects that are linked
with it. TVM's own lowering, which a Relax module's functions go through, would allocate register
tiles on the heap, and knows neither stages nor masked loops.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.ir import PointerType, PrimType

from schedules.kernel import packing
from schedules.layer.workload import DTYPE_BYTES
from schedules.lower.c_abi import codegen
from schedules.lower.kernel import CKernel, Stage
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from schedules.relax.network import Constants
from schedules.target.simd import Simd

_ELEMENT_BYTES = DTYPE_BYTES["float32"]


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

    def pack(self, layers: Sequence[Constants]) -> tuple[np.ndarray, np.ndarray]:
        """``W`` and ``B``, one-dimensional, from the weights and biases of all layers."""
        weights, biases = [], []
        for group in range(self.plan.calls):
            parts = [_of_group(constants, group, self.plan.calls) for constants in layers]
            packed = list(zip(parts, self.plan.parts, strict=True))
            weights.append(_joined([packing.pack(part.weights, p).ravel() for part, p in packed]))
            biases.append(_joined([packing.pack_bias(part.bias, p) for part, p in packed]))
        return np.concatenate(weights), np.concatenate(biases)

    @property
    def weight_elements(self) -> int:
        """Elements of ``W`` for one group."""
        return sum(_rounded_up(part.elements) for part in self.plan.parts)

    @property
    def bias_elements(self) -> int:
        """Elements of ``B`` for one group."""
        return sum(_rounded_up(part.bias_elements) for part in self.plan.parts)

    @property
    def packed_bytes(self) -> int:
        """Of ``W`` and ``B``."""
        elements = self.plan.calls * (self.weight_elements + self.bias_elements)
        return elements * _ELEMENT_BYTES


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
    shapes = {"X": kernel.input_shape}
    if kernel.has_residual:
        shapes["R"] = kernel.output_shape
    shapes |= {"W": (calls * kernel.weight_elements,), "B": (calls * kernel.bias_elements,)}
    shapes["Y"] = kernel.output_shape
    dtype = kernel.plan.layers[0].dtype
    buffers = {name: tirx.decl_buffer(shape, dtype, name) for name, shape in shapes.items()}
    arguments = list(buffers.values())
    nothing = tirx.reinterpret(PointerType(PrimType(dtype)), tirx.const(0, "uint64"))
    workspace = nothing
    if kernel.workspace_bytes:
        arguments.append(tirx.decl_buffer((kernel.workspace_bytes,), "uint8", "workspace"))
        workspace = arguments[-1].data
    image, group = tirx.Var("image", "int64"), tirx.Var("group", "int64")
    x_step, y_step = (
        (math.prod(shapes[name]) // kernel.image_calls, shapes[name][-1] // calls) for name in "XY"
    )
    constants = {"W": (0, kernel.weight_elements), "B": (0, kernel.bias_elements)}
    # Elements from one image, and from one group, to the next.
    steps = {"X": x_step, "R": y_step, **constants, "Y": y_step}
    pointers = []
    for name, (image_step, group_step) in steps.items():
        if name in buffers:
            offset = _ELEMENT_BYTES * (image * image_step + group * group_step)
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
    part = slice(group * channels, (group + 1) * channels)
    return Constants(constants.weights[part], constants.bias[part])


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """``parts`` in one array, each at the next cache line: :mod:`schedules.lower.c_abi`."""
    return np.concatenate([np.pad(part, (0, _rounded_up(len(part)) - len(part))) for part in parts])


def _rounded_up(elements: int) -> int:
    return align(elements * _ELEMENT_BYTES) // _ELEMENT_BYTES
