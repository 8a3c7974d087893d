"""What stands behind ``tvmc compile``, for programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from schedules.progress import Progress
from schedules.target.simd import Simd
from tvmc.command import WEIGHTS, byte_count, embedding

if TYPE_CHECKING:
    from schedules.budget.recorded import RecordedPlan
    from schedules.tuning.records.calibration import Calibration
    from schedules.tuning.records.records import Record
    from tflite_delegate.build import Report
    from tvmc.compiling.module_compiler import ModuleReport
    from tvmc.running.loader import Model

#: What :func:`compile` can make of a model.
OUTPUT_FORMATS = ("delegate", "delegate-source", "so", "tar")


def compile(
    model: str | Path | Model,
    *,
    output: str | Path,
    target: str = "host",
    output_format: str = "delegate",
    algorithms: Sequence[str] = ("auto",),
    workspace_limit: int | None = None,
    memory_limit: int | Sequence[int] | None = None,
    plan: str | None = None,
    threads: int | None = None,
    weights: str | None = None,
    file_limit: int | None = None,
    max_error: float | None = None,
    objective: str = "time",
    tuning_records: Sequence[str | Path] = (),
    calibration: bool = True,
    host_figures: Callable[[Simd], Calibration | None] | None = None,
    cc: str | None = None,
    jobs: int | None = None,
    report: str | Path | None = None,
    progress: Progress | None = None,
    batch: int | None = None,
    rounding: str = "xnnpack",
    precision: str | None = None,
    dump_code: Sequence[str] = (),
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    signature: str | None = None,
    pass_config: Mapping[str, int | bool | str] | None = None,
    opt_level: int = 3,
    disabled_passes: Sequence[str] = (),
    verify: bool = True,
) -> Report | ModuleReport:
    """Compile a .tflite model: its convolutions into a delegate, or all of it for TVM's runtime.

    Parameters
    ----------
    model : path or Model
        The .tflite file, or what :func:`tvmc.load` made of it.
    output : path
        The shared library or tar, or for ``delegate-source`` the folder, to write.
    target : str
        Whatever :meth:`schedules.target.simd.Simd.named` takes.
    output_format : {"delegate", "delegate-source", "so", "tar"}
        A shared library for TFLite, or C sources and kernels to be built by CMake; a library for
        TVM's runtime, or a tar of it and its description, for :func:`tvmc.run`.
    algorithms : sequence of str
        Algorithms to compile for every layer that they support, each as ``NAME`` or
        ``NAME:KNOB=VALUE``; ``auto`` chooses one for each layer. For TVM's runtime, each layer has
        one, the first that supports it.
    workspace_limit : int, optional
        Bytes of workspace that no layer may exceed, for one thread.
    memory_limit : int or sequence of int, optional
        Bytes that a delegate may hold in all: tensors and workspace at once, packed weights, and
        its own data.
        The fastest kernels within it, by the model of the objective "time".
    plan : str, optional
        ``FILE`` or ``FILE#BYTES``: the kernels of the fastest plan that ``tvmc plan --json FILE``
        wrote, or of the fastest within so many bytes, such as ``8M``.
    threads : int, optional
        Threads whose modelled time decides, and whose workspace counts there, by default one.
        Kernels run with any number of them.
    weights : {"heap", "embedded"}, optional
        Where a delegate has its packed weights: packed when it is loaded, or as read-only data of
        the library, for the model that they were made of. By default on the heap, but in the
        library where plans with all of them on the heap are slower within ``memory_limit``.
    file_limit : int, optional
        Bytes of weights that are read where files have them at most: the model's or the library's.
    max_error : float, optional
        Expected relative error that no form of Winograd's algorithm may exceed; by default three
        times that of the definition, where it is not asked for by name.
    objective : str
        Of :mod:`schedules.plan.objectives`, for ``auto``: minimise the time by its model, or take a
        plan of few bytes for the whole network, the knee of its curve or that of the fewest bytes.
    tuning_records : sequence of path
        Files and folders of what ``tvmc tune`` measured, of one board. Each has some records for
        ``target``. They decide where the model of the objective "time" would; the others still
        choose by bytes, and records among plans that hold no more.
    calibration : bool
        Plan with what ``tvmc calibrate`` measured of that board, if it did.
    host_figures : callable, optional
        Where it did not and ``target`` is this machine: called with its target for its figures, as
        commands do (``tvmc.tuning.host_figures``). Without it, only the table of cores decides.
    cc : str, optional
        C compiler for the target; by default the zig that is installed with this package.
    jobs : int, optional
        Kernels to compile at the same time; by default as many as there are cores, where there are
        enough kernels. Processes compile them; a script that has an algorithm of its own needs
        ``if __name__ == "__main__":``, as for :mod:`multiprocessing`, for they import it.
    report : path, optional
        Where to write the result's ``to_dict()`` as JSON.
    progress : callable, optional
        Called with (layers done, layers in all, text).
    batch : int, optional
        Images that an interpreter's inputs will be resized to, of a model for one: kernels for
        delegates may share weights among them. They still run any other number.
    rounding : {"xnnpack", "builtin", "reference"}
        Whose arithmetic quantised tensors are computed by, to the last bit: what TFLite does by
        default, its own kernels for the processor, or those that are the same everywhere.
    precision : {"fp32", "fp16"}, optional
        What delegates compute layers of floats in; fp16 needs a processor with its arithmetic, and
        is the default there if the model's metadata allows it ("reduced_precision_support"). Each
        layer's expected error is in the report.
    dump_code : sequence of {"asm", "tir", "relax"}
        What to write beside the output, as OUTPUT.asm and so on; for "asm", kernels are compiled
        one by one. This and what follows is for "so" and "tar" only.
    input_shapes : mapping of str to tuple of int, optional
        Other shapes for inputs, by name: another batch, or sizes that the model leaves open.
    signature : str, optional
        The name of the signature whose graph to compile, by default that of the model, or the main
        graph.
    pass_config, opt_level, disabled_passes
        As of :class:`tvm.transform.PassContext`.
    verify : bool
        Whether to run the module once beside LiteRT, if it is installed and this machine can run
        both, before anything is written.

    Returns
    -------
    Report or ModuleReport
        What was done with each layer; the latter for "so" and "tar".

    Raises
    ------
    LeanconvError
        If the input is wrong or something cannot be written; nothing is left half-written.
    WrongModule
        If what was compiled differs from LiteRT by more than rounding does; nothing is written.
    """
    path, output = Path(model if isinstance(model, str | Path) else model.path), Path(output)
    report = None if report is None else Path(report)
    if output_format not in OUTPUT_FORMATS:
        raise LeanconvError(f"unknown output format {output_format!r}: {', '.join(OUTPUT_FORMATS)}")
    is_module = output_format in ("so", "tar")
    if weights not in (None, *WEIGHTS):
        raise LeanconvError(f"unknown place of weights {weights!r}: {', '.join(WEIGHTS)}")
    if is_module and (memory_limit is not None or file_limit is not None or weights == "embedded"):
        raise LeanconvError("limits on all that is held, and embedded weights, are for delegates")
    held = [memory_limit] if isinstance(memory_limit, int) else list(memory_limit or [])
    if held != sorted(set(held), reverse=True):
        raise LeanconvError("several memory limits have to fall")
    recorded = None
    if plan is not None:
        if is_module or memory_limit is not None or tuple(algorithms) != ("auto",):
            raise LeanconvError("a plan has all kernels of a delegate: no limits, no algorithms")
        recorded = _recorded(plan)
    simd = Simd.named(target)
    dumps = [output.with_name(f"{output.name}.{code}") for code in dump_code]
    _check_outputs(path, output, [*dumps, *([report] if report else [])], output_format)

    from schedules.plan.planner import Limits  # imports TVM, which takes a second
    from schedules.target.toolchain import Toolchain
    from schedules.tuning.records.board_info import calibrated
    from tflite_delegate.build import build, export_sources

    simd = calibrated(simd, tuning_records, host_figures) if calibration else simd
    options: dict[str, Any] = {
        "algorithms": algorithms,
        "limits": Limits(
            workspace_limit,
            max_error,
            held[0] if held else None,
            1 if threads is None else threads,
            embeds=embedding(weights, memory_limit),
            file_bytes=file_limit,
        ),
        "objective": objective,
        "records": _load_records(tuning_records, simd),
        "jobs": jobs,
        "progress": progress,
    }
    result: Report | ModuleReport
    if is_module:
        from tvmc.compiling.module_compiler import Passes, compile_module
        from tvmc.running.loader import Model, load

        if isinstance(model, Model):
            input_shapes = input_shapes or model.input_shapes
            signature = signature or model.signature
        result = compile_module(
            load(path, input_shapes, signature),
            output,
            simd,
            is_tar=output_format == "tar",
            toolchain=Toolchain.named(cc),
            passes=Passes(opt_level, pass_config, disabled_passes),
            dump_code=dump_code,
            verify=verify,
            rounding=rounding,
            **options,
        )
    elif output_format == "delegate-source":
        options |= {"batch": batch, "rounding": rounding, "precision": precision}
        result = export_sources(path, output, simd, plan=recorded, smaller=held[1:], **options)
    else:
        toolchain = Toolchain.named(cc)
        options |= {"batch": batch, "rounding": rounding, "precision": precision}
        result = build(
            path, output, simd, toolchain=toolchain, plan=recorded, smaller=held[1:], **options
        )
    if report is not None:
        write_json(report, result.to_dict())
    return result


def _recorded(text: str) -> RecordedPlan:
    """The plan that ``FILE`` or ``FILE#BYTES`` names."""
    from schedules.budget.recorded import read_plan  # imports TVM, which takes a second

    path, hash_mark, limit = text.rpartition("#")
    if not hash_mark:
        return read_plan(Path(text), None)
    try:
        return read_plan(Path(path), byte_count(limit))
    except argparse.ArgumentTypeError as error:
        raise LeanconvError(f"--plan {text}: {error}") from None


def _load_records(paths: Sequence[str | Path], simd: Simd) -> list[Record]:
    """The records for ``simd``; raises LeanconvError if any of the paths has none."""
    from schedules.tuning.advice import for_target
    from schedules.tuning.records import records

    loaded = ((path, records.load(Path(path))) for path in paths)
    return [record for path, found in loaded for record in for_target(found, simd, str(path))]


def _check_outputs(model: Path, output: Path, others: Sequence[Path], output_format: str) -> None:
    """Find out before the work whether its results can be written, and destroy nothing."""
    if output_format != "delegate-source":
        check_writable(output)
    for path in others:
        check_writable(path)
        if path.resolve() == output.resolve():
            raise LeanconvError(f"{path} cannot be both the output and the report")
    for path in (output, *others):
        if path.resolve() == model.resolve():
            raise LeanconvError(f"cannot write {path}: it is the model")


def known_algorithms() -> Sequence[tuple[str, str, str]]:
    """Every algorithm's name, the element types that it serves, and where it comes from."""
    from schedules.algorithms import REGISTRY

    return [(algorithm.name, algorithm.computes, algorithm.source) for algorithm in REGISTRY]
