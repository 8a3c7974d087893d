"""One .tflite file in several runtimes, in turns: the rows that most benchmarks are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tvmc
from schedules.errors import LeanconvError, reason
from scripts.benchmarks.harness.benchmark import Row, Rows
from scripts.benchmarks.harness.inference import (
    LEANCONV,
    described,
    is_of_codes,
    max_difference,
    random_inputs,
)
from scripts.benchmarks.harness.interleaving import Timing, interleave
from scripts.benchmarks.harness.runners import XNNPACK, Runner, library_path, open_runner
from tvmc.running.interpreter import Arrays, Session, runtime
from tvmc.tuning.host_figures import host_figures

#: A runtime that is further off, relative to the largest output, computes something else.
SAME_MODEL = 1e-2
#: Memory that is written between two calls whose data shall not be in the caches: twice the largest
#: third cache that one core of a usual server has.
OTHER_BYTES = 2**26
#: Differences of the outputs of opened runners, by runtime.
Differences = Callable[[Mapping[str, Runner]], Mapping[str, float]]


def compile_delegate(graph: Path, folder: Path, kind: str, **options: Any) -> dict[str, Any]:
    """Compile for ``kind`` of runtime into ``folder``, as commands do; the report as plain values.

    That is with this machine's figures, which a first time measures.
    """
    output = library_path(folder, kind)
    report = tvmc.compile(graph, output=output, host_figures=host_figures(), **options)
    return dict(report.to_dict())


def built_in_outputs(graph: Path) -> tuple[Arrays, Arrays]:
    """Random inputs of a model, and what TFLite's built-in kernels make of them."""
    session = Session(graph, runtime("litert"), xnnpack=False)
    inputs = random_inputs(session)
    return inputs, session.run(inputs)


def expected_outputs(graph: Path) -> tuple[Arrays, Arrays | None]:
    """The same; ``None`` for a network of codes, of which XNNPACK's outputs are what counts.

    XNNPACK rounds codes by another rule than the built-in kernels, and single steps grow to tens.
    """
    session = Session(graph, runtime("litert"), xnnpack=False)
    inputs = random_inputs(session)
    return inputs, None if is_of_codes(session) else session.run(inputs)


def compare(
    graph: Path,
    kinds: Iterable[str],
    folder: Path,
    inputs: Arrays,
    expected: Arrays | None = None,
    *,
    differences: Differences | None = None,
    bases: Mapping[str, str] = {"ratios": XNNPACK},
    reasons: Mapping[str, str] = {},
    threads: int = 1,
    rounds: int,
    seconds: float = math.inf,
    calls: int | None = None,
) -> list[Row]:
    """A row for each of ``kinds``, all timed in one process in turns.

    Parameters
    ----------
    graph, folder : path
        The model, and where what runtimes need beside it was prepared.
    inputs, expected : sequence of arrays
        The model's inputs, and the outputs that every runtime must have. Without any, outputs that
        are other than XNNPACK's are counted.
    differences : callable, optional
        Tells how far the outputs are off, if there are none ``expected``.
    bases : mapping of str to str
        Under which key ratios to which of the runtimes stand.
    reasons : mapping of str to str
        Why some cannot run.
    threads, rounds, seconds, calls
        As for :func:`scripts.benchmarks.harness.interleaving.interleave`.
    """
    rows: dict[str, Row] = {}
    runners: dict[str, Runner] = {}
    for kind in kinds:
        row = rows[kind] = {"runtime": kind, "threads": threads, "reason": reasons.get(kind)}
        if row["reason"] is None:
            try:
                runners[kind] = _opened(kind, graph, threads, folder, inputs, expected, row)
            except Exception as error:  # each library has its own
                row["reason"] = reason(error)
    calls_of = {kind: runner.invoke for kind, runner in runners.items()}
    timings = interleave(calls_of, rounds=rounds, seconds=seconds, calls=calls)
    if expected is None and differences is None and XNNPACK in runners:
        _count_mismatches(runners, rows)
    off = differences(runners) if differences else {}
    for kind, row in rows.items():
        timing = timings.get(kind)
        row["times"] = timing and timing.to_dict()
        row["max_difference"] = off.get(kind, row.get("max_difference"))
        for key, base in bases.items():
            row[key] = ratios(timing, timings.get(base))
    return list(rows.values())


