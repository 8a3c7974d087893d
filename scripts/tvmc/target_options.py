"""The options that name a target: ``--target``, and old tvmc's flags for LLVM's attributes."""

from __future__ import annotations

import argparse
import shlex

from schedules.errors import LeanconvError
from tvmc.command import thread_count

#: Attributes of TVM's target ``llvm`` that have a flag of their own.
_ATTRIBUTES = ("mcpu", "mattr", "mtriple", "num-cores")


def add_target_options(command: argparse.ArgumentParser) -> None:
    """Add them to a command; :func:`chosen_target` reads them."""
    group = command.add_argument_group("the target")
    add = group.add_argument
    add("--target", metavar="TARGET",
        help="host, a name from `tvmc targets`, a TVM target as JSON or tag, or 'llvm -mcpu=…' "
        "[host]")  # fmt: skip
    add("--target-llvm-mcpu", metavar="CPU", help="LLVM's name of the processor")
    add("--target-llvm-mattr", metavar="+A,+B", help="further attributes of it")
    add("--target-llvm-mtriple", metavar="TRIPLE", help="such as aarch64-linux-gnu")
    add("--target-llvm-num-cores", metavar="N", type=thread_count, help="cores that share a layer")


def chosen_target(options: argparse.Namespace) -> str:
    """The target as :meth:`schedules.target.simd.Simd.named` takes it.

    Raises
    ------
    LeanconvError
        If attributes of LLVM are given for a target that has its own.
    """
    given = {
        name: value
        for name in _ATTRIBUTES
        if (value := getattr(options, f"target_llvm_{name.replace('-', '_')}")) is not None
    }
    if not given:
        return str(options.target or "host")
    target = options.target or "llvm"
    if target.split()[:1] != ["llvm"]:
        raise LeanconvError(
            f"--target-llvm-{next(iter(given))} goes with --target llvm, not with {target!r}"
        )
    # An attribute that is in both is refused where the string is read.
    words = (f"-{name}={shlex.quote(str(value))}" for name, value in given.items())
    return " ".join([target, *words])
