"""Data as a relocatable object."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from schedules.target import elf
from schedules.target.elf_object import write_object
from schedules.target.simd import PRESETS


@pytest.mark.parametrize("size", [1, 4096, 4099])
@pytest.mark.parametrize("cpu", ["x86-64-v3", "cortex-a53"])
def test_the_symbol_is_all_of_the_data(cpu: str, size: int, tmp_path: Path) -> None:
    data, path = tmp_path / "data", tmp_path / "data.o"
    data.write_bytes(bytes(i % 251 for i in range(size)))
    write_object(path, "some_data", data, PRESETS[cpu])
    with path.open("rb") as file:
        assert elf.machine(file) == elf.MACHINES[PRESETS[cpu].arch]
        whole = ELFFile(file)
        section = whole.get_section_by_name(".rodata.leanconv")
        assert section.data() == data.read_bytes()
        assert section["sh_flags"] == 2  # neither written nor executed
        (symbol,) = whole.get_section_by_name(".symtab").get_symbol_by_name("some_data")
        assert symbol["st_size"] == size
        assert symbol["st_other"]["visibility"] == "STV_HIDDEN"
        assert whole.get_section_by_name(".note.GNU-stack")["sh_flags"] == 0