def _opened(
    kind: str,
    graph: Path,
    threads: int,
    folder: Path,
    inputs: Arrays,
    expected: Arrays | None,
    row: Row,
) -> Runner:
    """A runner with its inputs that has run once; what is told of it goes to its row."""
    runner = open_runner(kind, graph, threads, folder)
    runner.set_inputs(inputs)
    runner.invoke()
    if expected is not None:
        pairs = zip(runner.outputs(), expected, strict=True)
        off = max_difference([got.reshape(want.shape) for got, want in pairs], expected)
        if off > SAME_MODEL * max(np.abs(want).max() for want in expected):
            raise LeanconvError(f"it computes something else: {off:.2g} off")
        row["max_difference"] = off
    if runner.session:
        row |= described(runner.session)
    return runner


def _count_mismatches(runners: Mapping[str, Runner], rows: Mapping[str, Row]) -> None:
    """Tell of each runtime how many outputs are other than XNNPACK's."""
    expected = runners[XNNPACK].outputs()
    for kind, runner in runners.items():
        rows[kind]["mismatches"] = mismatches(runner.outputs(), expected)


def mismatches(outputs: Arrays, expected: Arrays) -> int:
    """Elements that are other than expected."""
    pairs = zip(outputs, expected, strict=True)
    return sum(int((got.ravel() != want.ravel()).sum()) for got, want in pairs)


def ratios(timing: Timing | None, base: Timing | None) -> dict[str, float] | None:
    """Of minima, of lower quartiles and of medians."""
    if timing is None or base is None:
        return None
    minima, medians = timing.ratio(base)
    quartiles = timing.percentile(25) / base.percentile(25)
    return {"min": minima, "p25": quartiles, "median": medians}


def speed_up(
    kind: str, graph: Path, folder: Path, inputs: Arrays, *, threads: int, **turns: Any
) -> float:
    """Of so many threads over a single one, in a run of their own."""
    runners = {str(count): open_runner(kind, graph, count, folder) for count in (1, threads)}
    for runner in runners.values():
        runner.set_inputs(inputs)
    calls = {count: runner.invoke for count, runner in runners.items()}
    timings = interleave(calls, **turns)
    return timings["1"].minimum / timings[str(threads)].minimum


def of_single_images(batch: Path, single: Path, images: int, rounds: int) -> dict[str, float]:
    """The time of a batch, of that of as many single images, both with nothing in the caches.

    ``batch`` and ``single`` are models that have their delegates beside them.
    """
    runners = {}
    for name, graph in (("batch", batch), ("single", single)):
        runners[name] = open_runner(LEANCONV, graph, 1, graph.parent)
        runners[name].set_inputs(built_in_outputs(graph)[0])
    calls = {name: runner.invoke for name, runner in runners.items()}
    other = np.zeros(OTHER_BYTES // 4, np.float32)
    timings = interleave(calls, rounds=rounds, calls=1, before=lambda: other.__iadd__(1))
    minima, medians = timings["batch"].ratio(timings["single"])
    return {"min": minima / images, "median": medians / images}


def beside(rows: Rows, *keys: str) -> list[Row]:
    """One row for each value of ``keys``, with what each runtime has under its name."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row.get(name) for name in keys)
        found.setdefault(key, dict(zip(keys, key, strict=True)))[row["runtime"]] = row
    return list(found.values())


def runtimes(rows: Rows, but: Sequence[str] = ()) -> list[str]:
    """Those that rows are of, except some."""
    return [kind for kind in dict.fromkeys(row["runtime"] for row in rows) if kind not in but]
