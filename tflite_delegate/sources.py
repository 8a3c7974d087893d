"""The delegate's C sources, which are shipped with this package."""

from __future__ import annotations

from pathlib import Path

from schedules.target.simd import Simd

#: Where they are.
CSRC = Path(__file__).with_name("csrc")
#: The one among them that is written anew for each target.
TARGET = "kernels/target.h"
_WIDE = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
_SUFFIXES = (".c", ".h", ".map", ".txt")


def copy_sources(folder: Path) -> list[str]:
    """Copy csrc/ into ``folder``; the names of its C files there, such as ``host/pool.c``."""
    names = []
    for path in sorted(CSRC.rglob("*")):
        if path.suffix in _SUFFIXES:
            name = path.relative_to(CSRC).as_posix()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
            names += [name] if path.suffix == ".c" else []
    return names


def target_header(simd: Simd) -> str:
    """The text of :data:`TARGET`: what C code may use once the processor has been checked."""
    text = (CSRC / TARGET).read_text(encoding="utf-8")
    text = text.replace("LC_AVX512 0", f"LC_AVX512 {int(simd.features >= _WIDE)}")
    return text.replace("LC_HALVES 0", f"LC_HALVES {int(simd.computes_float16)}")
