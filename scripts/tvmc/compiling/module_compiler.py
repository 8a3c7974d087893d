"""``tvmc compile -f so | tar``: a whole model as a module for TVM's runtime."""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax, tirx
from tvm_ffi.registry import list_global_func_names

from schedules import __version__
from schedules.errors import LeanconvError, nearest, reason
from schedules.files import check_space, replace_atomically
from schedules.lower.kernel import CKernel
from schedules.plan.planner import Limits
from schedules.progress import Progress
from schedules.relax.pipeline import lower_to_calls, lower_to_loops
from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.select.compile import compile_kernels
from schedules.select.report import (
    LayerReport,
    TuningReport,
    layer_reports,
    peak_bytes,
    tuning_report,
)
from schedules.select.selection import Kernel
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.records.records import Record
from tflite_delegate.importer.relax import import_model
from tvmc.comparing.verification import verify_module
from tvmc.compiling.package import KernelInfo, Metadata, TensorInfo, with_metadata, write_tar
from tvmc.running.loader import Model

#: What a module has beside its constants, at most.
_CODE_BYTES = 16 << 20


@dataclass(frozen=True)
class ModuleReport:
    """What became of a model that was compiled for TVM's runtime.

    ``layers`` has one entry for every convolution, depthwise and fully-connected layer of the
    imported model; ``others`` counts the functions that TVM made of the rest. ``peak_bytes`` is the
    most that tensors and one thread's workspace take at once, before TVM fuses the rest.
    ``verification`` says in a line what comparing it with LiteRT gave; ``tuning`` is ``None``
    without records.
    """

    model: str
    target: str
    leanconv: str
    tvm: str
    objective: str
    algorithms: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    others: Mapping[str, int]
    peak_bytes: int
    library_bytes: int
    seconds: float
    verification: str
    tuning: TuningReport | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Passes:
    """How TVM's passes run: level, options of theirs, and which of them do not."""

    level: int = 3
    config: Mapping[str, int | bool | str] | None = None
    disabled: Sequence[str] = ()

    def context(self) -> tvm.transform.PassContext:
        """The same for TVM; raises LeanconvError if it does not know an option or a pass."""
        disabled = self._disabled()
        try:
            return tvm.transform.PassContext(
                opt_level=self.level, config=dict(self.config or {}), disabled_pass=disabled
            )
        except Exception as error:  # it lists every option that there is
            told, _, known = str(error).partition(" candidates are: ")
            name = re.search("'(.*)'", told)
            meant = nearest(name[1], re.split(r"[ ,]+", known)) if name and known else ""
            raise LeanconvError(f"--pass-config: {told.splitlines()[0]}{meant}") from None

    def _disabled(self) -> list[str]:
        """The passes to leave out; TVM compares their names with the folder in front or without."""
        known = [name.split(".") for name in list_global_func_names() if ".transform." in name]
        by_name: dict[str, set[str]] = {}
        for parts in known:
            by_name.setdefault(parts[-1], {parts[-1]}).add(f"{parts[0]}.{parts[-1]}")
        found: set[str] = set()
        for name in self.disabled:
            names = by_name.get(name.rpartition(".")[2], set())
            if name not in names:
                raise LeanconvError(
                    f"--disabled-pass: TVM has no pass {name!r}{nearest(name, by_name)}"
                )
            found |= names if "." not in name else {name}
        return sorted(found)


def compile_module(
    model: Model,
    output: Path,
    simd: Simd,
    *,
    is_tar: bool,
    algorithms: Sequence[str],
    limits: Limits,
    objective: str,
    records: Sequence[Record],
    toolchain: Toolchain,
    passes: Passes,
    dump_code: Sequence[str],
    verify: bool,
    rounding: str,
    jobs: int | None,
    progress: Progress | None,
) -> ModuleReport:
    """Compile ``model`` into a package; options as of :func:`tvmc.compile`.

    Raises
    ------
    LeanconvError
        If something cannot be imported, compiled or written, or is wrong; nothing is left behind
        as if it were good.
    """
    start = time.monotonic()
    context = passes.context()
    module = import_model(model.path, model.input_shapes, model.signature, simd, rounding)
    objects: list[Kernel] = []

    def compiler(kernels: Sequence[Kernel]) -> dict[str, CKernel]:
        objects.extend(compile_kernels(kernels, simd, jobs, progress))
        return {kernel.name: kernel.compiled for kernel in objects if kernel.compiled}

    reports: list[FunctionReport] = []
    schedule = schedule_convolutions(
        simd,
        algorithms=algorithms,
        limits=limits,
        objective=objective,
        records=records,
        # Objects do not show their assembly.
        compile_kernels=None if "asm" in dump_code else compiler,
        progress=progress,
        report=reports.append,
    )
    target = tvm.target.Target(simd.target)
    try:
        with context, target:
            loops = lower_to_loops(simd)(schedule(module))
            metadata = _metadata(model, simd, loops, reports)
            calls = lower_to_calls(simd)(with_metadata(loops, metadata))
            executable = tvm.compile(calls, target, relax_pipeline=None)
    except LeanconvError:
        raise
    except Exception as error:  # of whatever kind TVM raises
        raise LeanconvError(f"TVM cannot compile {model.path}: {reason(error)}") from None
    for code in dump_code:
        text = _code(code, loops, executable, reports, simd)
        replace_atomically(output.with_name(f"{output.name}.{code}"), text.encode())
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        constants = sum(kernel.packed_bytes for kernel in metadata.kernels.values())
        # Constants are in an object and in the library.
        check_space(Path(folder), 2 * (constants + model.path.stat().st_size) + _CODE_BYTES)
        library = _linked(Path(folder), output, executable, objects, simd, toolchain)
        verification = "not verified: not asked for"
        if verify:
            verification = verify_module(model.path, library, metadata, progress or _silent)
        if is_tar:
            write_tar(output, library, metadata)
        else:
            replace_atomically(output, library.read_bytes())
        library_bytes = library.stat().st_size
    seconds = round(time.monotonic() - start, 3)
    return _report(model, simd, objective, loops, reports, library_bytes, seconds, verification)


