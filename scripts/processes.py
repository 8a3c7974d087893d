"""How a script starts a module of ``scripts`` in a process of its own, whatever the folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def module_command(module: str, *arguments: object) -> list[str]:
    """``python -m MODULE ARGUMENTS…``, to run in :func:`module_environment`."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def module_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """``environment``, or this process's, with ``scripts`` among what Python finds."""
    values = dict(os.environ if environment is None else environment)
    paths = [str(ROOT), *filter(None, [values.get("PYTHONPATH")])]
    return {**values, "PYTHONPATH": os.pathsep.join(paths)}
