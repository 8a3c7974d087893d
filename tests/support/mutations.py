"""Damaged models, and a process of their own that compiles each as far as it depends on the model.

    python -m tests.support.mutations module|delegate MODEL SEED FIRST COUNT

imports ``COUNT`` mutations of a model, or plans a delegate for each, and prints the number of each
before it begins, so that a crash tells which one it was. What is neither a success nor one line for
users ends it.
"""

from __future__ import annotations

import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tflite

from schedules.errors import LeanconvError
from schedules.plan.choice import AUTO
from schedules.plan.planner import NO_LIMITS
from schedules.target.simd import Simd
from tflite_delegate.importer.relax import import_model
from tflite_delegate.selection import select

#: What a damaged count or index is likely to be, at its worst.
WORDS = (0, 1, 2, 3, 5, 127, 128, 255, 256, 65535, 65536, 2**28, 2**31 - 1, 2**31, 2**32 - 1)
#: Bytes of address space: a damaged size must not make the import take all memory.
MAX_MEMORY = 8 << 30
#: Of one compilation.
MAX_SECONDS = 60


def structure(content: bytes) -> np.ndarray:
    """The positions of all bytes that belong to no constant."""
    is_structure = np.ones(len(content), bool)
    model = tflite.Model.GetRootAs(content, 0)
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            is_structure[start : start + buffer.DataLength()] = False
    return np.flatnonzero(is_structure)


def mutated(content: bytes, places: np.ndarray, rng: np.random.Generator) -> bytes:
    """One damaged copy: bytes or words at ``places`` are others, or the end is missing."""
    damaged = bytearray(content)
    kind = rng.integers(10)
    if kind == 0:
        return bytes(damaged[: rng.integers(1, len(content))])
    for place in rng.choice(places, rng.integers(1, 5)):
        place = int(place)
        if kind < 4:
            damaged[place] = rng.integers(256)
            continue
        place = min(place // 4 * 4, len(content) - 4)
        (word,) = struct.unpack_from("<I", damaged, place)
        near = (word + int(rng.integers(-4, 5))) % 2**32
        word = near if kind < 7 else int(rng.choice(WORDS))
        struct.pack_into("<I", damaged, place, word)
    return bytes(damaged)


def mutations(path: Path, seed: int, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Damaged copies of a model, each a function of ``seed`` and its number."""
    content = path.read_bytes()
    places = structure(content)
    for number in range(first, first + count):
        yield number, mutated(content, places, np.random.default_rng([seed, number]))


def plan_delegate(path: Path) -> None:
    """All of a delegate's compilation that depends on the model: its kernels are chosen."""
    select(path, Simd.named("host"), [AUTO], NO_LIMITS)


#: What is done with each mutation.
COMPILERS: dict[str, Callable[[Path], object]] = {"module": import_model, "delegate": plan_delegate}


def compile_mutations(kind: str, path: Path, seed: int, first: int, count: int) -> Counter[str]:
    """Compile each mutation; counts of successes and of refusals.

    Raises
    ------
    Exception
        Whatever is no refusal in one line.
    """
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        file = Path(folder) / "m.tflite"
        for number, damaged in mutations(path, seed, first, count):
            print(number, flush=True)
            file.write_bytes(damaged)
            signal.alarm(MAX_SECONDS)
            try:
                COMPILERS[kind](file)
                outcomes[kind] += 1
            except LeanconvError as error:
                outcomes["refusal"] += 1
                told = str(error)
                assert "\n" not in told and len(told) < 2000, f"{path} {number}: {told!r}"
            finally:
                signal.alarm(0)
    return outcomes


def survives(module: str, arguments: Sequence[object], root: Path, timeout: int) -> str:
    """The last line of what a module of this folder prints, which is all there is unless it fails.

    Parameters
    ----------
    root : Path
        Of the checkout.
    timeout : int
        Seconds.
    """
    command = [sys.executable, "-m", f"tests.support.{module}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=root)
    told = done.stdout.splitlines()
    assert done.returncode == 0, f"{arguments}: {told[-1:]}: {done.stderr[-3000:]}"
    return told[-1]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    found = compile_mutations(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
    print(" ".join(f"{kind}={count}" for kind, count in found.items()))
