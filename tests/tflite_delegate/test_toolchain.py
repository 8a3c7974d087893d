"""Compilers: the right errors, and libraries that every target's loader accepts."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.store import SWITCH
from schedules.target import elf
from schedules.target.simd import PRESETS, Simd
from schedules.target.toolchain import ANDROID_SYMBOLS, Toolchain, _compiler_digest
from tests.support.kernels import serves
from tests.support.tflite_writer import Conv, single_conv
from tflite_delegate.sources import copy_sources
from tflite_delegate.table import kernel_table

BuildDelegate = Callable[..., Path]
EXPORTS = {
    "tflite_plugin_create_delegate",
    "tflite_plugin_destroy_delegate",
    "leanconv_version",
    "leanconv_memory",
    "leanconv_report",
}
TARGETS = ["cortex-a53", "cortex-a76", "x86-64-v3", "cortex-a76-android", "x86-64-v4-android"]


def sources(folder: Path, simd: Simd) -> list[str]:
    """The delegate's sources with an empty table of kernels."""
    sources = copy_sources(folder)
    (folder / "kernel_table.c").write_text(kernel_table([], "none.tflite", simd))
    return [*sources, "kernel_table.c"]


@pytest.fixture(scope="session")
def empty_delegate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A delegate without kernels, for a target."""
    made: dict[str, Path] = {}

    def make(target: str) -> Path:
        if target not in made:
            folder = tmp_path_factory.mktemp("empty")
            simd = Simd.named(target)
            made[target] = folder / "libempty.so"
            names = sources(folder, simd)
            Toolchain.default().link_library(folder, names, [], made[target], simd)
        return made[target]

    return make


@pytest.mark.parametrize("target", TARGETS)
def test_size_without_kernels(empty_delegate: Callable[[str], Path], target: str) -> None:
    assert empty_delegate(target).stat().st_size <= 230 * 1024


@pytest.mark.parametrize("target", TARGETS)
def test_exports(empty_delegate: Callable[[str], Path], target: str) -> None:
    assert elf.exported_symbols(empty_delegate(target)) == EXPORTS


@pytest.mark.parametrize("target", TARGETS)
def test_depends_on_the_c_library_only(empty_delegate: Callable[[str], Path], target: str) -> None:
    allowed = {"libc.so.6", "libm.so.6", "libpthread.so.0"}  # glibc 2.17 keeps threads apart
    if target.endswith("-android"):
        allowed = {"libc.so", "libm.so"}
    assert set(elf.needed_libraries(empty_delegate(target))) <= allowed


@pytest.mark.parametrize("target", TARGETS)
def test_loadable(empty_delegate: Callable[[str], Path], target: str) -> None:
    path = empty_delegate(target)
    # As strictly as on Android, but for symbol versions and names, which glibc has.
    simd = replace(Simd.named(target), android=True)
    problems = elf.problems(path, simd, ANDROID_SYMBOLS)
    if not target.endswith("-android"):
        problems = [p for p in problems if "versions" not in p and "Android does not have" not in p]
        problems = [p for p in problems if not p.startswith("needs ")]
    assert problems == []


@pytest.mark.parametrize("target", ["cortex-a76", pytest.param("host", marks=pytest.mark.slow)])
def test_undefined_symbols_of_kernels(target: str) -> None:
    """Kernels call nothing but the C library's memory and mathematical functions."""
    simd, plans = Simd.named(target), {}
    for name in REGISTRY.names():
        layers = (
            Conv(10, stride=(2, 1), activation="relu6"),
            Conv(10, activation="relu6"),
            Conv(10, groups=5, activation="relu6"),
            Conv(10, (1, 1), activation="relu6"),
        )
        workloads = (layer.workload((1, 9, 11, 5)) for layer in layers)
        workload = next(workload for workload in workloads if serves(name, workload, simd))
        plans[f"lc_{name}"] = plan_kernel(workload, simd, name)
    compiled = compile_plans(plans, simd)
    allowed = {"memset", "memcpy", "memmove", *ANDROID_SYMBOLS["libm.so"]}
    assert elf.undefined_symbols(compiled.data) <= allowed


ON_ANDROID = """
import json, sys
from pathlib import Path
from tests.tflite_delegate.conftest import _litert, random_inputs, read_report, run

model, library = map(Path, sys.argv[1:])
api = _litert()
delegate = api.load_delegate(str(library))
ours, builtin = api.open(model, delegate, num_threads=2), api.open(model)
inputs = random_inputs(ours)
error = abs(run(ours, inputs)[0] - run(builtin, inputs)[0]).max()
print(json.dumps([float(error), read_report(library, delegate)["layers"][0]["calls"]]))
"""


