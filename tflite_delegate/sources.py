"""The delegate's C sources, which are shipped with this package."""

from __future__ import annotations

from pathlib import Path

#: Where they are.
CSRC = Path(__file__).with_name("csrc")
_SUFFIXES = (".c", ".h", ".map", ".txt")


def copy_sources(folder: Path) -> list[str]:
    """Copy csrc/ into ``folder``; the names of its C files there, such as ``host/pool.c``."""
    names = []
    for path in sorted(CSRC.rglob("*")):
        if path.suffix in _SUFFIXES:
            name = path.relative_to(CSRC).as_posix()
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
            names += [name] if path.suffix == ".c" else []
    return names
