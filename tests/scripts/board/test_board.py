"""Setting the emulated board up, and the processors that its programs see."""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from schedules.errors import LeanconvError
from scripts.board import packages
from scripts.board.board import Board
from scripts.board.command import main
from scripts.board.cpus import CPUS, Cpu
from tests.scripts.board.conftest import ErrorLine


@pytest.fixture
def scratch_board(arm_board: Board, tmp_path: Path) -> Board:
    """A board with packages but without what is compiled from this checkout."""
    board = Board(tmp_path / "scratch" / "board")
    board.folder.mkdir(parents=True)
    for name in ("emulator", "system"):
        (board.folder / name).symlink_to(arm_board.folder / name)
    shutil.copy(arm_board.folder / "board.json", board.folder)
    return board


def test_setup_command_is_fast_when_all_is_there(
    arm_board: Board, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["setup"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert line.endswith(f"the board in {arm_board.folder} is ready")


def test_two_setups_at_once_take_turns(scratch_board: Board) -> None:
    assert not scratch_board.is_ready()
    leftover = scratch_board.folder.parent / "board.partial-of-a-killed-setup"
    leftover.mkdir()
    lines: list[str] = []
    waiting = threading.Event()

    def progress(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            waiting.set()

    with (scratch_board.folder.parent / "board.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        setups = [threading.Thread(target=scratch_board.setup, args=(progress,)) for _ in range(2)]
        for setup in setups:
            setup.start()
        assert waiting.wait(timeout=30)
        assert not scratch_board.is_ready()
    for setup in setups:
        setup.join()
    assert scratch_board.is_ready()
    assert sum(line.startswith("compiling") for line in lines) == 1
    assert sorted(path.name for path in scratch_board.folder.parent.iterdir()) == [
        "board",
        "board.lock",
    ]


def test_an_interrupted_setup_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packages, "download_debian", lambda *arguments: [])
    monkeypatch.setattr(packages, "_download_wheels", interrupt)
    board = Board(tmp_path / "board")
    with pytest.raises(KeyboardInterrupt):
        board.setup()
    assert not board.is_ready()
    assert [path.name for path in tmp_path.iterdir()] == ["board.lock"]


def test_a_board_of_other_versions_is_not_ready(scratch_board: Board) -> None:
    assert scratch_board._has_packages()
    stamp = scratch_board.folder / "board.json"
    stamp.write_text(stamp.read_text().replace("numpy", "numpy!=1"))
    assert not scratch_board._has_packages()


def test_a_board_without_the_sanitizer_is_rebuilt(
    scratch_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As boards were before it."""
    assert scratch_board._has_packages()
    stamp = scratch_board.folder / "board.json"
    packages = json.loads(stamp.read_text())
    packages["debian"].remove("libasan8")
    stamp.write_text(json.dumps(packages))
    assert not scratch_board._has_packages()
    with pytest.raises(LeanconvError, match="not set up"):
        _ = scratch_board.address_sanitizer
    built: list[str] = []
    for step in ("packages", "tools"):
        monkeypatch.setattr(Board, f"_build_{step}", lambda *_, step=step: built.append(step))
    scratch_board.setup()
    assert built == ["packages", "tools"]


def test_the_address_sanitizer_is_of_this_machine(arm_board: Board) -> None:
    runtime = arm_board.address_sanitizer
    assert runtime.is_relative_to(arm_board.folder)
    # Nothing that would take the place of this machine's libraries.
    assert {path.resolve() for path in runtime.parent.iterdir()} == {runtime.resolve()}
    with runtime.open("rb") as file:
        machine = ELFFile(file).get_machine_arch()
    assert machine == {"x86_64": "x64", "aarch64": "AArch64"}[platform.machine()]


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEANCONV_BOARD", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert Board.default().folder == Path("/home/someone/.cache/leanconv/board")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert Board.default().folder == Path("/cache/leanconv/board")
    monkeypatch.setenv("LEANCONV_BOARD", "/elsewhere")
    assert Board.default().folder == Path("/elsewhere")


# Bits of AT_HWCAP and AT_HWCAP2 in the kernel's order (uapi/asm/hwcap.h).
HWCAP = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm"
)


HWCAP2 = {13: "i8mm", 14: "bf16"}


@pytest.mark.parametrize("cpu", CPUS.values(), ids=CPUS)
def test_cpuinfo_shows_what_the_emulator_has(arm_board: Board, cpu: Cpu) -> None:
    code = (
        "import ctypes; get = ctypes.CDLL(None).getauxval; get.restype = ctypes.c_ulong\n"
        "print(get(16), get(26)); print(open('/proc/cpuinfo').read())"
    )
    outcome = arm_board.python(["-c", code], cpu.name, capture_output=True)
    first, _, cpuinfo = outcome.stdout.partition("\n")
    bits, bits2 = map(int, first.split())
    usable = {name for bit, name in enumerate(HWCAP.split()) if bits >> bit & 1}
    usable |= {name for bit, name in HWCAP2.items() if bits2 >> bit & 1}
    assert set(cpu.features.split()) <= usable
    if cpu.emulator_model == cpu.name:
        assert set(cpu.features.split()) == usable
    assert "sve" not in usable
    assert cpuinfo.count(f"CPU part\t: {cpu.part:#05x}\n") == 4


def test_setup_does_not_replace_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_line: ErrorLine
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "home"))
    assert "exists and is not a board" in error_line(["setup"])
    assert (tmp_path / "home" / "letter").exists()


def test_setup_in_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_line: ErrorLine
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "file" / "board"))
    line = error_line(["setup"])
    assert line.startswith(f"cannot build the board in {tmp_path}/file/board: ")


def test_machine_without_an_emulator(
    monkeypatch: pytest.MonkeyPatch, error_line: ErrorLine
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    line = error_line(["setup"])
    assert (
        line == f"the board runs on Linux on x86_64 or aarch64, this is {sys.platform} on riscv64"
    )