def test_delegate_for_android_runs(
    build_delegate: BuildDelegate, tmp_path: Path, repo_root: Path
) -> None:
    """Android's C library is played by glibc, under Android's names."""
    maps = Path("/proc/self/maps").read_text().split()
    for name in ("libc", "libm"):
        pattern = rf"/.*/{name}(\.so\.6|-2\.\d+\.so)"
        (real,) = {word for word in maps if re.fullmatch(pattern, word)}
        (tmp_path / f"{name}.so").symlink_to(real)
    model = tmp_path / "model.tflite"
    model.write_bytes(single_conv((1, 12, 12, 8), Conv(16)))
    library = build_delegate(model, target=f"{_host_preset()}-android")
    result = subprocess.run(
        [sys.executable, "-c", ON_ANDROID, str(model), str(library)],
        cwd=repo_root,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    error, calls = json.loads(result.stdout.splitlines()[-1])
    assert calls == 1
    assert error < 1e-5


def _host_preset() -> str:
    """A preset that this machine fulfils."""
    host = Simd.named("host")
    candidates = ("x86-64-v4", "x86-64-v3", "cortex-a55", "cortex-a53")
    simds = [PRESETS[name] for name in candidates if PRESETS[name].arch == host.arch]
    return next(simd.name for simd in simds if simd.features <= host.features)


# The lint


def test_lint_names_the_wrong_processor(empty_delegate: Callable[[str], Path]) -> None:
    (problem,) = elf.problems(empty_delegate("x86-64-v3"), Simd.named("cortex-a76"), {})
    assert problem == "is for EM_X86_64, not for aarch64: name a compiler for cortex-a76"


def test_lint_refuses_glibc_on_android(empty_delegate: Callable[[str], Path]) -> None:
    problems = elf.problems(
        empty_delegate("cortex-a76"), Simd.named("cortex-a76-android"), ANDROID_SYMBOLS
    )
    assert "needs libc.so.6, which Android does not have" in problems
    assert "asks for symbol versions, which Android does not have" in problems


def test_lint_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(b"not a library")
    (problem,) = elf.problems(path, Simd.named("host"), {})
    assert problem.startswith("is not an ELF file")


# Compilers


def link(folder: Path, toolchain: Toolchain, simd: Simd, source: str = "int leanconv_x;\n") -> Path:
    (folder / "source.c").write_text(source)
    (folder / "exports.map").write_text("{ global: leanconv_*; local: *; };\n")
    toolchain.link_library(folder, ["source.c"], [], folder / "lib.so", simd)
    return folder / "lib.so"


def test_missing_compiler(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="compiler 'no-such-cc' was not found"):
        link(tmp_path, Toolchain.named("no-such-cc -O3"), Simd.named("host"))


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null/x", "", None])
def test_home_that_cannot_be_written(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    home: str | None,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
    for name in ("HOME", "XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert link(tmp_path, Toolchain.default(), Simd.named("host")).is_file()


def test_first_error_of_a_compiler(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match=r"source\.c:1:.*error") as caught:
        link(tmp_path, Toolchain.default(), Simd.named("host"), "int f(void) { return x; }\n")
    assert "\n" not in str(caught.value)


def test_silent_failure_of_a_compiler(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="false failed: exit status 1"):
        link(tmp_path, Toolchain.named("false"), Simd.named("host"))


def test_a_command_that_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="true wrote nothing: it is no compiler"):
        link(tmp_path, Toolchain.named("true"), Simd.named("host"))


@pytest.mark.parametrize("command", ["", "  ", "cc 'unfinished"])
def test_malformed_command(command: str) -> None:
    with pytest.raises(LeanconvError, match="compiler"):
        Toolchain.named(command)


def test_compiler_for_another_processor(tmp_path: Path) -> None:
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[platform.machine()]
    command = f"{sys.executable} -m ziglang cc -target {other}-linux-gnu.2.17"
    with pytest.raises(LeanconvError, match="made a library that is for EM_"):
        link(tmp_path, Toolchain.named(command), Simd.named("host"))
    assert not (tmp_path / "lib.so").exists()


def test_undefined_symbols_are_refused(tmp_path: Path) -> None:
    source = "void missing(void); void leanconv_x(void) { missing(); }\n"
    with pytest.raises(LeanconvError, match="undefined symbol: missing"):
        link(tmp_path, Toolchain.default(), Simd.named("host"), source)


@pytest.mark.parametrize("target", TARGETS)
def test_pages(tmp_path: Path, target: str) -> None:
    with link(tmp_path, Toolchain.default(), Simd.named(target)).open("rb") as file:
        aligned = [s["p_align"] for s in ELFFile(file).iter_segments("PT_LOAD")]
    assert aligned
    assert min(aligned) >= elf.PAGE_BYTES


def test_symbols_that_android_lacks_are_refused(tmp_path: Path) -> None:
    source = "int secure_getenv(const char *); int leanconv_x(void) { return secure_getenv(0); }\n"
    with pytest.raises(LeanconvError, match="undefined symbol: secure_getenv"):
        link(tmp_path, Toolchain.default(), Simd.named("cortex-a76-android"), source)


#: All registers but x18 are taken while ``product`` waits to be returned.
CROWDED = f"""
long leanconv_x(long a, long b) {{
    long product = a * b;
    __asm__ volatile("" : : : {", ".join(f'"x{n}"' for n in range(29) if n != 18)}, "x30");
    return product;
}}
"""


def moves_through_x18(library: Path) -> bool:
    with library.open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text").data()
    words = np.frombuffer(text, np.uint32)
    into = (words & 0x7FE0001F) == (0x2A000000 | 18)  # mov w18 or x18, register
    out_of = (words & 0x7FFFFFE0) == (0x2A0003E0 | 18 << 16)
    return bool((into | out_of).any())


def test_reserved_register_of_android(
    empty_delegate: Callable[[str], Path], tmp_path: Path
) -> None:
    """Android keeps x18 to itself."""
    simd = Simd.named("cortex-a76-android")
    assert not moves_through_x18(empty_delegate(simd.name))
    assert not moves_through_x18(link(tmp_path, Toolchain.default(), simd, CROWDED))


def test_other_systems_use_all_registers(tmp_path: Path) -> None:
    """So that the test above sees what it looks for."""
    simd = Simd.named("cortex-a76")
    assert moves_through_x18(link(tmp_path, Toolchain.default(), simd, CROWDED))


# The store


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Compile ``a.c`` and ``b.c`` with an option; what the compiler was called to compile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(SWITCH, raising=False)
    log, script = tmp_path / "log", tmp_path / "cc"
    zig = " ".join(Toolchain.default().command)
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {zig} "$@"\n')
    script.chmod(0o755)
    (tmp_path / "a.h").write_text("int a(void);")
    (tmp_path / "a.c").write_text('#include "a.h"\nint a(void) { return 1; }')
    (tmp_path / "b.c").write_text("int b(void) { return 2; }")

    def compile_them(option: str = "-DN=1") -> list[str]:
        for path in [log, *tmp_path.glob("*.o")]:
            path.unlink(missing_ok=True)
        toolchain = Toolchain.named(f"{script} {option}")
        objects = toolchain.compile_objects(tmp_path, ["a.c", "b.c"], Simd.named("host"))
        assert objects == ["a.o", "b.o"]
        assert all(
            elf.undefined_symbols((tmp_path / name).read_bytes()) == set() for name in objects
        )
        lines = log.read_text().splitlines() if log.exists() else []
        return sorted(re.findall(r"-c (\S+)", " ".join(lines)))

    return compile_them


def test_objects_come_from_the_store(logged: Callable[..., list[str]], tmp_path: Path) -> None:
    assert logged() == ["a.c", "b.c"]
    whole = [(tmp_path / name).read_bytes() for name in ("a.o", "b.o")]
    assert logged() == []
    assert [(tmp_path / name).read_bytes() for name in ("a.o", "b.o")] == whole


def test_what_objects_depend_on(
    logged: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged()
    (tmp_path / "a.c").write_text("int a(void) { return 3; }")
    assert logged() == ["a.c"]
    (tmp_path / "a.h").write_text("long a(void);")
    assert logged() == ["a.c", "b.c"]
    assert logged("-DN=2") == ["a.c", "b.c"]
    assert logged() == []
    monkeypatch.setenv("CPATH", str(tmp_path))
    _compiler_digest.cache_clear()
    assert logged() == ["a.c", "b.c"]
    monkeypatch.setenv(SWITCH, "off")
    assert logged() == logged() == ["a.c", "b.c"]


def test_another_compiler_under_the_same_name(
    logged: Callable[..., list[str]], tmp_path: Path
) -> None:
    logged()
    script = tmp_path / "cc"
    script.write_text(script.read_text().replace("exec", "exec  "))
    _compiler_digest.cache_clear()
    assert logged() == ["a.c", "b.c"]


def test_targets_do_not_share_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(SWITCH, raising=False)
    (tmp_path / "a.c").write_text("int a(void) { return 1; }")
    for target in ("x86-64-v3", "cortex-a76", "x86-64-v4-android", "cortex-a76-android"):
        simd = Simd.named(target)
        for _ in range(2):
            Toolchain.default().compile_objects(tmp_path, ["a.c"], simd)
            with (tmp_path / "a.o").open("rb") as file:
                assert elf.machine(file) == elf.MACHINES[simd.arch]
    store = tmp_path / "cache" / "leanconv" / "store"
    assert sum(path.is_file() for path in store.rglob("*")) == 4
