"""The RPC server for boards without Python: what it is made of, and modules run through it.

How it behaves between a tracker and clients is tested with `tvmc rpc-server`'s, in test_rpc.py.
"""

from __future__ import annotations

import platform
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

import tvmc
from schedules.errors import LeanconvError
from schedules.target import elf
from schedules.target.simd import PRESETS, Simd
from scripts.benchmarks.harness.bound import network_bound
from scripts.benchmarks.harness.inference import max_difference, random_inputs
from scripts.board import rpc as board_rpc
from scripts.board.board import Board as EmulatedBoard
from tests.support.modules import (
    CALLING_METADATA,
    HOST,
    METADATA,
    calling,
    compiled,
    mixed,
    mixed_in_numpy,
)
from tests.support.rpc import KEY, PATIENCE_S, Board, TrackerProcess, wait_until
from tvmc.compiling.package import Metadata
from tvmc.running.interpreter import Session, runtime

ARM = PRESETS["cortex-a72"]
IMAGE = np.array([[-1.5, 0.25, 2], [0, 3, -0.5]], np.float32)
CODES = np.array([-128, -3, 0, 127], np.int8)


@dataclass(frozen=True)
class Server:
    """A program, and the command that runs it here."""

    simd: Simd
    program: Path
    command: list[str]

    def fails(self, *arguments: str) -> str:
        """What it says to wrong arguments."""
        outcome = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert (outcome.returncode, outcome.stdout) == (2, "")
        (line,) = outcome.stderr.splitlines()
        assert line.startswith("leanconv-rpc-server: error: ")
        return line.removeprefix("leanconv-rpc-server: error: ")


