"""Files of records: read whatever is valid, append so that a line is there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.files import replace_atomically
from schedules.tuning.records.record import NewerVersion, Record

SUFFIX = ".jsonl"
DAMAGED, NEWER = "damaged", "of a newer version"

_logger = logging.getLogger(__name__)


class Log:
    """The file in which a board's records for one element type are kept.

    Several processes may append to it at once.
    """

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        self.path = folder / f"{dtype}{SUFFIX}"

    def append(self, record: Record) -> None:
        """Add ``record`` for good: it is on the disk when this returns. Makes the folder.

        Raises
        ------
        LeanconvError
            If it cannot be written, for example because the disk is full; the file is as before.
        """
        data = encoded([record])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path) as file:
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    data = b"\n" + data  # whoever wrote the last line was killed
                try:
                    _write_whole(file, data)
                    os.fsync(file)
                except OSError:  # an interrupt finds a whole line, which stays
                    with contextlib.suppress(OSError):
                        os.ftruncate(file, size)
                    raise
        except OSError as error:
            raise LeanconvError(f"cannot append to {self.path}: {error.strerror}") from None


class Logs:
    """All files of a board's records in ``folder``: each record goes to that of its type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, record: Record) -> None:
        """As :meth:`Log.append`."""
        Log(self.folder, record.workload.layers[0].dtype).append(record)


def load(path: Path) -> list[Record]:
    """The records of a file, or of every ``*.jsonl`` in a folder, in their order.

    Lines that are damaged, or written by a newer version, are left out with one logged warning
    that counts them. A last line without an end is that of a process that was killed.

    Raises
    ------
    LeanconvError
        If there is nothing at ``path``, or no record.
    """
    by_file, _ = load_files(path)
    return [record for records in by_file.values() for record in records]


def load_files(path: Path) -> tuple[dict[Path, list[Record]], Counter[str]]:
    """What :func:`load` reads by file, and how many lines it left out: damaged and newer ones."""
    skipped: Counter[str] = Counter()
    by_file = {file: list(_read(file, skipped)) for file in files(path)}
    if not any(by_file.values()):
        if skipped[NEWER]:
            raise LeanconvError(f"a newer version wrote the records in {path}: update leanconv")
        raise LeanconvError(f"{path} holds no tuning records")
    if skipped:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
        _logger.warning("warning: lines of %s were left out: %s", path, counts)
    return by_file, skipped


def files(path: Path) -> list[Path]:
    """The files of records that ``path`` stands for; raises as :func:`load`."""
    if not path.exists():
        raise LeanconvError(f"there are no tuning records at {path}")
    return sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]


def rewrite(path: Path, records: Iterable[Record]) -> None:
    """Let ``path`` hold ``records`` and nothing else, atomically."""
    replace_atomically(path, encoded(records))


def encoded(records: Iterable[Record]) -> bytes:
    """Their lines."""
    lines = (record.to_line() + "\n" for record in records)
    # What is no Unicode, as file names may be, becomes an escape of JSON's.
    return "".join(lines).encode(errors="backslashreplace")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """The file at ``path``, made if need be, as a descriptor that nobody else appends to."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock may have put another file in its place.
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield file
                return
        finally:
            os.close(file)


def _read(path: Path, skipped: Counter[str]) -> Iterator[Record]:
    """The records of one file; counts in ``skipped`` the lines that are none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise LeanconvError(f"cannot read {path}: {error.strerror}") from None
    torn = len(lines) - 1
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            yield _decoded(line)
        except NewerVersion:
            skipped[NEWER] += 1
        except LeanconvError:
            if index != torn:
                skipped[DAMAGED] += 1


def _write_whole(file: int, data: bytes) -> None:
    """One write; where the disk takes only part of it, the next one tells why."""
    while data:
        data = data[os.write(file, data) :]


def _decoded(line: bytes) -> Record:
    try:
        return Record.from_line(line.decode())
    except UnicodeDecodeError:
        raise LeanconvError("a line that is no text") from None
