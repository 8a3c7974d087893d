"""Run compiled kernels bare, without a delegate: on this machine or on the emulated board."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from schedules.algorithms import REGISTRY
from schedules.algorithms.winograd.domain import Domain
from schedules.kernel import packing
from schedules.kernel.sharing import Share
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.lower.kernel import CKernel
from schedules.lower.memory import ALIGNMENT, align
from schedules.plan.plan import Plan
from schedules.plan.stored_kernels import compile_plans
from schedules.store import Store, digest
from schedules.target.simd import PRESETS, Simd
from schedules.target.toolchain import Toolchain
from scripts.board.board import Board
from tests.support.reference import conv2d, finish, strassen_bound, winograd_bound
from tests.support.volume_bound import volume_bound

#: What no kernel may leave in its output: an element that it forgot.
UNWRITTEN = np.float32(np.nan)
#: Of integers any element may be right: this one is rarely.
UNWRITTEN_INTEGER = 77


def nothing(dtype: np.dtype) -> Any:
    """What stands where nothing was written."""
    return UNWRITTEN if dtype.kind == "f" else UNWRITTEN_INTEGER


def is_nothing(values: np.ndarray) -> np.ndarray:
    """Where nothing was written."""
    return np.isnan(values) if values.dtype.kind == "f" else values == UNWRITTEN_INTEGER


#: Kernels to compile into one object: fewer take longer, and the store does not keep huge ones.
GROUP = 16


@dataclass(frozen=True)
class Case:
    """Arguments of one convolution, and what must come out of it.

    ``expected`` and ``bound`` are float64, of the output's shape. All tensors are dense; a kernel
    for one of ``groups`` groups is called with :func:`among_groups` of them.
    """

    groups: int
    x: np.ndarray
    residual: np.ndarray | None
    weights: np.ndarray
    bias: np.ndarray
    expected: np.ndarray
    bound: np.ndarray
    #: Of int8 weights, which then are float64: the weights as stored, and the channels' scales.
    codes: np.ndarray | None = None
    scales: np.ndarray | None = None

    @classmethod
    def random(cls, workload: Conv2dWorkload, seed: int = 0) -> Case:
        """Normally distributed arguments, weights scaled so that the output is of order 1."""
        random = np.random.default_rng(seed)
        x = random.standard_normal(workload.input_shape, np.float32).astype(workload.dtype)
        weights: np.ndarray = random.standard_normal(workload.weight_shape, np.float32)
        weights /= np.float32(np.sqrt(workload.reduction))
        codes = scales = None
        if workload.weight_dtype == "int8":
            codes = np.clip(np.rint(weights * 256), -128, 127).astype(np.int8)
            scales = random.uniform(0.002, 0.008, len(codes)).astype(np.float32)
            weights = codes * scales.astype(np.float64)[:, None, None, None]
        else:
            weights = weights.astype(workload.weight_dtype)
        bias = random.standard_normal(workload.out_channels, np.float32)
        residual = None
        if workload.residual:
            residual = random.standard_normal(workload.output_shape, np.float32)
            residual = residual.astype(workload.dtype)
        exact, bound = conv2d(workload, x, weights, bias, residual)
        shape = (x, residual, weights, bias, exact, bound, codes, scales)
        return cls(workload.group_of, *shape)

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        """Whole tensors ``x`` and perhaps ``r``, packed weights ``w`` and bias ``b``."""
        packed, weights, constants = plan.packed, self.weights, self.bias
        constants = packing.pack_bias(self.bias, packed)
        if packed.has_scales:
            assert self.codes is not None and self.scales is not None
            weights = self.codes
            behind = packing.pack_bias(self.scales, packed)
            gap = np.zeros((packed.constant_bytes - 2 * behind.nbytes) // 4, np.float32)
            constants = np.concatenate([constants, gap, behind])
        given = {
            "x": among_groups(self.x, self.groups),
            "w": packing.pack(weights, packed),
            "b": constants,
        }
        return given if self.residual is None else {**given, "r": self.residual}

    def check(self, y: np.ndarray, plan: Plan) -> None:
        """Fail unless every element of ``y`` is within the bound for ``plan``'s algorithm."""
        y = y.reshape(self.expected.shape)
        case = (self.x, self.weights, self.bias, self.bound, self.residual)
        bound = error_bound(plan, plan.layer, *case)
        worst = np.abs(y - self.expected) - bound
        # Written so that an element that is not a number fails too.
        assert (worst <= 0).all(), f"off by up to {np.nanmax(worst):.3g} more than the bound"