@pytest.fixture(scope="module", params=[HOST, ARM], ids=["native", "emulated"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Server:
    emulated = EmulatedBoard.default()
    if request.param is ARM:
        emulated.setup()
    program = board_rpc.build(request.param, tmp_path_factory.mktemp("server"))
    command = [str(program)] if request.param is HOST else emulated.command([program], ARM.name)
    return Server(request.param, program, command)


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerProcess]:
    tracker = TrackerProcess()
    yield tracker
    tracker.kill()


@pytest.fixture(scope="module")
def board(
    server: Server, tracker: TrackerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    board = Board(tracker.address, "board", tmp_path_factory.mktemp("boards"), server.command)
    board.start()
    wait_until(board.is_registered)
    yield board
    if board.is_alive():
        board.end()


Run = Callable[..., Any]


@pytest.fixture
def run(tracker: TrackerProcess, server: Server, board: Board, tmp_path: Path) -> Run:
    """Compile a module for the board and run it there."""

    def run(
        module: Any, metadata: Metadata, rpc_timeout: float = PATIENCE_S, **options: Any
    ) -> Any:
        metadata = replace(metadata, target=server.simd.name, tvm_target=server.simd.target)
        library = compiled(tmp_path / "module.so", module, metadata, server.simd)
        return tvmc.run(
            library,
            rpc_tracker=tracker.address,
            rpc_key=KEY,
            rpc_timeout=rpc_timeout,
            **options,
        )

    return run


def check_mixed(run: Run, **options: Any) -> Any:
    result = run(mixed(), METADATA, inputs={"image": IMAGE, "codes:0": CODES}, **options)
    expected = mixed_in_numpy(IMAGE, CODES)
    for output, reference in zip(result.outputs.values(), expected, strict=True):
        # A few exact operations in float32.
        np.testing.assert_array_equal(output, reference)
    return result


# ---- what it is made of ----------------------------------------------------------------------


def newest_glibc(path: Path) -> tuple[int, ...]:
    """The version that it needs."""
    with path.open("rb") as file:
        needed = ELFFile(file).get_section_by_name(".gnu.version_r")
        assert isinstance(needed, GNUVerNeedSection)
        names = [version.name for _, versions in needed.iter_versions() for version in versions]
    numbers = [name.removeprefix("GLIBC_") for name in names if name.startswith("GLIBC_")]
    return max(tuple(map(int, number.split("."))) for number in numbers)


def test_a_board_needs_nothing_else(server: Server) -> None:
    files = sorted(server.program.parent.iterdir())
    assert [file.name for file in files] == [
        "leanconv-rpc-server",
        "libtvm_ffi.so",
        "libtvm_runtime.so",
    ]
    for path in files:
        with path.open("rb") as file:
            assert elf.machine(file) == elf.MACHINES[server.simd.arch]
        assert newest_glibc(path) <= (2, 27)
    with server.program.open("rb") as file:
        (runpath,) = ELFFile(file).get_section_by_name(".dynamic").iter_tags("DT_RUNPATH")
        assert runpath.runpath == "$ORIGIN"
    needed = {name for name in elf.needed_libraries(server.program) if "ld-linux" not in name}
    assert needed == {"libtvm_runtime.so", "libtvm_ffi.so", "libc.so.6"}
    # TVM's libraries bring a C++ library, in whose place nothing of this program may step.
    assert not elf.exported_symbols(server.program)


def test_building_again_replaces_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "folder"
    folder.mkdir(parents=True)
    (folder / "libtvm_ffi.so").write_text("old")
    assert board_rpc.main(["-o", str(folder)]) == 0
    assert capfd.readouterr().out == (
        f"{folder}/leanconv-rpc-server and 2 libraries: copy {folder} to the board\n"
    )
    help_text = subprocess.check_output([folder / "leanconv-rpc-server", "--help"], text=True)
    assert help_text.startswith("usage: leanconv-rpc-server --tracker HOST:PORT --key NAME")
    assert len(list(folder.iterdir())) == 3


# ---- sessions --------------------------------------------------------------------------------


def test_modules_compute(run: Run, board: Board) -> None:
    result = check_mixed(run, profile=True)
    assert f"board 127.0.0.1:{board.port}" in result.runtime
    assert "add" in [row.name for row in result.profile]
    wait_until(board.is_clean)


def test_model(server: Server, tracker: TrackerProcess, board: Board, trained_models: Path,
               tmp_path: Path) -> None:  # fmt: skip
    """A whole network, compiled for the board, agrees with TFLite's built-in kernels here."""
    assert board.is_alive()  # the tests behind this one end it
    graph, module = trained_models / "resnet8_float.tflite", tmp_path / "module.tar"
    report = tvmc.compile(
        graph,
        output=module,
        output_format="tar",
        target=server.simd.name,
        algorithms=["indirect", "dense"],
    )
    session = Session(graph, runtime("litert"), xnnpack=False)
    values = random_inputs(session)
    expected = session.run(values)
    result = tvmc.run(
        module,
        inputs={session.inputs()[0]["name"]: values[0]},
        rpc_tracker=tracker.address,
        rpc_key=KEY,
        rpc_timeout=PATIENCE_S,
        profile=True,
    )
    bound = network_bound(graph, report.to_dict(), session, expected)
    assert max_difference(list(result.outputs.values()), expected) <= bound
    ours = [(row.calls, row.kernel) for row in result.profile if row.kernel]
    assert sum(calls for calls, _ in ours) == len(report.layers) == 10
    assert {kernel.algorithm for _, kernel in ours} == set(report.algorithms)


def test_sessions_end_alone(run: Run, board: Board) -> None:
    server = board.process.pid
    with pytest.raises(LeanconvError, match=rf"board 127.0.0.1:{board.port} was lost: "):
        run(calling("abort"), CALLING_METADATA)
    with pytest.raises(LeanconvError, match="did not answer within 1 s"):
        run(calling("sleep", 1000), CALLING_METADATA, rpc_timeout=1.0)
    check_mixed(run)
    assert board.is_alive() and board.process.pid == server
    wait_until(board.is_clean)


def test_a_tracker_that_is_restarted(run: Run, board: Board, tracker: TrackerProcess) -> None:
    tracker.kill()
    wait_until(lambda: "does not answer" in board.log.read_text())
    tracker.start()
    wait_until(lambda: board.log.read_text().count("registered") == 2)
    check_mixed(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it(board: Board, number: signal.Signals) -> None:
    if not board.is_alive():
        board.start()
        wait_until(board.is_registered)
    board.process.send_signal(number)
    assert board.process.wait(PATIENCE_S) == 128 + number
    assert board.is_clean()


# ---- errors ----------------------------------------------------------------------------------


def test_wrong_arguments(server: Server) -> None:
    right = ["--tracker", "host:9190", "--key", "k"]
    assert server.fails() == "--tracker and --key are required: see --help"
    assert server.fails(*right, "--no") == "unknown argument --no: see --help"
    assert server.fails(*right, "-xv") == "unknown argument -x: see --help"
    assert server.fails(*right, "more") == "unknown argument more: see --help"
    assert server.fails("--key") == "argument --key: its value is missing"
    for text in ("9190", "host:", ":9190", "host:0", "host:99999", "host:1x", "ho st:1"):
        assert server.fails("--tracker", text) == (
            f"argument --tracker: '{text}' is not HOST:PORT, like 192.168.0.10:9190"
        )
    for text in ("two words", 'a"b', "", "k" * 256, "ä"):
        assert "is not a plain name without spaces" in server.fails("--key", text)
    assert server.fails("--port-end", "65536") == "argument --port-end: '65536' is not a port"
    assert "cannot listen at 192.0.2.1:9091: " in server.fails(*right, "--host", "192.0.2.1")


def test_ports_that_are_taken(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        right = ["--tracker", "host:9190", "--key", "k", "--host", "127.0.0.1"]
        assert server.fails(*right, "--port", port, "--port-end", port) == (
            f"all of the ports {port} to {port} are taken: name others"
        )


def build_error(capfd: pytest.CaptureFixture[str], target: str, folder: Path) -> str:
    assert board_rpc.main(["--target", target, "-o", str(folder)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("board.rpc: error: ")
    return line


def test_targets_without_a_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    assert "unknown target 'z80'" in build_error(capfd, "z80", folder)
    assert "no runtime for Android" in build_error(capfd, "cortex-a76-android", folder)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "no TVM runtime for x86_64 on this machine" in build_error(capfd, "x86-64-v3", folder)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "none"))
    assert "is not set up; run " in build_error(capfd, ARM.name, folder)
    assert not folder.exists()


def test_folders_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        assert f"cannot write {folder}: " in build_error(capfd, "host", folder)
