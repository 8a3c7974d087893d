"""From a .tflite model to a delegate: plan, compile, generate the table of kernels, link."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schedules import __version__
from schedules.budget.recorded import RecordedPlan
from schedules.errors import LeanconvError
from schedules.files import check_room, check_writable, replace_atomically
from schedules.plan.choice import AUTO
from schedules.plan.planner import NO_LIMITS, Limits
from schedules.progress import Progress
from schedules.select.compile import compile_kernels
from schedules.select.report import LayerReport, TuningReport, tuning_report
from schedules.select.selection import Kernel, Selection, all_kernels
from schedules.target import elf
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.records.records import Record
from tflite_delegate.embedding.embedding import OBJECT, embed
from tflite_delegate.read.model import Model
from tflite_delegate.read.supported import Partition
from tflite_delegate.report import GraphReport, graph_report
from tflite_delegate.rules import DEFAULT as DEFAULT_ROUNDING
from tflite_delegate.selection import select
from tflite_delegate.sources import TARGET, copy_sources, target_header
from tflite_delegate.table import kernel_table
from tflite_delegate.targeted import read_for

TABLE = "kernel_table.c"


@dataclass(frozen=True)
class Report:
    """What :func:`build` did.

    ``layers``, ``between``, ``left`` and ``peak_bytes`` are those of the main graph, as in
    :class:`GraphReport`; ``subgraphs`` are the further graphs of the model. ``own_bytes`` are no
    fewer than the delegate keeps on the heap beside packed weights. ``tuning`` is ``None`` without
    records.
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
    own_bytes: int
    subgraphs: tuple[GraphReport, ...]
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
    rounding: str = DEFAULT_ROUNDING,
    precision: str | None = None,
    toolchain: Toolchain | None = None,
    batch: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    plan: RecordedPlan | None = None,
    smaller: Sequence[int] = (),
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
        As :meth:`schedules.plan.planner.Choice.parse` takes them. Each layer is compiled once for
        every one of these that supports it; the first is the default and the delegate's option
        ``algorithm`` chooses. ``auto`` chooses one for each layer.
    limits : Limits
        What no kernel may exceed.
    objective : str
        One of :data:`schedules.plan.objectives.OBJECTIVES`, for ``auto``.
    records : sequence of Record
        What was measured before (see :mod:`schedules.tuning.advice`), if anything; some of it for
        ``simd``.
    rounding : str
        Whose arithmetic quantised tensors are computed by: one of
        the keys of :data:`tflite_delegate.table.ROUNDINGS`.
    precision : {"fp32", "fp16"}, optional
        What layers of floats are computed in: see :mod:`tflite_delegate.precision`.
    toolchain : Toolchain, optional
        C compiler and linker; by default zig.
    batch : int, optional
        Images that inputs will be resized to, of a model for one.
    jobs : int, optional
        As of :func:`schedules.select.compile.compile_kernels`.
    progress : callable, optional
        Called with (steps done, steps in all, text).
    plan : RecordedPlan, optional
        The kernels to take, whatever else could be chosen.
    smaller : sequence of int
        Limits below that on ``held_bytes``: the library has a plan within each of them as well, and
        the delegate takes the first that its option ``memory_limit`` allows.

    Raises
    ------
    LeanconvError
        If the model has nothing to compile, or anything cannot be read, compiled or written.
    """
    start = time.monotonic()
    output = Path(output_path)
    check_writable(output)
    model = read_for(model_path, simd, batch, rounding, precision)
    selections = select(model, simd, algorithms, limits, objective, records, plan, smaller)
    steps = len(all_kernels(selections)) + 1
    notify = progress or _silent
    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        folder = Path(name)
        kernels, objects, sources = _write_sources(
            folder, model, selections, rounding, jobs, steps, notify
        )
        notify(steps - 1, steps, f"linking {output.name}")
        linked = folder / "linked" / output.name  # whatever the name, no clash with a source
        linked.parent.mkdir()
        page_bytes = elf.HUGE_PAGE_BYTES if OBJECT in objects else elf.PAGE_BYTES
        (toolchain or Toolchain.default()).link_library(
            folder, sources, objects, linked, simd, page_bytes
        )
        library = linked.read_bytes()
        replace_atomically(output, library)
    notify(steps, steps, f"wrote {output.name}")
    return _report(model, selections, kernels, len(library), time.monotonic() - start)


def export_sources(
    model_path: str | Path,
    folder: str | Path,
    simd: Simd,
    *,
    algorithms: Sequence[str] = (AUTO,),
    limits: Limits = NO_LIMITS,
    objective: str = "time",
    records: Sequence[Record] = (),
    rounding: str = DEFAULT_ROUNDING,
    precision: str | None = None,
    batch: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    plan: RecordedPlan | None = None,
    smaller: Sequence[int] = (),
) -> Report:
    """Like :func:`build`, but leave C sources, compiled kernels and a CMakeLists.txt in a folder.

    For projects that link the delegate with a toolchain of their own, such as an Android NDK. A
    folder of an earlier export is replaced; any other must be empty or not exist.
    ``library_bytes`` of the report counts the kernels' objects.
    """
    start = time.monotonic()
    folder = Path(folder)
    _check_folder(folder)
    model = read_for(model_path, simd, batch, rounding, precision)
    selections = select(model, simd, algorithms, limits, objective, records, plan, smaller)
    steps = len(all_kernels(selections))
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            fresh = Path(name) / folder.name
            fresh.mkdir()
            notify = progress or _silent
            kernels, *_ = _write_sources(fresh, model, selections, rounding, jobs, steps, notify)
            if folder.exists():
                folder.rename(Path(name) / "old")
            fresh.rename(folder)
    except OSError as error:
        raise LeanconvError(f"cannot write {folder}: {error.strerror}") from None
    size = sum(len(kernel.data) for kernel in kernels)
    return _report(model, selections, kernels, size, time.monotonic() - start)


# Compiling


def _write_sources(
    folder: Path,
    model: Model,
    selections: Sequence[Selection],
    rounding: str,
    jobs: int | None,
    steps: int,
    notify: Progress,
) -> tuple[list[Kernel], list[str], list[str]]:
    """Write everything that a C toolchain needs into ``folder``.

    Returns the compiled kernels, and the names of the objects and of the C files.
    """
    simd = selections[0].simd
    compiled = compile_kernels(
        all_kernels(selections), simd, jobs, lambda done, _, text: notify(done, steps, text)
    )
    graphs, others = selections[: len(model.graphs)], selections[len(model.graphs) :]
    embedded = embed(folder, model, [selections[0], *others])
    for kernel in compiled:
        (folder / f"{kernel.name}.o").write_bytes(kernel.data)
    sources = copy_sources(folder)
    (folder / TARGET).write_text(target_header(simd), encoding="utf-8")
    table = kernel_table(compiled, model.name, simd, graphs, rounding, embedded, others)
    (folder / TABLE).write_text(table, encoding="utf-8")
    objects = [f"{kernel.name}.o" for kernel in compiled] + [OBJECT] * bool(embedded)
    return compiled, objects, [*sources, TABLE]


# Files and report


def _report(
    model: Model,
    selections: Sequence[Selection],
    kernels: Sequence[Kernel],
    library_bytes: int,
    seconds: float,
) -> Report:
    compiled = {kernel.name: kernel.compiled for kernel in kernels if kernel.compiled}
    main, *others = (
        graph_report(graph, selection, compiled)
        for graph, selection in zip(model.graphs, selections[: len(model.graphs)], strict=True)
    )
    return Report(
        model=model.name,
        target=selections[0].simd.name,
        leanconv=__version__,
        objective=selections[0].objective,
        algorithms=tuple(dict.fromkeys(kernel.plan.algorithm for kernel in kernels)),
        layers=main.layers,
        between=main.between,
        left=main.left,
        peak_bytes=main.peak_bytes,
        own_bytes=model.own_bytes,
        subgraphs=tuple(others),
        library_bytes=library_bytes,
        seconds=round(seconds, 3),
        tuning=tuning_report(selections[0].advisor),
    )


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise LeanconvError(f"cannot write {path}: it is a file")
    check_room(path)
    if path.is_dir() and any(path.iterdir()) and not (path / TABLE).is_file():
        raise LeanconvError(f"cannot write {path}: it holds files that leanconv did not write")


def _silent(_done: int, _total: int, _text: str) -> None:
    pass