def serves(algorithm: str, workload: Conv2dWorkload, simd: Simd) -> bool:
    """Whether there is a kernel for a layer, grouped or not."""
    return REGISTRY.get(algorithm).supports(workload.of_one_kernel(), simd) is None


def error_bound(
    plan: Plan,
    workload: Conv2dWorkload,
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None,
    direct: np.ndarray,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """How far ``plan``'s algorithm may be from float64 on ``workload``.

    ``plan`` may be that of one group and another batch. ``direct`` is the bound of an algorithm
    that sums the products of the definition.
    """
    if plan.algorithm not in ("strassen", "winograd", "winograd3d"):
        return direct
    if plan.algorithm == "strassen":
        bound = strassen_bound(workload, x, weights, bias)
    elif isinstance(plan.layer, Conv3dWorkload):
        bound = volume_bound(workload, plan.knobs, x, weights, bias)
    else:
        domain = Domain.of(plan.layer, plan.knobs)
        bound = winograd_bound(workload, (domain.rows, domain.columns), x, weights, bias)
    if workload.activation in ACTIVATIONS and not workload.residual:
        return bound
    linear = replace(workload, activation="none", residual=False, output_activation="none")
    exact, _ = conv2d(linear, x, weights, bias)
    return finish(workload, exact, bound, residual)[1]


def among_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """NHWC ``values`` as the channels of the middle one of several groups, the others unwritten."""
    shape = (*values.shape[:-1], groups * values.shape[-1])
    whole = np.full(shape, nothing(values.dtype), values.dtype)
    of_group(whole, groups)[...] = values
    return whole


def of_group(whole: np.ndarray, groups: int) -> np.ndarray:
    """The channels of the middle group, in place."""
    channels = whole.shape[-1] // groups
    return whole[..., groups // 2 * channels :][..., :channels]


def alone(whole: np.ndarray, groups: int) -> np.ndarray:
    """The middle group of an output; fail if another one was touched."""
    values = of_group(whole, groups).copy()
    of_group(whole, groups)[...] = nothing(whole.dtype)
    assert is_nothing(whole).all(), "the kernel wrote into another group"
    return values


def compile_library(
    plans: Mapping[str, Plan], simd: Simd, folder: Path
) -> tuple[dict[str, CKernel], Path]:
    """Any number of kernels, by name, and a library of them in ``folder``."""
    names, objects = list(plans), []
    kernels: dict[str, CKernel] = {}
    for i in range(0, len(names), GROUP):
        group = compile_plans({name: plans[name] for name in names[i : i + GROUP]}, simd)
        kernels |= group.kernels
        objects.append(group.data)
    return kernels, link(objects, folder / "kernels.so")


def link(objects: Sequence[bytes], library: Path) -> Path:
    """A shared library of compiled kernels, for their processor."""
    store, key = Store.default(), digest("ld.lld", version("ziglang"), *objects)
    linked = store.get(key)
    if linked is not None:
        library.write_bytes(linked)
        return library
    files = [library.with_suffix(f".{number}.o") for number in range(len(objects))]
    for file, data in zip(files, objects, strict=True):
        file.write_bytes(data)
    Toolchain.default("ld.lld").run(["-shared", "-o", library, *files])
    store.put(key, library.read_bytes())
    return library


def misaligned(values: np.ndarray) -> np.ndarray:
    """A copy that starts one element behind a cache line: kernels may not assume more."""
    size = values.size + 2 * ALIGNMENT // values.itemsize
    memory = np.full(size, nothing(values.dtype), values.dtype)
    start = (-memory.ctypes.data % ALIGNMENT) // values.itemsize + 1
    view = memory[start : start + values.size].reshape(values.shape)
    view[...] = values
    return view


class AnyCase(Protocol):
    """What runs a kernel knows of its case: a layer's, or a block's."""

    @property
    def groups(self) -> int: ...

    @property
    def x(self) -> np.ndarray: ...

    @property
    def expected(self) -> np.ndarray: ...

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        """Those beside the output."""


class HostKernel:
    """One compiled plan, callable on this machine."""

    def __init__(self, plan: Plan, simd: Simd, folder: Path) -> None:
        kernels, library = compile_library({"kernel": plan}, simd, folder)
        self.plan = plan
        self.kernel = kernels["kernel"]
        algorithm = REGISTRY.get(plan.algorithm).applied_to(plan.workload)
        own = algorithm.thread_bytes(plan.workload, plan.knobs)
        assert self.kernel.thread_bytes == align(own)
        if type(algorithm).__module__.startswith("schedules."):  # an own one may leave it out
            self._check_shares(algorithm.shares(plan.workload, simd, plan.knobs))
        self.library = ctypes.CDLL(str(library))

    def _check_shares(self, shares: Sequence[Share]) -> None:
        """What the planner's seconds of several threads come from."""
        assert len(self.kernel.stages) == len(shares)
        if not self.plan.layers[0].is_dynamic:  # whose first stages take hardly any time
            extents = [stage.extent for stage in self.kernel.stages]
            assert extents == [share.items for share in shares]

    def __call__(self, case: AnyCase, threads: int = 1, pieces: int = 1) -> np.ndarray:
        """The output, computed by ``threads`` slices in ``pieces`` ranges of every stage."""
        given = case.arguments(self.plan)
        # A residual may be the input itself.
        copies = {id(values): misaligned(values) for values in given.values()}
        x, w, b = (copies[id(given[key])] for key in "xwb")
        r = copies.get(id(given.get("r")))
        y = misaligned(unwritten(case))
        buffers = [of_group(x, case.groups), r, w, b, of_group(y, case.groups)]
        workspace = guarded_workspace(self.kernel, threads)
        run_stages(self.library, self.kernel, buffers, workspace, threads, pieces)
        assert (workspace.guard == GUARD).all(), "the kernel wrote behind its workspace"
        return alone(y, case.groups)


def unwritten(case: AnyCase) -> np.ndarray:
    """The whole tensor of an output before it is computed."""
    # What is expected of floats is float64.
    dtype = case.x.dtype if case.expected.dtype.kind == "f" else case.expected.dtype
    return among_groups(np.full(case.expected.shape, nothing(dtype), dtype), case.groups)


GUARD = 0xA5


@dataclass(frozen=True)
class Workspace:
    """Exactly the bytes that a kernel asks for, and a guard behind them."""

    memory: np.ndarray
    start: int
    size: int

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data) + self.start

    @property
    def guard(self) -> np.ndarray:
        return self.memory[self.start + self.size :]


def guarded_workspace(kernel: CKernel, threads: int) -> Workspace:
    """A workspace for ``threads`` threads; for one, without alignment behind the last buffer."""
    size = kernel.workspace_bytes
    if threads > 1:
        size = kernel.shared_bytes + threads * kernel.thread_bytes
    memory = np.full(size + 4 * ALIGNMENT, GUARD, np.uint8)
    return Workspace(memory, int(-memory.ctypes.data % ALIGNMENT), size)


def run_stages(
    library: ctypes.CDLL,
    kernel: CKernel,
    buffers: Sequence[np.ndarray | None],
    workspace: Workspace,
    threads: int,
    pieces: int,
) -> None:
    """Call every stage for each of ``pieces`` ranges, as thread ``piece mod threads``."""
    pointers = [None if buffer is None else buffer.ctypes.data for buffer in buffers]
    for stage in kernel.stages:
        function = getattr(library, stage.symbol)
        function.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int32] * 3
        function.restype = ctypes.c_int32
        for piece in range(pieces):
            begin, end = (stage.extent * (piece + i) // pieces for i in (0, 1))
            status = function(*pointers, workspace.address, piece % threads, begin, end)
            assert status == 0


def run_on_board(
    cpu: str, plans: Mapping[str, Plan], cases: Mapping[str, AnyCase], folder: Path
) -> dict[str, np.ndarray]:
    """Outputs of ``plans`` for ``cases``, by name, computed on the board by aarch64 code."""
    kernels, library = compile_library(plans, PRESETS[cpu], folder)
    arguments: dict[str, Any] = {}
    manifest = {}
    for name, case in cases.items():
        kernel, given = kernels[name], case.arguments(plans[name])
        arguments |= {f"{name}.{key}": values for key, values in given.items()}
        y = unwritten(case)
        arguments[f"{name}.y"] = y
        manifest[name] = {
            "stages": [[stage.symbol, stage.extent] for stage in kernel.stages],
            "workspace": kernel.shared_bytes + kernel.thread_bytes,
            "offsets": {
                argument: of_group(tensor, case.groups).ctypes.data - tensor.ctypes.data
                for argument, tensor in (("x", given["x"]), ("y", y))
            },
        }
    np.savez(folder / "arguments.npz", **arguments)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    script = Path(__file__).with_name("board_kernels.py")
    emulated = Board.default()
    emulated.setup()
    emulated.python([script, library, folder], cpu)
    with np.load(folder / "outputs.npz") as outputs:
        return {name: alone(outputs[name], case.groups) for name, case in cases.items()}
