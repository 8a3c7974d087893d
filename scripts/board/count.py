"""Exact counts: of regions that a program on the emulated board marks, and of models under LiteRT.

A count of executed instructions is exact and repeatable for one thread, and it is not a latency;
wall time under emulation means nothing. A region lies between ``hint #100`` and ``hint #101``
(neither is counted).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from schedules.errors import LeanconvError
from scripts.board.board import SOURCES, Board, check_aarch64_file, check_file, ending
from scripts.board.cpus import DEFAULT_CPU, find_cpu

#: What runs a model, or what a delegate leaves of it: LiteRT's default, or its built-in kernels.
Mode = Literal["xnnpack", "builtin"]

#: Keys of a count, in the order of the table; ``emulator/count_instructions.c`` defines them.
INSTRUCTION_CLASSES = {
    "v_fma": "vector multiply-add",
    "v_fp": "vector floating point, other",
    "v_int": "vector integer",
    "v_mov": "vector moves and permutes",
    "v_ld": "vector loads",
    "v_st": "vector stores",
    "s_fp": "scalar floating point",
    "s_ld": "scalar loads",
    "s_st": "scalar stores",
    "branch": "branches",
    "other": "other",
}
BYTE_COUNTERS = {"v_ld_bytes": "bytes by vector loads", "v_st_bytes": "bytes by vector stores"}

#: Invocations of a model before the one that is counted.
WARM_UPS = 2


@dataclass(frozen=True)
class Invocation:
    """What a model did on the board.

    Attributes
    ----------
    outputs
        The output tensors, in the model's order.
    report
        The delegate's own report, or None when there is no delegate or it has none.
    counts
        Executed instructions by class (`INSTRUCTION_CLASSES`), their ``total``, and the bytes
        moved by vector loads and stores (`BYTE_COUNTERS`); empty unless asked for.
    regions
        Of an invocation with simulated caches: what marking a region costs, and the invocation
        with it, as ``emulator/profile_regions.c`` tells them; else empty.
    """

    outputs: list[np.ndarray]
    report: Any
    counts: dict[str, int]
    regions: Sequence[Mapping[str, Any]] = ()


def count_regions(
    board: Board, argv: Sequence[str | Path], cpu: str = DEFAULT_CPU, **options: Any
) -> list[dict[str, int]]:
    """Executed instructions of each region that an aarch64 program marks.

    Parameters
    ----------
    argv, cpu, **options
        As in `Board.run`; the program's output is not shown.

    Returns
    -------
    list of dict
        One count a region, in the order in which they ended; keys as in `Invocation`.

    Raises
    ------
    LeanconvError
        As `Board.run`, and when the program fails.
    """
    outcome, counts = _run_regions(board, ("count_instructions",), argv, cpu, options)
    if outcome.returncode != 0:
        raise LeanconvError(f"{argv[0]} {ending(outcome)} on the emulated {cpu}")
    return [_with_total(count) for count in counts]


def profile_regions(
    board: Board,
    argv: Sequence[str | Path],
    caches: Sequence[str],
    cpu: str = DEFAULT_CPU,
    **options: Any,
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Executed blocks and cache misses of each region that an aarch64 program marks.

    Parameters
    ----------
    argv, cpu, **options
        As in `Board.run`; the program's output is kept.
    caches
        ``l1=BYTES:WAYS`` and ``l2=BYTES:WAYS``: see ``emulator/profile_regions.c``, also for the
        keys of a region.

    Returns
    -------
    process, list of dict
        The ended program, whatever its status, and what it did, a dict a region.

    Raises
    ------
    LeanconvError
        As `Board.run`.
    """
    return _run_regions(board, ("profile_regions", *caches), argv, cpu, options)


