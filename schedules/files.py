"""Writing files so that nothing half-written is ever left under the final name."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError


def check_writable(path: Path) -> None:
    """Find out now, before minutes of work, whether ``path`` can be written.

    Raises
    ------
    LeanconvError
        If the folder is missing or refuses new files, or ``path`` is no regular file.
    """
    check_room(path)
    if path.exists() and not path.is_file():
        raise LeanconvError(f"cannot write {path}: it is not a regular file")


def check_room(path: Path) -> None:
    """Find out whether a new file or folder can be made beside ``path``, to take its place.

    Raises
    ------
    LeanconvError
        If the folder that it lies in is missing or refuses new files.
    """
    folder = path.parent
    if not folder.is_dir():
        raise LeanconvError(f"cannot write {path}: there is no folder {folder}")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise LeanconvError(f"cannot write {path}: {error.strerror}") from None


def check_space(folder: Path, count: int) -> None:
    """Find out whether ``count`` bytes fit into a folder: what LLVM cannot write ends the process.

    Raises
    ------
    LeanconvError
        If they do not.
    """
    free = shutil.disk_usage(folder).free
    if free < count:
        raise LeanconvError(
            f"the temporary folder {folder.parent} has {free >> 20} MiB left, and {count >> 20} "
            "are needed: make room, or set TMPDIR to another folder"
        )


def replace_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to a sibling of ``path`` and rename it: readers see the old file or the new.

    Raises
    ------
    LeanconvError
        If the file cannot be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LeanconvError(f"cannot write {path}: {error.strerror}") from None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON for people and programs, atomically."""
    replace_atomically(path, (json.dumps(value, indent=2) + "\n").encode())