def _metadata(
    model: Model, simd: Simd, module: tvm.IRModule, reports: Sequence[FunctionReport]
) -> Metadata:
    main = module["main"]
    results = main.ret_ty.fields if isinstance(main.ret_ty, relax.TupleType) else [main.ret_ty]
    kernels = {
        kernel.name: KernelInfo(
            kernel.plan.describe(),
            kernel.plan.algorithm,
            kernel.workspace_bytes,
            kernel.packed_bytes,
        )
        for report in reports
        for kernel in report.kernels
    }
    return Metadata(
        leanconv=__version__,
        tvm=importlib.metadata.version("apache-tvm"),
        model=model.path.name,
        target=simd.name,
        tvm_target=simd.target,
        inputs=_tensors(model.inputs, [parameter.ty for parameter in main.params]),
        outputs=_tensors(model.outputs, results),
        kernels=kernels,
        signature=model.signature,
    )


def _tensors(infos: Sequence[TensorInfo], types: Sequence[Any]) -> tuple[TensorInfo, ...]:
    """The names that the model has, and the shapes that were compiled."""
    found = []
    for info, tensor in zip(infos, types, strict=True):
        shape = getattr(tensor.shape, "values", None)
        if shape is None or not all(isinstance(size, tirx.IntImm) for size in shape):
            raise LeanconvError(f"the shape of {info.name!r} is not known before the model runs")
        found.append(TensorInfo(info.name, tuple(map(int, shape)), str(tensor.dtype)))
    return tuple(found)


def _linked(
    folder: Path,
    output: Path,
    executable: Any,
    kernels: Sequence[Kernel],
    simd: Simd,
    toolchain: Toolchain,
) -> Path:
    """A library in ``folder``, linked with the objects of ``kernels``, that becomes ``output``."""
    library = folder / "mod.so"
    objects = {str(folder / f"{kernel.name}.o"): kernel.data for kernel in kernels}
    for path, data in objects.items():
        Path(path).write_bytes(data)

    def link(path: str, objects: Sequence[str], **_: Any) -> None:
        toolchain.link_module(objects, Path(path), simd)

    try:
        executable.export_library(
            str(library), fcompile=link, addons=list(objects), workspace_dir=str(folder)
        )
    except (LeanconvError, OSError):
        raise
    except Exception as error:  # of whatever kind TVM raises, as on a full disk
        raise LeanconvError(f"TVM cannot export {output}: {reason(error)}") from None
    return library


def _silent(_done: int, _total: int, _text: str) -> None:
    pass


def _code(
    kind: str, loops: tvm.IRModule, executable: Any, reports: Sequence[FunctionReport], simd: Simd
) -> str:
    """What was compiled, for people: ``relax``, ``tir`` or ``asm``."""
    if kind == "asm":
        return "\n".join(_sources(executable.mod, "asm"))
    if kind == "relax":
        functions = {v: f for v, f in loops.functions_items() if isinstance(f, relax.Function)}
        return str(tvm.IRModule(functions).script(show_meta=False))
    functions = {v: f for v, f in loops.functions_items() if isinstance(f, tirx.PrimFunc)}
    plans = {k.compiled.name: k.plan for report in reports for k in report.kernels}
    kernels = (
        f"# {name}: {plan.algorithm} {plan.describe()}\n{plan.schedule(simd).mod['main'].script()}"
        for name, plan in plans.items()
    )
    return "\n\n".join([*kernels, str(tvm.IRModule(functions).script(show_meta=False))])


def _sources(module: Any, kind: str) -> list[str]:
    """What each module in a tree of them was compiled to."""
    own = [module.inspect_source(kind)] if module.kind == "llvm" else []
    return own + [text for child in module.imports for text in _sources(child, kind)]


def _report(
    model: Model,
    simd: Simd,
    objective: str,
    module: tvm.IRModule,
    reports: Sequence[FunctionReport],
    library_bytes: int,
    seconds: float,
    verification: str,
) -> ModuleReport:
    report = next(iter(reports), None)
    selection = report.selection if report else None
    others = Counter(
        str(variable.name_hint)
        for variable, function in module.functions_items()
        if isinstance(function, tirx.PrimFunc)
    )
    used = [kernel.plan.algorithm for kernel in report.kernels] if report else []
    return ModuleReport(
        model=model.path.name,
        target=simd.name,
        leanconv=__version__,
        tvm=importlib.metadata.version("apache-tvm"),
        objective=objective,
        algorithms=tuple(dict.fromkeys(used)),
        layers=layer_reports(selection, report.compiled) if report and selection else (),
        others=dict(others),
        peak_bytes=peak_bytes(selection) if selection else 0,
        library_bytes=library_bytes,
        seconds=seconds,
        verification=verification,
        tuning=tuning_report(selection.advisor) if selection else None,
    )
