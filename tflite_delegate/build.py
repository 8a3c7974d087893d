"""From a .tflite model to a delegate: plan, compile, generate the table of kernels, link."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from schedules import __version__
from schedules.algorithms import Unsupported
from schedules.c_abi import CKernel
from schedules.errors import LeanconvError
from schedules.memory import align
from schedules.packing import Matrix
from schedules.planner import (
    AUTO,
    NO_LIMITS,
    Choice,
    Limits,
    Plan,
    compile_plans,
    plan_form,
    plan_layer,
)
from schedules.simd import Simd
from schedules.workload import Conv2dWorkload
from tflite_delegate import model as tflite_model
from tflite_delegate.files import check_writable, replace_atomically
from tflite_delegate.model import Layer, Model
from tflite_delegate.toolchain import Toolchain

#: Called with how many steps are done, how many there are, and what comes next.
Progress = Callable[[int, int, str], None]

#: The processor features that kernel_table.h names.
CPU_FEATURES = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl",
    "neon", "dotprod", "fullfp16",
)  # fmt: skip
#: Activations as csrc/kernel_table.h numbers them.
ACTIVATION_CODES = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3, "hard_swish": 64}
#: The weight layouts that csrc/weights.c writes, as C constants.
LAYOUTS = {"panels": "LC_PANELS", "winograd": "LC_PANELS", "rows": "LC_ROWS", "taps": "LC_TAPS"}
TABLE = "kernel_table.c"
#: What csrc/ ships.
SOURCE_SUFFIXES = (".c", ".h", ".map", ".txt")


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    ``workspace_bytes`` counts one thread; groups use it one after another. ``algorithm``,
    ``knobs`` and the byte counts are those of the default kernel where several algorithms are
    compiled for the layer.
    """

    index: int
    op: str
    geometry: str
    claimed: bool
    algorithm: str | None
    knobs: Mapping[str, Any] | None
    workspace_bytes: int
    weight_bytes: int
    packed_bytes: int
    macs: int
    kernel_macs: int
    expected_error: float | None
    why: str | None
    rejected: Sequence[str]
    reason: str | None


@dataclass(frozen=True)
class Report:
    """What :func:`build` did: one entry for every convolution, depthwise and dense layer."""

    model: str
    target: str
    leanconv: str
    algorithms: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    library_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Kernel:
    """A plan under its C name; once compiled, with its object."""

    name: str
    plan: Plan
    compiled: CKernel | None = None
    data: bytes = b""


@dataclass
class _Selection:
    """The model's layers, each with its kernels (the default first) or a reason."""

    model: Model
    simd: Simd
    layers: list[tuple[Layer, list[_Kernel], str | None]] = field(default_factory=list)

    @property
    def kernels(self) -> list[_Kernel]:
        """Every kernel once, the defaults of all layers first."""
        longest = max(len(kernels) for _, kernels, _ in self.layers)
        by_name = {
            kernels[rank].name: kernels[rank]
            for rank in range(longest)
            for _, kernels, _ in self.layers
            if rank < len(kernels)
        }
        return list(by_name.values())


