"""Modules for TVM's runtime, compiled for processors that this machine is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tvm
from tvm_ffi import core

from schedules.errors import LeanconvError
from schedules.relax.transform import schedule_convolutions
from schedules.target import elf
from schedules.target.simd import PRESETS, Simd
from schedules.target.toolchain import Toolchain
from tests.schedules.algorithms.test_algorithms import HOST, layer
from tests.support.kernels import Case
from tests.support.relax_layers import chain_module

TARGETS = ["cortex-a53", "cortex-a76", "x86-64-v3", "cortex-a76-android", "x86-64-v4-android"]


def exported(path: Path, simd: Simd, toolchain: Toolchain) -> Path:
    """One layer as a module."""
    workload = layer(6, (5, 7), 3, activation="hard_swish")
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias])
    module = schedule_convolutions(simd)(module)

    def link(output: str, objects: Sequence[str], **_: Any) -> None:
        toolchain.link_module(objects, Path(output), simd)

    executable = tvm.compile(module, tvm.target.Target(simd.target))
    executable.export_library(str(path), fcompile=link)
    return path


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name: str, tmp_path: Path) -> None:
    simd = PRESETS[name]
    library = exported(tmp_path / "module.so", simd, Toolchain.default())
    with library.open("rb") as file:
        assert elf.machine(file) == elf.MACHINES[simd.arch]
    # What it needs beside the C library is TVM's runtime, which has loaded it.
    needed = {name.split(".so")[0] for name in elf.needed_libraries(library)}
    assert needed <= {"libm", "libc", "libdl"}
    assert "main_lc_k0_indirect" in str(elf.exported_symbols(library))


def test_compiler_for_another_processor(tmp_path: Path) -> None:
    foreign = PRESETS["x86-64-v3" if HOST.arch == "aarch64" else "cortex-a53"]
    # It ignores what it shall link and makes a library for this machine.
    linker = tmp_path / "cc"
    copy = f'exec cp {core.__file__} "$2"'
    linker.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n{copy}\n')
    linker.chmod(0o755)
    with pytest.raises(LeanconvError, match=f"not for {foreign.arch}: name a compiler for"):
        exported(tmp_path / "module.so", foreign, Toolchain.named(str(linker)))
    assert not (tmp_path / "module.so").exists()
