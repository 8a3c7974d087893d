"""Damaged models in a host of a delegate that was compiled for the undamaged one.

    python -m tests.support.host_mutations MODEL LIBRARY SEED FIRST COUNT

Each is run by LiteRT with and without the delegate, with and without XNNPACK, each time in a
process of its own: LiteRT itself does not survive every damaged model. What the delegate makes
worse is printed and ends it with status 1; the last line counts what happened.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from tests.support.mutations import MAX_MEMORY, mutations
from tvmc.running.interpreter import Session, runtime

#: Of one run with a delegate; without it, less, so that what is about as slow does not count.
MAX_SECONDS = 30
#: Of the largest value of an output: algorithms differ in rounding, and weights are any number.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    ``end`` is ``"outputs"``, ``"refused"``, or how the process died. ``claimed`` counts the layers
    and operators that the delegate took.
    """

    end: str
    outputs: tuple[np.ndarray, ...] = ()
    claimed: int = 0
    message: str = ""

    @property
    def died(self) -> bool:
        return self.end not in ("outputs", "refused")


def isolated(function: Callable[[], Outcome], seconds: int) -> Outcome:
    """What ``function`` returns in a copy of this process, or how that died."""
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            signal.alarm(seconds)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            pickle.dump(function(), file)
            file.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return Outcome(signal.Signals(os.WTERMSIG(status)).name)
        file.seek(0)
        outcome = pickle.load(file)
        assert isinstance(outcome, Outcome)
        return outcome


def run(model: Path, library: Path | None, xnnpack: bool, keep_tensors: bool = False) -> Outcome:
    """Run a model once, on the same inputs each time."""
    try:
        session = Session(
            model, runtime("litert"), delegate=library, xnnpack=xnnpack, keep_tensors=keep_tensors
        )
        report: dict[str, Any] = session.report() or {}
        claimed = report.get("claimed", 0) + len(report.get("operators", ()))
        rng = np.random.default_rng(0)
        values = [
            rng.uniform(-1, 1, details["shape"]).astype(details["dtype"])
            for details in session.inputs()
        ]
        outputs = tuple(session.run(values))
        del session
        return Outcome("outputs", outputs, claimed)
    except (LeanconvError, ValueError, TypeError, MemoryError) as error:
        return Outcome("refused", message=str(error)[:500])


def differ(first: Outcome, second: Outcome) -> bool:
    """Whether outputs are of different numbers, up to rounding."""
    pairs = zip(first.outputs, second.outputs, strict=True)
    return not all(_agree(a, b) for a, b in pairs)


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    scale = np.abs(a[finite]).max(initial=1e-6)
    return bool(np.all(np.abs(a[finite] - b[finite]) <= TOLERANCE * scale))


def worse(model: Path, without: Outcome, with_it: Outcome, xnnpack: bool) -> str | None:
    """What a delegate made worse, if anything."""
    other = partial(isolated, partial(run, model, None, not xnnpack), MAX_SECONDS)
    if with_it.died:
        # XNNPACK takes other nodes behind a delegate: the rest are the built-in kernels'.
        theirs = without.died or (xnnpack and other().died)
        return None if theirs else f"{with_it.end} where there was {without.end}"
    if without.end != "outputs":
        return None
    if with_it.end == "refused":
        return f"refused: {with_it.message}"
    if not differ(without, with_it):
        return None
    # A model that reads what nobody wrote gives whatever was there.
    kept = isolated(partial(run, model, None, xnnpack, keep_tensors=True), MAX_SECONDS)
    is_defined = all(o.end == "outputs" and not differ(without, o) for o in (kept, other()))
    return "outputs differ" if is_defined else None


def host_mutations(path: Path, library: Path, seed: int, first: int, count: int) -> Counter[str]:
    """Run each mutation; print what the delegate makes worse, and count outcomes."""
    runtime("litert")  # before processes are copied
    ctypes.CDLL(str(library))
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        model = Path(folder) / "m.tflite"
        for number, damaged in mutations(path, seed, first, count):
            model.write_bytes(damaged)
            counts["mutations"] += 1
            for xnnpack in (False, True):
                kind = "xnnpack" if xnnpack else "builtin"
                without = isolated(partial(run, model, None, xnnpack), MAX_SECONDS // 2)
                with_it = isolated(partial(run, model, library, xnnpack), MAX_SECONDS)
                counts[f"{kind}_{'died' if without.died else without.end}"] += 1
                counts[f"{kind}_delegate_{'died' if with_it.died else with_it.end}"] += 1
                counts[f"{kind}_claimed"] += with_it.claimed > 0
                if problem := worse(model, without, with_it, xnnpack):
                    counts["worse"] += 1
                    print(f"{path.name} {number} {kind}: {problem}", flush=True)
                if without.end == with_it.end == "refused":
                    break  # XNNPACK comes behind the delegate
    return counts


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    found = host_mutations(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
    print(" ".join(f"{kind}={count}" for kind, count in found.items()))
    sys.exit("the delegate makes something worse" if found["worse"] else 0)