def build(
    model_path: str | Path,
    output_path: str | Path,
    simd: Simd,
    *,
    algorithms: Sequence[str] = (AUTO,),
    limits: Limits = NO_LIMITS,
    toolchain: Toolchain | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compile the convolutions of a .tflite model into a delegate.

    Parameters
    ----------
    model_path : path
        The model. Its layers decide which kernels are compiled.
    output_path : path
        The shared library to write. It appears when it is complete, or not at all.
    simd : Simd
        The processor to compile for.
    algorithms : sequence of str
        As :meth:`schedules.planner.Choice.parse` takes them. Each layer is compiled once for every
        one of these that supports it; the first is the default and the delegate's option
        ``algorithm`` chooses. ``auto`` chooses one for each layer.
    limits : Limits
        What no kernel may exceed.
    toolchain : Toolchain, optional
        C compiler and linker; by default zig.
    jobs : int, optional
        Layers that are compiled at the same time; by default as many as there are cores.
    progress : callable, optional
        Called with (steps done, steps in all, text).

    Raises
    ------
    LeanconvError
        If the model has nothing to compile, or anything cannot be read, compiled or written.
    """
    start = time.monotonic()
    output = Path(output_path)
    check_writable(output)
    selection = _select(model_path, simd, algorithms, limits)
    steps = len(selection.kernels) + 1
    notify = progress or _silent
    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        folder = Path(name)
        sources, objects = _write_sources(folder, selection, jobs, steps, notify)
        notify(steps - 1, steps, f"linking {output.name}")
        linked = folder / "linked" / output.name  # whatever the name, no clash with a source
        linked.parent.mkdir()
        (toolchain or Toolchain.default()).link_library(folder, sources, objects, linked, simd)
        library = linked.read_bytes()
        replace_atomically(output, library)
    notify(steps, steps, f"wrote {output.name}")
    return _report(selection, len(library), time.monotonic() - start)


def export_sources(
    model_path: str | Path,
    folder: str | Path,
    simd: Simd,
    *,
    algorithms: Sequence[str] = (AUTO,),
    limits: Limits = NO_LIMITS,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Like :func:`build`, but leave C sources, compiled kernels and a CMakeLists.txt in a folder.

    For projects that link the delegate with a toolchain of their own, such as an Android NDK. A
    folder of an earlier export is replaced; any other must be empty or not exist.
    ``library_bytes`` of the report counts the kernels' objects.
    """
    start = time.monotonic()
    folder = Path(folder)
    _check_folder(folder)
    selection = _select(model_path, simd, algorithms, limits)
    steps = len(selection.kernels)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            fresh = Path(name) / folder.name
            fresh.mkdir()
            _, objects = _write_sources(fresh, selection, jobs, steps, progress or _silent)
            size = sum((fresh / o).stat().st_size for o in objects)
            if folder.exists():
                folder.rename(Path(name) / "old")
            fresh.rename(folder)
    except OSError as error:
        raise LeanconvError(f"cannot write {folder}: {error.strerror}") from None
    return _report(selection, size, time.monotonic() - start)


# Choosing kernels


def _select(
    model_path: str | Path, simd: Simd, algorithms: Sequence[str], limits: Limits
) -> _Selection:
    """Plan every layer that can be taken; equal layers share their kernels."""
    choices = [Choice.parse(text) for text in dict.fromkeys(algorithms)]
    names = [choice.algorithm for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise LeanconvError(f"{name} is named twice: a delegate holds one form of it")
    selection = _Selection(tflite_model.read(model_path), simd)
    _check_knobs(choices, selection)
    planned: dict[Conv2dWorkload, tuple[list[_Kernel], str | None]] = {}
    for layer in selection.model.layers:
        if layer.workload is None:
            selection.layers.append((layer, [], layer.reason))
            continue
        # The delegate loops over the batch and over the groups.
        workload = layer.workload.with_batch(1).of_one_kernel()
        if workload not in planned:
            planned[workload] = _plan(len(planned), workload, simd, choices, limits)
        selection.layers.append((layer, *planned[workload]))
    if not any(kernels for _, kernels, _ in selection.layers):
        raise LeanconvError(_nothing_to_compile(selection))
    return selection


def _check_knobs(choices: Sequence[Choice], selection: _Selection) -> None:
    """Refuse a choice whose knobs no layer has: a mistake, even if another choice serves them all.

    A layer that offers less than others, as a 1x1 convolution does, is left out of that choice.
    """
    layers = [layer.workload for layer in selection.model.layers if layer.workload is not None]
    for choice in choices:
        error = None
        for workload in layers if choice.knobs else ():
            try:
                plan_form(choice, workload.with_batch(1).of_one_kernel(), selection.simd)
                break
            except Unsupported as reason:
                error = reason
        else:
            if error is not None:
                raise LeanconvError(f"no layer can be compiled with {choice}: {error}")


def _plan(
    index: int, workload: Conv2dWorkload, simd: Simd, choices: Sequence[Choice], limits: Limits
) -> tuple[list[_Kernel], str | None]:
    """One kernel for each choice that can serve the workload, or why none can."""
    kernels: dict[str, _Kernel] = {}
    reasons = []
    for choice in choices:
        try:
            plan = plan_layer(workload, simd, choice, limits)
        except Unsupported as error:
            reasons.append(str(error) if choice.algorithm == AUTO else f"{choice}: {error}")
            continue
        unknown = [part.layout for part in plan.parts if part.layout not in LAYOUTS]
        if unknown:
            reasons.append(f"{plan.algorithm}: weight layout {unknown[0]!r} is not known")
            continue
        # What auto has chosen may be named as well.
        kernels.setdefault(plan.algorithm, _Kernel(f"lc_k{index}_{plan.algorithm}", plan))
    return list(kernels.values()), None if kernels else "; ".join(reasons)


def _nothing_to_compile(selection: _Selection) -> str:
    name = selection.model.path.name
    if not selection.layers:
        return f"{name} has no convolutions: there is nothing to compile"
    layer, _, reason = next(
        (entry for entry in selection.layers if entry[0].op == "CONV_2D"), selection.layers[0]
    )
    return (
        f"{name} has no float32 convolution that leanconv can take: "
        f"node {layer.index}, {layer.op} {layer.geometry}: {reason}"
    )


# Compiling


def _write_sources(
    folder: Path, selection: _Selection, jobs: int | None, steps: int, notify: Progress
) -> tuple[list[str], list[str]]:
    """Write everything that a C toolchain needs into ``folder``: C files and objects by name."""
    compiled = _compile(folder, selection, jobs, steps, notify)
    objects = []
    for kernel in compiled:
        (folder / f"{kernel.name}.o").write_bytes(kernel.data)
        objects.append(f"{kernel.name}.o")
    for entry in resources.files("tflite_delegate").joinpath("csrc").iterdir():
        if entry.name.endswith(SOURCE_SUFFIXES):
            (folder / entry.name).write_bytes(entry.read_bytes())
    table = kernel_table(compiled, selection.model.path.name, selection.simd)
    (folder / TABLE).write_text(table, encoding="utf-8")
    sources = sorted(path.name for path in folder.glob("*.c"))
    return sources, objects


def _compile(
    folder: Path, selection: _Selection, jobs: int | None, steps: int, notify: Progress
) -> list[_Kernel]:
    """Compile every kernel, in processes of their own where more than one can run."""
    kernels = selection.kernels
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(kernels))
    done: dict[str, _Kernel] = {}

    def finish(kernel: _Kernel) -> None:
        done[kernel.name] = kernel
        text = f"compiled {kernel.plan.algorithm} {kernel.plan.workload.describe()}"
        notify(len(done), steps, text)

    notify(0, steps, f"compiling {len(kernels)} kernels")
    if jobs == 1:
        for kernel in kernels:
            finish(_compile_kernel(kernel, selection.simd))
    else:
        with _workers(jobs, folder) as executor:
            with _interrupts_blocked():  # for the processes that the first call starts
                pending = [executor.submit(_compile_kernel, k, selection.simd) for k in kernels]
            for future in as_completed(pending):
                try:
                    finish(future.result())
                except BrokenExecutor:
                    raise LeanconvError(
                        "a compiling process died, perhaps for want of memory: try --jobs 1"
                    ) from None
    return [done[kernel.name] for kernel in kernels]


@contextmanager
def _workers(jobs: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """Processes that end at once when the work is interrupted.

    Their temporary files are in ``folder``, since they may not come to remove them.
    """
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_use_temporary_folder,
        initargs=(str(folder),),
    )
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        # Not terminate(): LLVM has a handler for that signal, which can wait for ever.
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
            process.join()
        raise
    executor.shutdown()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """New processes leave Ctrl-C, which a terminal sends to all of them, to this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _use_temporary_folder(folder: str) -> None:
    tempfile.tempdir = folder


def _compile_kernel(kernel: _Kernel, simd: Simd) -> _Kernel:
    try:
        result = compile_plans({kernel.name: kernel.plan}, simd)
    except Exception as error:  # of whatever kind TVM raises, which not every process could unpack
        lines = str(error).strip().splitlines() or [type(error).__name__]
        plan = kernel.plan
        raise LeanconvError(
            f"{plan.algorithm} cannot be compiled for {plan.workload.describe()}: {lines[-1]}; "
            "please report it, and try another --algorithm"
        ) from None
    return _Kernel(kernel.name, kernel.plan, result.kernels[kernel.name], result.data)


# The table


def kernel_table(kernels: Sequence[_Kernel], model_name: str, simd: Simd) -> str:
    """The C source that tells the delegate about the compiled kernels (see kernel_table.h)."""
    unknown = sorted(simd.features - set(CPU_FEATURES))
    if unknown:
        raise LeanconvError(f"the delegate cannot check for the processor feature {unknown[0]!r}")
    features = " | ".join(
        f"LC_CPU_{name.upper()}" for name in CPU_FEATURES if name in simd.features
    )
    names = list(dict.fromkeys(kernel.plan.algorithm for kernel in kernels))
    lines = ["// Generated by leanconv.", "", '#include "kernel_table.h"', ""]
    for kernel in kernels:
        lines += _stages(kernel)
    used = dict.fromkeys(part.transform for kernel in kernels for part in kernel.plan.parts)
    transforms = {
        matrices: f"transform{index}" for index, matrices in enumerate(filter(None, used))
    }
    for matrices, name in transforms.items():
        lines += _transform(name, *matrices)
    for kernel in kernels:
        lines += _layers(kernel.name, kernel.plan, transforms)
    if kernels:
        lines += ["", "static const struct lc_kernel kernels[] = {"]
        for kernel in kernels:
            lines += _table_entry(kernel)
        algorithms = ", ".join(_c_string(name) for name in names)
        lines += ["};", "", f"static const char *const algorithms[] = {{{algorithms}}};"]
    lines += [
        "",
        "const struct lc_library lc_library = {",
        f"    .version = {_c_string(__version__)},",
        f"    .model = {_c_string(model_name)},",
        f"    .target = {_c_string(simd.name)},",
        f"    .features = {features or 0},",
        f"    .kernels = {'kernels' if kernels else 0},",
        f"    .kernel_count = {len(kernels)},",
        f"    .algorithms = {'algorithms' if kernels else 0},",
        f"    .algorithm_count = {len(names)},",
        "};",
    ]
    return "\n".join(lines) + "\n"


def _stages(kernel: _Kernel) -> list[str]:
    assert kernel.compiled is not None, "the table lists compiled kernels"
    lines = [f"lc_stage_function {stage.symbol};" for stage in kernel.compiled.stages]
    entries = ", ".join(f"{{{stage.symbol}, {stage.extent}}}" for stage in kernel.compiled.stages)
    return [*lines, f"static const struct lc_stage {kernel.name}_stages[] = {{{entries}}};"]


def _transform(name: str, height: Matrix, width: Matrix) -> list[str]:
    lines = [
        f"static const double {name}_{axis}[] = "
        f"{{{', '.join(float(value).hex() for row in matrix for value in row)}}};"
        for axis, matrix in (("height", height), ("width", width))
    ]
    sizes = f"{len(height)}, {len(width)}"
    value = f"{{{sizes}, {name}_height, {name}_width}}"
    return [*lines, f"static const struct lc_transform {name} = {value};"]


def _layers(name: str, plan: Plan, transforms: Mapping[tuple[Matrix, Matrix], str]) -> list[str]:
    """The geometry and the packed weights of every layer of a kernel."""
    layers = [_initializer(_geometry(workload)) for workload in plan.layers]
    parts = [
        _initializer(
            {
                "layout": LAYOUTS[part.layout],
                "panel": part.panel,
                "transform": f"&{transforms[part.transform]}" if part.transform else 0,
                "packed_bytes": part.elements * workload.element_bytes,
                "bias_elements": part.bias_elements,
            }
        )
        for workload, part in zip(plan.layers, plan.parts, strict=True)
    ]
    return [
        f"static const struct lc_geometry {name}_layers[] = {{{', '.join(layers)}}};",
        f"static const struct lc_part {name}_parts[] = {{{', '.join(parts)}}};",
    ]


def _geometry(workload: Conv2dWorkload) -> dict[str, int]:
    layer = workload.all_groups()
    geometry: dict[str, int] = {
        name: getattr(layer, name)
        for name in (
            "in_height", "in_width", "in_channels", "out_channels", "kernel_height",
            "kernel_width", "stride_height", "stride_width", "dilation_height",
            "dilation_width", "pad_top", "pad_bottom", "pad_left", "pad_right", "groups",
        )
    }  # fmt: skip
    geometry["activation"] = ACTIVATION_CODES[layer.activation]
    geometry["residual"] = int(layer.residual)
    geometry["output_activation"] = ACTIVATION_CODES[layer.output_activation]
    return geometry


def _initializer(fields: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f".{name} = {value}" for name, value in fields.items()) + "}"


def _table_entry(kernel: _Kernel) -> list[str]:
    assert kernel.compiled is not None, "the table lists compiled kernels"
    plan = kernel.plan
    fields = {
        "algorithm": _c_string(plan.algorithm),
        "name": _c_string(f"leanconv/{plan.algorithm} {plan.describe()}"),
        "layers": f"{kernel.name}_layers",
        "parts": f"{kernel.name}_parts",
        "layer_count": len(plan.layers),
        "calls": plan.calls,
        "shared_bytes": kernel.compiled.shared_bytes,
        "thread_bytes": kernel.compiled.thread_bytes,
        "stages": f"{kernel.name}_stages",
        "stage_count": len(kernel.compiled.stages),
    }
    return ["    {", *(f"        .{key} = {value}," for key, value in fields.items()), "    },"]


def _c_string(text: str) -> str:
    """``text`` as a C string literal."""
    plain = {*range(0x20, 0x7F)} - {ord('"'), ord("\\"), ord("?")}  # "??" may start a trigraph
    data = text.encode("utf-8", "replace")
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in data) + '"'


# Files and report


def _report(selection: _Selection, library_bytes: int, seconds: float) -> Report:
    layers = []
    for layer, kernels, reason in selection.layers:
        plan = kernels[0].plan if kernels else None
        layers.append(
            LayerReport(
                index=layer.index,
                op=layer.op,
                geometry=layer.geometry,
                claimed=plan is not None,
                algorithm=plan.algorithm if plan else None,
                knobs=dict(plan.knobs) if plan else None,
                workspace_bytes=plan.workspace_bytes if plan else 0,
                weight_bytes=layer.weight_bytes,
                packed_bytes=_packed_bytes(plan) if plan else 0,
                macs=layer.macs,
                kernel_macs=plan.macs * plan.calls if plan else 0,
                expected_error=plan.expected_error if plan else None,
                why=plan.why if plan else None,
                rejected=list(plan.rejected) if plan else [],
                reason=reason,
            )
        )
    return Report(
        model=selection.model.path.name,
        target=selection.simd.name,
        leanconv=__version__,
        algorithms=tuple(dict.fromkeys(kernel.plan.algorithm for kernel in selection.kernels)),
        layers=tuple(layers),
        library_bytes=library_bytes,
        seconds=round(seconds, 3),
    )


def _packed_bytes(plan: Plan) -> int:
    """Bytes of the packed weights and biases of all groups, each of which is aligned."""
    group = plan.packed.bytes(plan.workload.element_bytes)
    return align(group) * (plan.calls - 1) + group


def _check_folder(path: Path) -> None:
    check_writable(path.with_name(f"{path.name}.new"))
    if path.exists() and not path.is_dir():
        raise LeanconvError(f"cannot write {path}: it is a file")
    if path.is_dir() and any(path.iterdir()) and not (path / TABLE).is_file():
        raise LeanconvError(f"cannot write {path}: it holds files that leanconv did not write")


def _silent(_done: int, _total: int, _text: str) -> None:
    pass
