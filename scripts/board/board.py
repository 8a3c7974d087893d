"""The emulated Arm board: a folder that is set up once, and programs and Python that run in it.

The folder holds QEMU's user-mode emulator with the libraries it needs, an arm64 system folder with
CPython 3.11, numpy, LiteRT and the TVM runtime, and one view of that folder for each CPU model. It
also holds what tests need to run this machine's programs under AddressSanitizer.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from schedules.cache import cache_folder
from schedules.errors import LeanconvError, complaint
from schedules.target.toolchain import GLIBC, Toolchain
from scripts.board import packages
from scripts.board.cpus import CORES, CPUS, DEFAULT_CPU, Cpu, find_cpu
from scripts.board.packages import Report

SOURCES = Path(__file__).resolve().parent / "emulator"
#: The emulator's, in :data:`SOURCES`.
PLUGINS = ("count_instructions", "profile_regions")

# Raised whenever views made by older versions of this file must be made anew.
_TOOLS_FORMAT = 1
_COMPILE = ("-std=c11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")
_STAMP = "board.json"
_SETUP_COMMAND = "python -m scripts.board setup"


class Board:
    """An emulated Arm board in a folder.

    Parameters
    ----------
    folder
        Where the board is or will be; `setup` makes it.

    Raises
    ------
    LeanconvError
        When none can be on this machine.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._host = packages.this_host()

    @classmethod
    def default(cls) -> Board:
        """The board in ``$LEANCONV_BOARD``, else in the user's cache folder."""
        chosen = os.environ.get("LEANCONV_BOARD")
        return cls(Path(chosen) if chosen else cache_folder("board"))

    # -- setting up

    def is_ready(self) -> bool:
        """Whether the folder holds a complete board of the versions that are wanted now."""
        return self._has_packages() and self._tools.is_dir()

    def setup(self, report: Report = lambda line: None) -> None:
        """Build what is missing or out of date; returns at once when nothing is.

        The board is built beside its folder and renamed at the end, under a lock: an interrupted
        or concurrent call leaves no half-made board.

        Raises
        ------
        LeanconvError
            When a program or package is missing, the network is down, or a folder is not writable.
        """
        if self.is_ready():
            return
        try:
            with self._lock(report):
                for leftover in self.folder.parent.glob(f"{self._partial_prefix}*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                if not self._has_packages():
                    self._build_packages(report)
                if not self._tools.is_dir():
                    self._build_tools(report)
        except OSError as error:
            raise LeanconvError(
                f"cannot build the board in {self.folder}: {error}; LEANCONV_BOARD chooses another "
                "folder"
            ) from error

    def _has_packages(self) -> bool:
        try:
            stamp = json.loads((self.folder / _STAMP).read_text())
        except (OSError, ValueError):
            return False
        return bool(stamp == packages.wanted(self._host))

    @property
    def _partial_prefix(self) -> str:
        return f"{self.folder.name}.partial-"

    @contextlib.contextmanager
    def _lock(self, report: Report) -> Iterator[None]:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report("waiting for another process that sets this board up")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _partial_folder(self) -> Iterator[Path]:
        """A folder on the board's file system that is gone afterwards."""
        partial = tempfile.mkdtemp(prefix=self._partial_prefix, dir=self.folder.parent)
        try:
            yield Path(partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _build_packages(self, report: Report) -> None:
        if self._is_foreign():
            raise LeanconvError(
                f"{self.folder} exists and is not a board; remove it or let LEANCONV_BOARD name "
                "another folder"
            )
        with self._partial_folder() as partial:
            board = partial / "board"
            board.mkdir()
            packages.build(board, partial, self._host, report)
            stamp = packages.wanted(self._host)
            (board / _STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
            if self.folder.exists():
                self.folder.rename(partial / "replaced")
            board.rename(self.folder)

    def _is_foreign(self) -> bool:
        """Whether a board put there would take the place of something else."""
        if not self.folder.exists() or (self.folder / _STAMP).exists():
            return False
        return not self.folder.is_dir() or any(self.folder.iterdir())

    @property
    def _tools(self) -> Path:
        """Folder of what is made from this checkout: plugins, markers and CPU views.

        Its name is a digest of what it is made from, so that checkouts can share one board.
        """
        digest = hashlib.sha256(f"{_TOOLS_FORMAT} {self._host} {self.folder} {CPUS}".encode())
        for source in sorted(SOURCES.glob("*.[ch]")):
            digest.update(source.read_bytes())
        return self.folder / "tools" / digest.hexdigest()[:16]

    def _build_tools(self, report: Report) -> None:
        report("compiling the emulator's plugins and the markers")
        with self._partial_folder() as partial:
            tools = partial / "tools"
            tools.mkdir()
            for plugin in PLUGINS:
                _compile(plugin, tools, self._host.machine)
            _compile("markers", tools, "aarch64", "-nostdlib")
            for cpu in CPUS.values():
                self._make_view(tools / cpu.name, cpu)
            report("first start of the board's Python")
            self._tools.parent.mkdir(exist_ok=True)
            tools.rename(self._tools)
            try:
                self._check_python()
            except BaseException:
                shutil.rmtree(self._tools)
                raise

    def _make_view(self, view: Path, cpu: Cpu) -> None:
        """A system folder that differs in what the kernel says about the processor.

        LiteRT crashes without an Arm-style ``/proc/cpuinfo``; the emulator of Debian 12 shows the
        real machine's where a system folder has none.
        """
        view.mkdir()
        for name in ("etc", "lib", "usr"):
            (view / name).symlink_to(Path("../../..") / packages.SYSTEM / name)
        (view / "proc").mkdir()
        (view / "proc" / "cpuinfo").write_text(cpu.proc_cpuinfo())
        processors = view / "sys/devices/system/cpu"
        processors.mkdir(parents=True)
        for name in ("online", "possible", "present"):
            (processors / name).write_text(f"0-{CORES - 1}\n")
        python = view / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.join(self._python([], cpu.name))} "$@"\n')
        python.chmod(0o755)

    def _check_python(self) -> None:
        """Import what later runs import, so that all of them find it compiled to bytecode.

        A run that compiles modules has another heap, which its count would show.
        """
        program = (
            "import argparse, zipfile, numpy.random, ai_edge_litert.interpreter, "
            "tvm.exec.rpc_server, tvm.exec.popen_worker"
        )
        outcome = _finished(self._python(["-c", program]), env={}, capture_output=True)
        if outcome.returncode != 0:
            raise LeanconvError(
                f"the board's Python does not start: {complaint(outcome.stderr)}; remove "
                f"{self.folder} and run {_SETUP_COMMAND}"
            )

    # -- what is in it

    @property
    def python_packages(self) -> Path:
        """The folder of the Python packages for aarch64, TVM's among them; errors as in `run`."""
        self.require_ready()
        return self.folder / packages.SYSTEM / packages.SITE

    @property
    def address_sanitizer(self) -> Path:
        """AddressSanitizer's shared runtime, of GCC 12, for programs of this machine.

        Nothing but the runtime is in its folder, so that the folder may be on a program's library
        path. It needs this machine's C library, 2.34 or later. Errors as in `run`.
        """
        self.require_ready()
        return self.folder / packages.SANITIZER / "usr/lib" / self._host.triplet / "libasan.so.8"

    @property
    def markers(self) -> Path:
        """The aarch64 library that exports ``leanconv_region_start`` and ``…_stop``."""
        return self._tools / "markers.so"

    def require_ready(self) -> None:
        """Refuse a board that is not set up."""
        if not self.is_ready():
            raise LeanconvError(f"the emulated board is not set up; run {_SETUP_COMMAND}")

    # -- running

    def command(
        self,
        argv: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        *,
        variables: Mapping[str, str] | None = None,
        plugin: Sequence[str | Path] = (),
    ) -> list[str]:
        """The command line that runs an aarch64 program on the board.

        Parameters
        ----------
        argv
            Program and arguments. Paths are those of this machine.
        cpu
            A name in `CPUS`.
        variables
            Set in the program's environment, beside what the caller's holds.
        plugin
            One of `PLUGINS` and its arguments.

        Raises
        ------
        LeanconvError
            For an unknown CPU.
        """
        model = find_cpu(cpu)
        emulator = self.folder / packages.EMULATOR
        libraries = [emulator / folder / self._host.triplet for folder in ("lib", "usr/lib")]
        # The emulator's own loader and C library: no LD_LIBRARY_PATH that programs would inherit.
        command = [
            str(libraries[0] / self._host.loader),
            "--library-path",
            ":".join(map(str, libraries)),
            str(emulator / "usr/bin/qemu-aarch64"),
            *("-cpu", model.emulator_model, "-L", str(self._tools / cpu)),
        ]
        # Settings of this machine's programs, meaningless or fatal to the board's.
        for name in ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME"):
            command += ["-U", name]
        for name, value in (variables or {}).items():
            command += ["-E", f"{name}={value}"]
        if plugin:
            words = (self._tools / f"{plugin[0]}.so", *plugin[1:])
            command += ["-plugin", ",".join(str(word).replace(",", ",,") for word in words)]
        return [*command, *map(str, argv)]

    def _python(
        self,
        arguments: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        variables: Mapping[str, str] | None = None,
        plugin: Sequence[str | Path] = (),
    ) -> list[str]:
        settings = {
            # Python programs start others by `sys.executable`, which this machine cannot run.
            "LEANCONV_BOARD_PYTHON": str(self._tools / cpu / "python"),
            "TVM_USE_RUNTIME_LIB": "1",
            **(variables or {}),
        }
        python = self.folder / packages.SYSTEM / packages.PYTHON
        return self.command([python, *arguments], cpu, variables=settings, plugin=plugin)

    def run(
        self,
        argv: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        *,
        variables: Mapping[str, str] | None = None,
        plugin: Sequence[str | Path] = (),
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run an aarch64 program and wait for it.

        Parameters
        ----------
        argv, cpu, variables, plugin
            As in `command`.
        **options
            Passed on to `subprocess.run`: ``capture_output``, ``timeout`` in seconds, ``cwd``, …

        Raises
        ------
        LeanconvError
            When the board is not set up, or the program is missing or not an aarch64 one.
        """
        self.require_ready()
        check_aarch64_file(Path(options.get("cwd", "."), argv[0]), "program")
        command = self.command(argv, cpu, variables=variables, plugin=plugin)
        return _finished(command, **options)

    def python(
        self,
        arguments: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        *,
        variables: Mapping[str, str] | None = None,
        plugin: Sequence[str | Path] = (),
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run the board's Python on a script, or with other arguments; the rest is as in `run`."""
        self.require_ready()
        if not str(arguments[0]).startswith("-"):
            check_file(Path(arguments[0]), "script")
        return _finished(self._python(arguments, cpu, variables, plugin), **options)


def _finished(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, check=False, **options)


def _compile(name: str, folder: Path, machine: str, *options: str) -> None:
    """Compile a library of :data:`SOURCES`."""
    target = ("-target", f"{machine}-linux-gnu.{GLIBC}")
    files = (SOURCES / f"{name}.c", "-o", folder / f"{name}.so")
    Toolchain.default().run([*target, *_COMPILE, *options, *files])


def check_file(path: Path, kind: str) -> None:
    """Refuse a path that is no file, in one line."""
    if not path.is_file():
        raise LeanconvError(f"there is no {kind} {path}")


def check_aarch64_file(path: Path, kind: str) -> None:
    """Refuse what the emulator would refuse with a message about something else."""
    check_file(path, kind)
    with path.open("rb") as file:
        header = file.read(20)
    # e_ident: magic, 64-bit, little-endian; e_machine at offset 18: 183 is EM_AARCH64.
    if header[:6] != b"\x7fELF\x02\x01" or header[18:20] != b"\xb7\x00":
        raise LeanconvError(f"{path} is not a {kind} for aarch64 Linux")


def ending(outcome: subprocess.CompletedProcess[str]) -> str:
    """How a process failed, for the middle of a sentence."""
    last = f" ({complaint(outcome.stderr)})" if outcome.stderr else ""
    if outcome.returncode < 0:
        return f"was ended by signal {-outcome.returncode}{last}"
    return f"failed with status {outcome.returncode}{last}"