def _run_regions(
    board: Board,
    plugin: Sequence[str],
    argv: Sequence[str | Path],
    cpu: str,
    options: Mapping[str, Any],
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as scratch:
        regions = Path(scratch) / "regions"
        regions.touch()
        options = {"capture_output": True, **options}
        outcome = board.run(argv, cpu, plugin=[*plugin, f"out={regions}"], **options)
        return outcome, _read_regions(regions)


def count(
    board: Board,
    model: str | Path,
    mode: Mode = "xnnpack",
    cpu: str = DEFAULT_CPU,
    delegate: str | Path | None = None,
) -> dict[str, int]:
    """Executed instructions of one invocation; parameters and errors are those of `invoke`."""
    return invoke(board, model, mode=mode, cpu=cpu, delegate=delegate, counted=True).counts


def invoke(
    board: Board,
    model: str | Path,
    *,
    mode: Mode = "xnnpack",
    cpu: str = DEFAULT_CPU,
    delegate: str | Path | None = None,
    options: str | None = None,
    inputs: Sequence[np.ndarray] | None = None,
    threads: int = 1,
    counted: bool = False,
    caches: Sequence[str] = (),
) -> Invocation:
    """Run a TensorFlow Lite model under LiteRT on the board.

    Parameters
    ----------
    model
        A ``.tflite`` file.
    mode
        What runs the model, or what a delegate leaves of it.
    cpu
        A name in `CPUS`.
    delegate, options
        An external delegate built for aarch64 Linux; its options as ``key:value;key:value``.
    inputs
        Arrays in the model's order; other shapes than the model's resize it. Without them, random
        values, always the same.
    threads
        LiteRT's number of threads.
    counted
        Whether to count the instructions of one more invocation, after `WARM_UPS`.
    caches
        To be simulated in that invocation, as for `profile_regions`.

    Raises
    ------
    LeanconvError
        When the board is not set up, a file is missing or unusable, or the model fails.
    """
    board.require_ready()
    find_cpu(cpu)
    check_file(Path(model), "model")
    # The environment and the lengths of paths move Python's stack and heap, and with them a few
    # instructions of the model's: every model runs under the same names.
    names = {"model.tflite": Path(model)}
    plugin = ("profile_regions", *caches) if caches else ("count_instructions",)
    arguments: list[str | Path] = [SOURCES / "invoke_model.py", "model.tflite"]
    arguments += ["--outputs", "outputs.npz", "--threads", str(threads)]
    arguments += ["--invocations", str(WARM_UPS if counted else 1)]
    if mode == "builtin":
        arguments += ["--builtin"]
    if delegate is not None:
        check_aarch64_file(Path(delegate), "delegate")
        names["delegate.so"] = Path(delegate)
        arguments += ["--delegate", "delegate.so", f"--delegate-options={options or ''}"]
    if counted:
        arguments += ["--count", board.markers]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        regions = scratch / "regions"
        if inputs is not None:
            named: dict[str, Any] = {f"input_{i}": array for i, array in enumerate(inputs)}
            np.savez(scratch / "inputs.npz", **named)
            arguments += ["--inputs", "inputs.npz"]
        for link, path in names.items():
            (scratch / link).symlink_to(path.absolute())
        outcome = board.python(
            arguments,
            cpu,
            # Counts also depend on the order of hash tables, and on whether numpy has threads.
            variables={"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
            plugin=(*plugin, f"out={regions}") if counted else (),
            capture_output=True,
            cwd=scratch,
            env={},
        )
        if outcome.returncode != 0:
            raise _failure(outcome, names, scratch, cpu)
        with np.load(scratch / "outputs.npz") as arrays:
            outputs = [arrays[f"output_{i}"] for i in range(len(arrays.files))]
        marked = _read_regions(regions)[-2:] if counted else []
    counts = {}
    if marked:
        marking, invocation = map(_summed, marked) if caches else marked
        counts = _with_total({key: invocation[key] - marking[key] for key in invocation})
    report = json.loads(outcome.stdout.splitlines()[-1])
    return Invocation(outputs, report, counts, marked if caches else ())


def _summed(region: Mapping[str, Any]) -> dict[str, int]:
    """A profiled region as ``emulator/count_instructions.c`` counts it."""
    return {
        name: sum(block["executions"] * block[name] for block in region["blocks"])
        for name in (*INSTRUCTION_CLASSES, *BYTE_COUNTERS)
    }


def _failure(
    outcome: subprocess.CompletedProcess[str], names: Mapping[str, Path], scratch: Path, cpu: str
) -> LeanconvError:
    """The line of ``emulator/invoke_model.py``, with the files' own names, or how it ended."""
    refused = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    if not refused:
        model = names["model.tflite"]
        return LeanconvError(f"running {model} {ending(outcome)} on the emulated {cpu}")
    line = refused[0].removeprefix("error: ")
    for link, path in names.items():
        line = line.replace(f"{scratch}/{link}", str(path)).replace(f" {link}", f" {path}")
    return LeanconvError(line)


def _read_regions(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _with_total(counts: dict[str, int]) -> dict[str, int]:
    return {**counts, "total": sum(counts[name] for name in INSTRUCTION_CLASSES)}


def max_abs_difference(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Largest absolute difference between two runs' outputs; quantised ones in units of a step."""
    return max(
        float(np.max(np.abs(np.subtract(a, b, dtype=np.float64)), initial=0.0))
        for a, b in zip(outputs, reference, strict=True)
    )
