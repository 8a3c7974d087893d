"""This machine's figures, in the user's cache folder by its processor and how many cores it has.

Also that two measurements disagreed is kept, without figures, so that a machine that is never at
rest is not measured again by every command.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from schedules.cache import cache_folder
from schedules.errors import LeanconvError
from schedules.files import write_json
from schedules.store import digest
from schedules.target.host import Host
from schedules.tuning.records.calibration import Calibration

#: How figures are measured: those of another way are not comparable, and are measured again.
METHOD = "memory by many streams"


@dataclass(frozen=True)
class HostFigures:
    """What was measured ``age_s`` seconds ago; ``None`` if two measurements disagreed."""

    calibration: Calibration | None
    age_s: float


def figures_path(host: Host) -> Path:
    """The file for this machine; it may not exist.

    Raises
    ------
    LeanconvError
        If this user has no cache folder.
    """
    key = digest(host.called, host.core.name, str(len(host.numbers)), METHOD)
    return cache_folder("calibration") / f"{host.core.name}-{key[:12]}.json"


def read_figures(host: Host) -> HostFigures | None:
    """What is kept of this machine, if anything is.

    Raises
    ------
    LeanconvError
        If the file is torn or damaged.
    """
    path = figures_path(host)
    try:
        values = json.loads(path.read_text())["calibration"]
        calibration = None if values is None else Calibration.from_dict(values)
        return HostFigures(calibration, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LeanconvError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LeanconvError(f"{path} holds no figures of this machine") from None


def write_figures(host: Host, calibration: Calibration | None) -> None:
    """Keep figures of this machine, or that there are none.

    Raises
    ------
    LeanconvError
        If that is not possible.
    """
    path = figures_path(host)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LeanconvError(f"cannot make {path.parent}: {error.strerror}") from None
    values = calibration.to_dict() if calibration else None
    cores = len(host.numbers)
    write_json(path, {"cpu": host.called, "cores": cores, "calibration": values})
