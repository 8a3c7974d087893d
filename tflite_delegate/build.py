"""From a .tflite model to a delegate: plan, compile, generate the table of kernels, link."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from schedules import __version__
from schedules.c_abi import CKernel
from schedules.errors import LeanconvError
from schedules.files import check_writable, replace_atomically
from schedules.interrupts import interrupts_blocked
from schedules.memory import align
from schedules.planner import AUTO, NO_LIMITS, Limits, Plan, compile_plans
from schedules.simd import Simd
from schedules.toolchain import Toolchain
from schedules.tuning.advice import Advisor
from schedules.tuning.records import Record
from tflite_delegate.arena import held_bytes
from tflite_delegate.model import Layer
from tflite_delegate.remainder import Partition, between, operator_name, partitions
from tflite_delegate.selection import Kernel, Selection, select
from tflite_delegate.table import kernel_table

#: Called with how many steps are done, how many there are, and what comes next.
Progress = Callable[[int, int, str], None]

TABLE = "kernel_table.c"
#: What csrc/ ships.
SOURCE_SUFFIXES = (".c", ".h", ".map", ".txt")


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    ``workspace_bytes`` counts one thread, and each further one needs ``thread_bytes`` more; groups
    use it one after another. ``algorithm``, ``knobs`` and the byte counts are those of the default
    kernel where several algorithms are compiled for the layer. ``nodes`` are the node ``index`` and
    the neighbours that the kernel does as well; ``block`` the indices of all layers that it
    computes, if they are several.
    """

    index: int
    nodes: Sequence[int]
    op: str
    geometry: str
    claimed: bool
    algorithm: str | None
    block: Sequence[int]
    knobs: Mapping[str, Any] | None
    workspace_bytes: int
    thread_bytes: int
    weight_bytes: int
    packed_bytes: int
    macs: int
    kernel_macs: int
    expected_error: float | None
    why: str | None
    rejected: Sequence[str]
    reason: str | None
    tuning: str | None
    seconds: float | None


