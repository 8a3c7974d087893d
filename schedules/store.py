"""Keep what was compiled, in the user's cache folder, under the hash of all that decides about it.

An entry is a file that begins with the hash of the rest. One that is torn or damaged is compiled
again; what cannot be written is not kept. Processes may share the folder: an entry appears whole,
and two that compile the same write the same. What has not been read for longest goes when the
folder holds more than :data:`LIMIT_BYTES`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from schedules.cache import cache_folder
from schedules.errors import LeanconvError
from schedules.files import replace_atomically

#: Set to ``off``, nothing is read from the store or kept in it; for processes started here too.
SWITCH = "LEANCONV_STORE"
#: Of all entries: some 20,000 kernels.
LIMIT_BYTES = 512 * 2**20
#: When there are more, down to what part of the limit they are removed.
KEPT = 0.75

_CHECKSUM_BYTES = hashlib.sha256().digest_size


def digest(*parts: str | bytes) -> str:
    """A name for everything that decides about an entry; no two lists of parts share one."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


@contextlib.contextmanager
def bypassed(when: bool = True) -> Iterator[None]:
    """Compile everything anew, in processes that are started meanwhile as well."""
    before = os.environ.get(SWITCH)
    if when:
        os.environ[SWITCH] = "off"
    try:
        yield
    finally:
        if when:
            del os.environ[SWITCH]
            if before is not None:
                os.environ[SWITCH] = before


class Store:
    """Entries in a folder, which is made when the first is kept.

    Parameters
    ----------
    folder : Path, optional
        Without one, it is empty and keeps nothing.
    limit_bytes : int
        Of all entries.
    """

    def __init__(self, folder: Path | None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    @classmethod
    def default(cls) -> Store:
        """The user's, if there is a folder for it."""
        if os.environ.get(SWITCH) != "off":
            with contextlib.suppress(LeanconvError):
                return cls(cache_folder("store"))
        return cls(None)

    def get(self, key: str) -> bytes | None:
        """What was kept under ``key``, a :func:`digest`."""
        if self.folder is None:
            return None
        path = self._path(self.folder, key)
        try:
            data = path.read_bytes()
            if data[:_CHECKSUM_BYTES] != hashlib.sha256(data[_CHECKSUM_BYTES:]).digest():
                path.unlink(missing_ok=True)
                return None
        except OSError:
            return None
        with contextlib.suppress(OSError):  # of a folder that is read only
            os.utime(path)
        return data[_CHECKSUM_BYTES:]

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data``, if that is possible."""
        if self.folder is None:
            return
        path = self._path(self.folder, key)
        with contextlib.suppress(OSError, LeanconvError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_atomically(path, hashlib.sha256(data).digest() + data)
            self._trim(path.parent)

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / key

    def _trim(self, part: Path) -> None:
        """Remove the entries of one of 256 folders that were not read for longest.

        Hashes spread entries evenly, so that each folder may hold its part of the limit.
        """
        limit = self.limit_bytes / 256
        entries = []
        for entry in os.scandir(part):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                status = entry.stat()
                entries.append((status.st_mtime_ns, status.st_size, entry.path))
        held = sum(size for _, size, _ in entries)
        if held <= limit:
            return
        for _, size, path in sorted(entries):
            if held <= KEPT * limit:
                break
            Path(path).unlink(missing_ok=True)
            held -= size
