"""What a benchmark ran on: processor, caches, date and commit, for every result that is kept."""

from __future__ import annotations

import datetime
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schedules.target.host import this_host

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Machine:
    """One machine at one time.

    Parameters
    ----------
    processor : str
        What the processor calls itself, and the core that it is, or the nearest that is known.
    cores : int
        That this process may use.
    caches : mapping of str to str
        ``L1d``, ``L2``, ``L3`` and their sizes, as far as the system tells.
    date, commit : str
        Of the measurement, and of the code; empty outside a checkout.
    """

    processor: str
    cores: int
    caches: dict[str, str]
    date: str
    commit: str

    @classmethod
    def this(cls) -> Machine:
        """This machine now."""
        host = this_host()
        return cls(
            f"{host.called}, {host.core.name}", len(os.sched_getaffinity(0)), _caches(),
            datetime.date.today().isoformat(), _commit(),
        )  # fmt: skip

    def describe(self) -> str:
        """One line for tables."""
        caches = "".join(f", {name} {size}" for name, size in self.caches.items())
        commit = f", commit {self.commit}" if self.commit else ""
        return f"{self.processor}, {self.cores} cores{caches}; {self.date}{commit}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _caches() -> dict[str, str]:
    sizes = {}
    for folder in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = (
                (folder / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction":
            sizes[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return sizes


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
