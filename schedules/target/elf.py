"""What a finished library must be like for the phone or board that loads it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

from schedules.target.simd import Simd

MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
#: Phones with 16 KiB pages refuse libraries whose segments are aligned to less.
PAGE_BYTES = 16384
#: What systems map in one piece where a file's part lies in memory as it does in the file.
HUGE_PAGE_BYTES = 1 << 21


def machine(file: IO[bytes]) -> str:
    """The processor that an ELF file is for, in the words of :data:`MACHINES`."""
    return str(ELFFile(file).header["e_machine"])


def refusal(path: Path, symbol: str) -> str | None:
    """Why this machine cannot load a library that has ``symbol``, found out without loading it.

    Completes the sentence "PATH …"; ``None`` if nothing is known to be wrong.
    """
    status = path.stat()
    return _refusal(path, symbol, (status.st_ino, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=16)
def _refusal(path: Path, symbol: str, _version: tuple[int, int, int]) -> str | None:
    """The same of one version of the file.

    Looked into once: what `elftools` leaves to Python's garbage collector is more than the runtime
    itself takes for a small model, and would count as its memory.
    """
    try:
        with path.open("rb") as file:
            arch = architecture(machine(file))
        if arch != platform.machine():
            return f"is for {arch}, this machine is {platform.machine()}"
        return None if symbol in exported_symbols(path) else f"has no {symbol}"
    except ELFError:
        return "is no shared library"


def architecture(machine: str) -> str:
    """What users call a processor of :func:`scripts.benchmarks.harness.machine`."""
    names = {value: name for name, value in MACHINES.items()}
    return names.get(machine, machine.removeprefix("EM_").lower())


def needed_libraries(path: Path) -> list[str]:
    """The libraries that ``path`` depends on (``DT_NEEDED``)."""
    with path.open("rb") as file:
        return [tag.needed for tag in _dynamic(ELFFile(file)).iter_tags("DT_NEEDED")]


def exported_symbols(path: Path) -> set[str]:
    """Names that ``path`` defines for others."""
    with path.open("rb") as file:
        return {name for name, defined in _dynamic_symbols(ELFFile(file)) if defined}


def undefined_symbols(relocatable: bytes) -> set[str]:
    """Names that an object file (its bytes) expects from others."""
    section = ELFFile(BytesIO(relocatable)).get_section_by_name(".symtab")
    if not isinstance(section, SymbolTableSection):
        return set()
    return {s.name for s in section.iter_symbols() if s["st_shndx"] == "SHN_UNDEF"} - {""}


def problems(path: Path, simd: Simd, android_symbols: Mapping[str, Sequence[str]]) -> list[str]:
    """What keeps the library at ``path`` from loading on ``simd``; empty if nothing does.

    Each problem completes the sentence "a library that …". Android's linker is the strict one:
    what it refuses is only looked for when ``simd`` is Android.
    """
    try:
        with path.open("rb") as file:
            return list(_problems(ELFFile(file), simd, android_symbols))
    except ELFError as error:
        return [f"is not an ELF file: {error}"]


def _problems(elf: ELFFile, simd: Simd, symbols: Mapping[str, Sequence[str]]) -> list[str]:
    machine = elf.header["e_machine"]
    if machine != MACHINES[simd.arch]:
        return [f"is for {machine}, not for {simd.arch}: name a compiler for {simd.name}"]
    if not simd.android:
        return []
    found = []
    dynamic = _dynamic(elf)
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag == "DT_NEEDED" and tag.needed not in ("libc.so", "libm.so", "libdl.so"):
            found.append(f"needs {tag.needed}, which Android does not have")
        if tag.entry.d_tag == "DT_TEXTREL":
            found.append("has text relocations, which Android refuses")
    for segment in elf.iter_segments("PT_LOAD"):
        if segment["p_align"] < PAGE_BYTES:
            found.append(f"is aligned to {segment['p_align']} bytes, not to pages of {PAGE_BYTES}")
            break
    if any(isinstance(section, GNUVerNeedSection) for section in elf.iter_sections()):
        found.append("asks for symbol versions, which Android does not have")
    known = {symbol for names in symbols.values() for symbol in names}
    undefined = {name for name, defined in _dynamic_symbols(elf) if not defined}
    # An NDK's own start-up files add a few more.
    for name in sorted(undefined - known - {"__cxa_finalize", "__cxa_atexit", "__stack_chk_fail"}):
        found.append(f"needs {name}(), which may be missing in Android")
    return found


def _dynamic(elf: ELFFile) -> DynamicSection:
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            return section
    raise ELFError("no dynamic section")


def _dynamic_symbols(elf: ELFFile) -> list[tuple[str, bool]]:
    """Name, and whether it is defined, of every dynamic symbol."""
    section = elf.get_section_by_name(".dynsym")
    if not isinstance(section, SymbolTableSection):
        return []
    return [(s.name, s["st_shndx"] != "SHN_UNDEF") for s in section.iter_symbols() if s.name]
