"""Make sure that a module is right before it is written."""

from __future__ import annotations

import importlib
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.progress import Progress
from schedules.target.simd import Simd
from tvmc.comparing.differences import Unverifiable
from tvmc.compiling.package import Metadata
from tvmc.diff_process import diff
from tvmc.jobs import DataRefused


class WrongModule(LeanconvError):
    """A compiled model computes something else than LiteRT."""

    status = 1


def verify_module(model: Path, library: Path, metadata: Metadata, progress: Progress) -> str:
    """Make sure that a module that was just compiled is right, if that can be found out here.

    Returns
    -------
    str
        What was found, or why nothing was, in one line.

    Raises
    ------
    WrongModule
        If it differs from LiteRT by more than rounding does.
    """
    target = Simd.from_target(metadata.tvm_target)
    host = Simd.named("host")
    if target.arch != host.arch or target.android or not target.features <= host.features:
        return f"not verified: this machine cannot run it, it is for {metadata.target}"
    try:
        importlib.import_module("ai_edge_litert")
    except ImportError as error:
        return f"not verified: LiteRT is not installed: {error}: pip install 'leanconv[runtime]'"
    try:
        found = diff("module", model, library, progress, metadata=metadata)
    except Unverifiable as error:
        return f"not verified: {error}"
    except DataRefused as error:
        return f"not verified: it refuses the inputs that were drawn: {error}"
    if found.first:
        raise WrongModule(
            f"the module is wrong: {found}; nothing was written (--no-verify writes it)"
        )
    return f"verified with LiteRT: {found}"
