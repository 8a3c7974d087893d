"""Data as a relocatable object (ELF): read-only bytes of any size, without an assembler.

A compiler takes minutes and gigabytes for an array of some hundred million numbers.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from schedules.target.simd import Simd

#: A page, so that nothing else is in the first and the last one of the data.
ALIGNMENT = 4096
#: e_machine of System V's ABI.
_MACHINES = {"x86_64": 62, "aarch64": 183}
_HEADER, _SECTION, _SYMBOL = "<16sHHIQQQIHHHHHH", "<IIQQQQIIQQ", "<IBBHQQ"
_PROGBITS, _SYMTAB, _STRTAB, _ALLOC = 1, 2, 3, 2
_RELOCATABLE, _HIDDEN, _GLOBAL_OBJECT = 1, 2, 1 << 4 | 1
_NAMES = b"\0.rodata.leanconv\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack\0"


def write_object(path: Path, symbol: str, data: Path, simd: Simd) -> None:
    """Write an object that defines ``symbol``, hidden, as the bytes of the file ``data``."""
    size = data.stat().st_size
    strings = b"\0" + symbol.encode() + b"\0"
    symbols = struct.pack(_SYMBOL, 0, 0, 0, 0, 0, 0) + struct.pack(
        _SYMBOL, 1, _GLOBAL_OBJECT, _HIDDEN, 1, 0, size
    )
    symtab = _up(ALIGNMENT + size, 8)
    strtab = symtab + len(symbols)
    names = strtab + len(strings)
    headers = _up(names + len(_NAMES), 8)
    sections = (
        (b"", 0, 0, 0, 0, 0, 0, 0, 0),
        (b".rodata.leanconv", _PROGBITS, _ALLOC, ALIGNMENT, size, 0, 0, ALIGNMENT, 0),
        (b".symtab", _SYMTAB, 0, symtab, len(symbols), 3, 1, 8, struct.calcsize(_SYMBOL)),
        (b".strtab", _STRTAB, 0, strtab, len(strings), 0, 0, 1, 0),
        (b".shstrtab", _STRTAB, 0, names, len(_NAMES), 0, 0, 1, 0),
        # Its absence would ask for an executable stack.
        (b".note.GNU-stack", _PROGBITS, 0, names, 0, 0, 0, 1, 0),
    )
    header = struct.pack(
        _HEADER, b"\x7fELF\x02\x01\x01", _RELOCATABLE, _MACHINES[simd.arch], 1, 0, 0, headers, 0,
        struct.calcsize(_HEADER), 0, 0, struct.calcsize(_SECTION), len(sections), 4,
    )  # fmt: skip
    with path.open("wb") as out:
        out.write(header.ljust(ALIGNMENT, b"\0"))
        with data.open("rb") as content:
            shutil.copyfileobj(content, out, 1 << 22)
        out.write(bytes(symtab - ALIGNMENT - size))
        out.write((symbols + strings + _NAMES).ljust(headers - symtab, b"\0"))
        for name, kind, flags, *rest in sections:
            place = _NAMES.index(b"\0" + name + b"\0") + 1 if name else 0
            out.write(struct.pack(_SECTION, place, kind, flags, 0, *rest))


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
