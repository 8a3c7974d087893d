"""Time what TVM's virtual machine calls, here or on a board.

The machine takes an instrument, a function that is called before and after every other. One of
Python's could not be sent to a board, and would take longer than many a kernel: this one is C, in a
library of its own.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from tvmc.jobs import FunctionTime


def build_profiler(folder: Path, simd: Simd) -> Path:
    """The library for ``simd``, made in ``folder``.

    Raises
    ------
    LeanconvError
        If it cannot be compiled.
    """
    sources = resources.files("schedules.tuning") / "csrc"
    for name in ("profile.c", "exports.map"):
        (folder / name).write_bytes((sources / name).read_bytes())
    library = folder / "profile.so"
    Toolchain.default().link_library(folder, ["profile.c"], [], library, simd)
    return library


def profile(
    device: Any, machine: Any, library: Any, function: str, runs: int
) -> list[FunctionTime]:
    """Call ``function`` of a virtual machine ``runs`` times, its inputs being set.

    Parameters
    ----------
    device : tvm.runtime.Device
        Where the machine is.
    machine : tvm.relax.VirtualMachine
        What to profile.
    library : tvm.runtime.Module
        What :func:`build_profiler` made, loaded there.

    Returns
    -------
    list of FunctionTime
        All runs together, in the order of the first calls.
    """
    import tvm

    # No function can be an argument in an RPC session, but a module can: besides a function, the
    # machine takes the name of one that returns it, and that one's arguments.
    machine.module["set_instrument"]("ffi.ModuleGetFunction", library, "instrument", False)
    for _ in range(runs):
        machine.invoke_stateful(function)
    text = tvm.runtime.empty((library["profile_size"](),), "uint8", device)
    library["read_profile"](text)
    lines = text.numpy().tobytes().rstrip(b"\0").decode(errors="replace").splitlines()
    fields = (line.split(" ", 2) for line in lines)
    return [
        FunctionTime(name, int(calls), int(nanoseconds) * 1e-9)
        for calls, nanoseconds, name in fields
    ]