@dataclass(frozen=True)
class TuningReport:
    """The records that were used: of which board, and whether it was measured or modelled.

    ``warnings`` are about records that could not be.
    """

    board: str
    cost_kind: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What :func:`build` did.

    ``layers`` has one entry for every convolution, depthwise and fully-connected layer; ``between``
    maps the other nodes that the delegate computes to their operators; ``left`` is what TFLite
    keeps. ``peak_bytes`` is the most that tensors and one thread's workspace take at once.
    ``tuning`` is ``None`` without records.
    """

    model: str
    target: str
    leanconv: str
    objective: str
    algorithms: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    between: Mapping[int, str]
    left: tuple[Partition, ...]
    peak_bytes: int
    library_bytes: int
    seconds: float
    tuning: TuningReport | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def build(
    model_path: str | Path,
    output_path: str | Path,
    simd: Simd,
    *,
    algorithms: Sequence[str] = (AUTO,),
    limits: Limits = NO_LIMITS,
    objective: str = "time",
    records: Sequence[Record] = (),
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
    objective : str
        One of :data:`schedules.planner.OBJECTIVES`, for ``auto``.
    records : sequence of Record
        What was measured before (see :mod:`schedules.tuning.advice`), if anything; some of it for
        ``simd``.
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
    selection = select(model_path, simd, algorithms, limits, objective, records)
    steps = len(selection.kernels) + 1
    notify = progress or _silent
    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        folder = Path(name)
        kernels, sources = _write_sources(folder, selection, jobs, steps, notify)
        objects = [f"{kernel.name}.o" for kernel in kernels]
        notify(steps - 1, steps, f"linking {output.name}")
        linked = folder / "linked" / output.name  # whatever the name, no clash with a source
        linked.parent.mkdir()
        (toolchain or Toolchain.default()).link_library(folder, sources, objects, linked, simd)
        library = linked.read_bytes()
        replace_atomically(output, library)
    notify(steps, steps, f"wrote {output.name}")
    return _report(selection, kernels, len(library), time.monotonic() - start)


def export_sources(
    model_path: str | Path,
    folder: str | Path,
    simd: Simd,
    *,
    algorithms: Sequence[str] = (AUTO,),
    limits: Limits = NO_LIMITS,
    objective: str = "time",
    records: Sequence[Record] = (),
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
    selection = select(model_path, simd, algorithms, limits, objective, records)
    steps = len(selection.kernels)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            fresh = Path(name) / folder.name
            fresh.mkdir()
            kernels, _ = _write_sources(fresh, selection, jobs, steps, progress or _silent)
            if folder.exists():
                folder.rename(Path(name) / "old")
            fresh.rename(folder)
    except OSError as error:
        raise LeanconvError(f"cannot write {folder}: {error.strerror}") from None
    size = sum(len(kernel.data) for kernel in kernels)
    return _report(selection, kernels, size, time.monotonic() - start)


# Compiling


def _write_sources(
    folder: Path, selection: Selection, jobs: int | None, steps: int, notify: Progress
) -> tuple[list[Kernel], list[str]]:
    """Write everything that a C toolchain needs into ``folder``.

    Returns the compiled kernels, each of which is in an object named after it, and the names of the
    C files.
    """
    compiled = _compile(folder, selection, jobs, steps, notify)
    for kernel in compiled:
        (folder / f"{kernel.name}.o").write_bytes(kernel.data)
    for entry in resources.files("tflite_delegate").joinpath("csrc").iterdir():
        if entry.name.endswith(SOURCE_SUFFIXES):
            (folder / entry.name).write_bytes(entry.read_bytes())
    table = kernel_table(compiled, selection.model.path.name, selection.simd)
    (folder / TABLE).write_text(table, encoding="utf-8")
    sources = sorted(path.name for path in folder.glob("*.c"))
    return compiled, sources


def _compile(
    folder: Path, selection: Selection, jobs: int | None, steps: int, notify: Progress
) -> list[Kernel]:
    """Compile every kernel, in processes of their own where more than one can run."""
    kernels = selection.kernels
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(kernels))
    done: dict[str, Kernel] = {}

    def finish(kernel: Kernel) -> None:
        done[kernel.name] = kernel
        text = f"compiled {kernel.plan.algorithm} {kernel.plan.describe()}"
        notify(len(done), steps, text)

    notify(0, steps, f"compiling {len(kernels)} kernels")
    if jobs == 1:
        for kernel in kernels:
            finish(_compile_kernel(kernel, selection.simd))
    else:
        with _workers(jobs, folder) as executor:
            with interrupts_blocked():  # for the processes that the first call starts
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


def _use_temporary_folder(folder: str) -> None:
    tempfile.tempdir = folder


def _compile_kernel(kernel: Kernel, simd: Simd) -> Kernel:
    try:
        result = compile_plans({kernel.name: kernel.plan}, simd)
    except Exception as error:  # of whatever kind TVM raises, which not every process could unpack
        lines = str(error).strip().splitlines() or [type(error).__name__]
        plan = kernel.plan
        raise LeanconvError(
            f"{plan.algorithm} cannot be compiled for {plan.describe()}: {lines[-1]}; "
            "please report it, and try another --algorithm"
        ) from None
    return replace(kernel, compiled=result.kernels[kernel.name], data=result.data)


# Files and report


def _report(
    selection: Selection, kernels: Sequence[Kernel], library_bytes: int, seconds: float
) -> Report:
    compiled = {kernel.name: kernel.compiled for kernel in kernels if kernel.compiled}
    model = selection.model
    in_kernels = [node for s in selection.layers if s.kernels for node in s.layer.nodes]
    others = between(model, in_kernels)
    return Report(
        model=model.path.name,
        target=selection.simd.name,
        leanconv=__version__,
        objective=selection.objective,
        algorithms=tuple(dict.fromkeys(kernel.plan.algorithm for kernel in selection.kernels)),
        layers=tuple(_layer_report(selection, compiled, i) for i in range(len(selection.layers))),
        between={step.index: operator_name(step.code) for step in others},
        left=partitions(model, [*in_kernels, *(step.index for step in others)]),
        peak_bytes=_peak_bytes(selection),
        library_bytes=library_bytes,
        seconds=round(seconds, 3),
        tuning=_tuning_report(selection.advisor),
    )


def _tuning_report(advisor: Advisor | None) -> TuningReport | None:
    if advisor is None:
        return None
    return TuningReport(advisor.board, advisor.cost_kind, tuple(advisor.warnings))


def _peak_bytes(selection: Selection) -> int:
    blocks = {chain: kernel.plan for chain, kernel in selection.blocks.items()}
    in_block = {position for chain in blocks for position in chain}
    alone = {
        position: selected.kernels[0].plan
        for position, selected in enumerate(selection.layers)
        if selected.kernels and position not in in_block
    }
    return max(held_bytes(selection.model, alone, blocks), default=0)


def _layer_report(
    selection: Selection, compiled: Mapping[str, CKernel], position: int
) -> LayerReport:
    selected = selection.layers[position]
    layer = selected.layer
    kernel = selected.kernels[0] if selected.kernels else None
    plan = kernel.plan if kernel else None
    chain = next((chain for chain in selection.blocks if position in chain), (position,))
    place = chain.index(position) if plan and len(plan.layers) > 1 else 0
    return LayerReport(
        index=layer.index,
        nodes=list(layer.nodes),
        op=layer.op,
        geometry=layer.geometry,
        claimed=plan is not None,
        algorithm=plan.algorithm if plan else None,
        block=[selection.layers[i].layer.index for i in chain] if len(chain) > 1 else [],
        knobs=dict(plan.knobs) if plan else None,
        workspace_bytes=plan.workspace_bytes if plan else 0,
        thread_bytes=compiled[kernel.name].thread_bytes if kernel else 0,
        weight_bytes=layer.weight_bytes,
        packed_bytes=_packed_bytes(layer, plan, place) if plan else 0,
        macs=layer.macs,
        kernel_macs=_kernel_macs(plan, place) if plan else 0,
        expected_error=plan.expected_error if plan else None,
        why=plan.why if plan else None,
        rejected=list(plan.rejected) if plan else [],
        reason=selected.reason,
        tuning=kernel.tuning if kernel else None,
        seconds=_seconds(layer, kernel) if kernel and place == 0 else None,
    )


def _seconds(layer: Layer, kernel: Kernel) -> float | None:
    """Of the layer, or of the block that begins with it, by the records."""
    assert layer.workload is not None
    return None if kernel.seconds is None else layer.workload.batch * kernel.seconds


def _kernel_macs(plan: Plan, place: int) -> int:
    """Multiply-accumulates of one layer of the plan; what is done twice, its first layer does."""
    later = sum(layer.macs for layer in plan.layers[1:])
    return plan.calls * (plan.macs - later if place == 0 else plan.layers[place].macs)


def _packed_bytes(layer: Layer, plan: Plan, place: int) -> int:
    """Bytes of one layer's packed weights and biases; of each group, aligned.

    A kernel of a single layer reads float32 weights where they are, if they are in its order.
    """
    part = plan.parts[place]
    if len(plan.parts) == 1 and part.in_place and layer.float_order == part.layout:
        return 0
    group = part.bytes(plan.layers[place].element_bytes)
    return align(group) * (plan.calls - 1) + group


def _check_folder(path: Path) -> None:
    check_writable(path.with_name(f"{path.name}.new"))
    if path.exists() and not path.is_dir():
        raise LeanconvError(f"cannot write {path}: it is a file")
    if path.is_dir() and any(path.iterdir()) and not (path / TABLE).is_file():
        raise LeanconvError(f"cannot write {path}: it holds files that leanconv did not write")


def _silent(_done: int, _total: int, _text: str) -> None:
    pass
