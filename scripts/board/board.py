"""The emulated Arm board: aarch64 programs, Python and models on this machine, with exact counts.

    python -m scripts.board setup
    python -m scripts.board run    [--cpu CPU] PROGRAM [ARGUMENTS...]
    python -m scripts.board python [--cpu CPU] SCRIPT [ARGUMENTS...]
    python -m scripts.board count  [--cpu CPU] [--json FILE] MODEL.tflite [--delegate LIBRARY]

The board is a folder: QEMU's user-mode emulator with the libraries it needs, an arm64 system folder
with CPython 3.11, numpy, LiteRT and the TVM runtime, and one view of that folder for each CPU
model. It also holds what tests need to run this machine's programs under AddressSanitizer. Packages
come from this machine's own package settings: Debian's (read for arm64 as well, nothing is
installed) and pip's. The folder is ``$LEANCONV_BOARD``, else
``${XDG_CACHE_HOME:-~/.cache}/leanconv/board``.

A count of executed instructions is exact and repeatable, and it is not a latency; wall time under
emulation means nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from schedules.cache import cache_folder
from schedules.errors import LeanconvError, complaint
from schedules.target.toolchain import GLIBC, Toolchain

EMULATOR_SOURCES = Path(__file__).resolve().parent / "emulator"

Mode = Literal["xnnpack", "builtin"]
Plugin = Literal["count_instructions", "profile_regions"]

# Keys of a count, in the order of the table; EMULATOR_SOURCES/count_instructions.c defines them.
INSTRUCTION_CLASSES = {
    "v_fma": "vector multiply-add",
    "v_fp": "vector floating point, other",
    "v_int": "vector integer",
    "v_mov": "vector moves and permutes",
    "v_ld": "vector loads",
    "v_st": "vector stores",
    "s_fp": "scalar floating point",
    "s_ld": "scalar loads",
    "s_st": "scalar stores",
    "branch": "branches",
    "other": "other",
}
BYTE_COUNTERS = {"v_ld_bytes": "bytes by vector loads", "v_st_bytes": "bytes by vector stores"}

COUNT_NOTE = (
    "Executed instructions of one invocation, one thread, after two warm-up invocations, "
    "on an emulated {cpu}: a count is not a latency."
)

# Raised whenever boards made by older versions of this file must be rebuilt.
_PACKAGES_FORMAT = 1
_TOOLS_FORMAT = 1

_STAMP = "board.json"
_SETUP_COMMAND = "python -m scripts.board setup"


# ---- CPU models ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cpu:
    """One core as programs see it.

    Attributes
    ----------
    name
        Arm's name in lower case, as ``--cpu`` takes it.
    emulator_model
        QEMU's ``-cpu`` value: which instructions exist.
    part, variant, revision
        What ``/proc/cpuinfo`` shows: by these XNNPACK picks its kernels.
    features
        The features line of ``/proc/cpuinfo``.
    note
        How the emulated core differs from the named one; empty when it does not.
    """

    name: str
    emulator_model: str
    part: int
    variant: int
    revision: int
    features: str
    note: str = ""

    def proc_cpuinfo(self) -> str:
        """Text of ``/proc/cpuinfo`` on a board with four of these cores."""
        return "".join(
            f"processor\t: {core}\n"
            "BogoMIPS\t: 108.00\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\n"
            "CPU architecture: 8\n"
            f"CPU variant\t: {self.variant:#x}\n"
            f"CPU part\t: {self.part:#05x}\n"
            f"CPU revision\t: {self.revision}\n\n"
            for core in range(_CORES)
        )


_CORES = 4
_ARMV8_0 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = (
    "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
)
_ARMV9_0 = (
    "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop asimddp asimdfhm ilrcpc flagm i8mm bf16"
)

CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a53", "cortex-a53", 0xD03, 0, 4, _ARMV8_0),
        Cpu(
            "cortex-a55",
            "cortex-a76",
            0xD05,
            2,
            0,
            _ARMV8_2,
            "the emulator has no model of cortex-a55: instructions are those of cortex-a76, which "
            "has the same set (Armv8.2-A with fp16 and dot products)",
        ),
        Cpu("cortex-a57", "cortex-a57", 0xD07, 1, 0, _ARMV8_0),
        Cpu("cortex-a72", "cortex-a72", 0xD08, 0, 3, _ARMV8_0),
        Cpu("cortex-a76", "cortex-a76", 0xD0B, 4, 1, _ARMV8_2),
        Cpu(
            "cortex-a710",
            "max,sve=off,sme=off,pauth-impdef=on",
            0xD47,
            2,
            0,
            _ARMV9_0,
            "the emulator has no model of cortex-a710: instructions are those of its most complete "
            "core without SVE, so with integer matrix products and bfloat16",
        ),
        Cpu("neoverse-n1", "neoverse-n1", 0xD0C, 4, 1, _ARMV8_2),
    )
}
DEFAULT_CPU = "cortex-a72"


def find_cpu(name: str) -> Cpu:
    """The CPU model of that name.

    Raises
    ------
    LeanconvError
        When the board has no such model; the message lists those it has.
    """
    if name not in CPUS:
        raise LeanconvError(f"unknown CPU {name!r}; the board has {', '.join(CPUS)}")
    return CPUS[name]


# ---- this machine ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Host:
    """What depends on the architecture of the machine that emulates."""

    machine: str
    debian: str
    loader: str

    @property
    def triplet(self) -> str:
        return f"{self.machine}-linux-gnu"


_HOSTS = {
    "x86_64": _Host("x86_64", "amd64", "ld-linux-x86-64.so.2"),
    "aarch64": _Host("aarch64", "arm64", "ld-linux-aarch64.so.1"),
}


def _this_host() -> _Host:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _HOSTS:
        raise LeanconvError(
            f"the board runs on Linux on {' or '.join(_HOSTS)}, this is {sys.platform} on {machine}"
        )
    return _HOSTS[machine]


# ---- what a board is made of -----------------------------------------------------------------

# apt-get adds the packages that these depend on.
_ARM64_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
# Debian 12 has the one build of QEMU 7.2 whose user-mode emulator takes plugins.
_EMULATOR_PACKAGE = "qemu-user"
# AddressSanitizer's runtime for this machine's programs: zig compiles for it but does not bring it.
_SANITIZER_PACKAGE = "libasan8"
_SANITIZER_LIBRARY = "libasan.so.8"
_HOST_PACKAGES = (_EMULATOR_PACKAGE, _SANITIZER_PACKAGE)

# The board uses what the running Python uses, as far as that exists for CPython 3.11 on aarch64.
_SAME_VERSION = ("numpy", "ai-edge-litert")
_REQUIREMENTS = (
    "apache-tvm==0.27.0.post1",
    "apache-tvm-ffi>=0.1.14,<0.1.15",
    "backports.strenum",
    "cloudpickle",
    "flatbuffers",
    "ml_dtypes",
    "protobuf",
    "psutil",
    "tornado",
    "tqdm",
    "typing_extensions",
)
_WHEEL_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
# Nothing on the board compiles or draws: 300 MB that are never unpacked.
_UNUSED_WHEEL_FILES = (
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "tvm/3rdparty/",
    "tvm/include/",
    "tvm/lib/libtvm_compiler.so",
    "tvm/lib/libtvm_runtime_cuda.so",
    "tvm/src/",
    "tvm_ffi/3rdparty/",
)
_UNUSED_SYSTEM_FOLDERS = ("usr/share/doc", "usr/share/man", "usr/share/locale")

_SYSTEM = "system"
_EMULATOR = "emulator"
# Apart from the emulator's libraries, whose C library is not for this machine's programs.
_SANITIZER = "sanitizer"
_PYTHON = Path("usr/bin/python3.11")
_SITE = Path("usr/local/lib/python3.11/dist-packages")


def _running_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _same_version_requirements() -> list[str]:
    versions = {package: _running_version(package) for package in _SAME_VERSION}
    return [f"{package}=={v}" if v else package for package, v in versions.items()]


def _wanted_packages(host: _Host) -> dict[str, Any]:
    """The stamp of an up-to-date board; anything else in the file makes the board stale."""
    return {
        "format": _PACKAGES_FORMAT,
        "host": host.machine,
        "debian": [*_ARM64_PACKAGES, *_HOST_PACKAGES],
        "python": [*_same_version_requirements(), *_REQUIREMENTS],
    }


# ---- the board -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Invocation:
    """What a model did on the board.

    Attributes
    ----------
    outputs
        The output tensors, in the model's order.
    report
        The delegate's own report, or None when there is no delegate or it has none.
    counts
        Executed instructions by class (`INSTRUCTION_CLASSES`), their ``total``, and the bytes
        moved by vector loads and stores (`BYTE_COUNTERS`); None unless asked for.
    """

    outputs: list[np.ndarray]
    report: Any
    counts: dict[str, int] | None


class Board:
    """An emulated Arm board in a folder.

    Parameters
    ----------
    folder
        Where the board is or will be; `setup` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    @classmethod
    def default(cls) -> Board:
        """The board in ``$LEANCONV_BOARD``, else in the user's cache folder."""
        chosen = os.environ.get("LEANCONV_BOARD")
        return cls(Path(chosen) if chosen else cache_folder("board"))

    # -- setting up

    def is_ready(self) -> bool:
        """Whether the folder holds a complete board of the versions that are wanted now."""
        host = _this_host()
        return self._has_packages(host) and self._tools(host).is_dir()

    def setup(self, progress: Callable[[str], None] | None = None) -> None:
        """Build what is missing or out of date; returns at once when nothing is.

        The board is built beside its folder and renamed at the end, under a lock: an interrupted
        or concurrent call leaves no half-made board.

        Parameters
        ----------
        progress
            Called with one line before each step.

        Raises
        ------
        LeanconvError
            When a program or package is missing, the network is down, or a folder is not writable.
        """
        report = progress or (lambda line: None)
        host = _this_host()
        if self.is_ready():
            return
        try:
            with self._lock(report):
                self._remove_leftovers()
                if not self._has_packages(host):
                    self._build_packages(host, report)
                if not self._tools(host).is_dir():
                    self._build_tools(host, report)
        except OSError as error:
            raise LeanconvError(
                f"cannot build the board in {self.folder}: {error}; LEANCONV_BOARD chooses another "
                "folder"
            ) from error

    def _has_packages(self, host: _Host) -> bool:
        try:
            stamp = json.loads((self.folder / _STAMP).read_text())
        except (OSError, ValueError):
            return False
        return bool(stamp == _wanted_packages(host))

    @property
    def _partial_prefix(self) -> str:
        return f"{self.folder.name}.partial-"

    @contextlib.contextmanager
    def _lock(self, report: Callable[[str], None]) -> Iterator[None]:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report("waiting for another process that sets this board up")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _remove_leftovers(self) -> None:
        for leftover in self.folder.parent.glob(f"{self._partial_prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    @contextlib.contextmanager
    def _partial_folder(self) -> Iterator[Path]:
        """A folder on the board's file system that is gone afterwards."""
        partial = tempfile.mkdtemp(prefix=self._partial_prefix, dir=self.folder.parent)
        try:
            yield Path(partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _build_packages(self, host: _Host, report: Callable[[str], None]) -> None:
        if _is_foreign(self.folder):
            raise LeanconvError(
                f"{self.folder} exists and is not a board; remove it or let LEANCONV_BOARD name "
                "another folder"
            )
        _check_programs()
        with self._partial_folder() as partial:
            board = partial / "board"
            board.mkdir()
            report("Debian package lists, for arm64 and this machine")
            debs = _download_debian(partial, host, report)
            report("unpacking Debian packages")
            _unpack_debian(debs, board, host)
            report("Python packages for CPython 3.11 on aarch64")
            wheels = _download_wheels(partial / "wheels")
            report("unpacking Python packages")
            _unpack_wheels(wheels, board / _SYSTEM / _SITE)
            (board / _STAMP).write_text(json.dumps(_wanted_packages(host), indent=1) + "\n")
            if self.folder.exists():
                self.folder.rename(partial / "replaced")
            board.rename(self.folder)

    def _tools(self, host: _Host) -> Path:
        """Folder of what is made from this checkout: plugins, markers and CPU views.

        Its name is a digest of what it is made from, so that checkouts can share one board.
        """
        digest = hashlib.sha256(f"{_TOOLS_FORMAT} {host} {self.folder} {CPUS}".encode())
        for source in sorted(EMULATOR_SOURCES.glob("*.[ch]")):
            digest.update(source.read_bytes())
        return self.folder / "tools" / digest.hexdigest()[:16]

    def _build_tools(self, host: _Host, report: Callable[[str], None]) -> None:
        report("compiling the emulator's plugins and the markers")
        with self._partial_folder() as partial:
            tools = partial / "tools"
            tools.mkdir()
            sources = EMULATOR_SOURCES
            for plugin in get_args(Plugin):
                _compile_library(sources / f"{plugin}.c", tools / f"{plugin}.so", host.machine)
            _compile_library(sources / "markers.c", tools / "markers.so", "aarch64", "-nostdlib")
            for cpu in CPUS.values():
                self._make_view(tools / cpu.name, cpu)
            report("first start of the board's Python")
            final = self._tools(host)
            final.parent.mkdir(exist_ok=True)
            tools.rename(final)
            try:
                self._check_python()
            except BaseException:
                shutil.rmtree(final)
                raise

    def _make_view(self, view: Path, cpu: Cpu) -> None:
        """A system folder that differs in what the kernel says about the processor.

        LiteRT crashes without an Arm-style ``/proc/cpuinfo``; the emulator of Debian 12 shows the
        real machine's where a system folder has none.
        """
        view.mkdir()
        for name in ("etc", "lib", "usr"):
            (view / name).symlink_to(Path("../../..") / _SYSTEM / name)
        (view / "proc").mkdir()
        (view / "proc" / "cpuinfo").write_text(cpu.proc_cpuinfo())
        processors = view / "sys/devices/system/cpu"
        processors.mkdir(parents=True)
        for name in ("online", "possible", "present"):
            (processors / name).write_text(f"0-{_CORES - 1}\n")
        python = view / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.join(self.python_command([], cpu.name))} "$@"\n')
        python.chmod(0o755)

    def _check_python(self) -> None:
        """Import what later runs import, so that all of them find it compiled to bytecode.

        A run that compiles modules has another heap, which its count would show.
        """
        program = (
            "import argparse, zipfile, numpy.random, ai_edge_litert.interpreter, "
            "tvm.exec.rpc_server, tvm.exec.popen_worker"
        )
        command = self.python_command(["-c", program])
        outcome = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
        if outcome.returncode != 0:
            raise LeanconvError(
                f"the board's Python does not start: {complaint(outcome.stderr)}; remove "
                f"{self.folder} and run {_SETUP_COMMAND}"
            )

    # -- running

    def command(
        self,
        argv: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        *,
        env: Mapping[str, str] | None = None,
        plugin: Plugin = "count_instructions",
        plugin_arguments: str | None = None,
    ) -> list[str]:
        """The command line that runs an aarch64 program on the board.

        Parameters
        ----------
        argv
            Program and arguments. Paths are those of this machine.
        cpu
            A name in `CPUS`.
        env
            Set in the program's environment, beside what the caller's holds.
        plugin, plugin_arguments
            The plugin in `EMULATOR_SOURCES`; without arguments none is loaded.

        Raises
        ------
        LeanconvError
            For an unknown CPU.
        """
        host = _this_host()
        model = find_cpu(cpu)
        emulator = self.folder / _EMULATOR
        libraries = [emulator / "lib" / host.triplet, emulator / "usr/lib" / host.triplet]
        # The emulator's own loader and C library: no LD_LIBRARY_PATH that programs would inherit.
        command = [
            str(libraries[0] / host.loader),
            "--library-path",
            ":".join(map(str, libraries)),
            str(emulator / "usr/bin/qemu-aarch64"),
            *("-cpu", model.emulator_model, "-L", str(self._tools(host) / cpu)),
        ]
        # Settings of this machine's programs, meaningless or fatal to the board's.
        for name in ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME"):
            command += ["-U", name]
        for name, value in (env or {}).items():
            command += ["-E", f"{name}={value}"]
        if plugin_arguments is not None:
            library = self._tools(host) / f"{plugin}.so"
            command += ["-plugin", f"{_escape_commas(library)},{plugin_arguments}"]
        return [*command, *map(str, argv)]

    def python_command(
        self,
        arguments: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        *,
        env: Mapping[str, str] | None = None,
        plugin_arguments: str | None = None,
    ) -> list[str]:
        """The command line of the board's Python; parameters as in `command`."""
        wrapper = self._tools(_this_host()) / cpu / "python"
        variables = {
            # Python programs start others by `sys.executable`, which this machine cannot run.
            "LEANCONV_BOARD_PYTHON": str(wrapper),
            "TVM_USE_RUNTIME_LIB": "1",
            **(env or {}),
        }
        python = self.folder / _SYSTEM / _PYTHON
        return self.command(
            [python, *arguments], cpu, env=variables, plugin_arguments=plugin_arguments
        )

    def run(
        self,
        argv: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run an aarch64 program and wait for it.

        Parameters
        ----------
        argv, cpu, env
            As in `command`.
        **options
            Passed on to `subprocess.run`: ``capture_output``, ``timeout`` in seconds, ``cwd``, …

        Raises
        ------
        LeanconvError
            When the board is not set up, or the program is missing or not an aarch64 one.
        """
        self._require_ready()
        _check_aarch64_file(Path(argv[0]), "program")
        return subprocess.run(self.command(argv, cpu, env=env), text=True, check=False, **options)

    def run_python(
        self,
        arguments: Sequence[str | Path],
        cpu: str = DEFAULT_CPU,
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run the board's Python with these arguments; parameters and errors as in `run`."""
        self._require_ready()
        command = self.python_command(arguments, cpu, env=env)
        return subprocess.run(command, text=True, check=False, **options)

    def python(
        self,
        script: str | Path,
        arguments: Sequence[str | Path] = (),
        cpu: str = DEFAULT_CPU,
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python script on the board; parameters and errors as in `run`."""
        _check_file(Path(script), "script")
        return self.run_python([script, *arguments], cpu, env=env, **options)

    def _require_ready(self) -> None:
        if not self.is_ready():
            raise LeanconvError(f"the emulated board is not set up; run {_SETUP_COMMAND}")

    @property
    def python_packages(self) -> Path:
        """The folder of the Python packages for aarch64, TVM's among them.

        Raises
        ------
        LeanconvError
            When the board is not set up.
        """
        self._require_ready()
        return self.folder / _SYSTEM / _SITE

    # -- checking

    @property
    def address_sanitizer(self) -> Path:
        """AddressSanitizer's shared runtime, of GCC 12, for programs of this machine.

        Nothing but the runtime is in its folder, so that the folder may be on a program's library
        path. It needs this machine's C library, 2.34 or later.

        Raises
        ------
        LeanconvError
            When the board is not set up.
        """
        self._require_ready()
        folder = self.folder / _SANITIZER / "usr/lib" / _this_host().triplet
        return folder / _SANITIZER_LIBRARY

    # -- counting

    @property
    def markers(self) -> Path:
        """The aarch64 library that exports ``leanconv_region_start`` and ``…_stop``."""
        return self._tools(_this_host()) / "markers.so"

    def count_regions(
        self, argv: Sequence[str | Path], cpu: str = DEFAULT_CPU, **options: Any
    ) -> list[dict[str, int]]:
        """Executed instructions of each region that an aarch64 program marks.

        A region lies between ``hint #100`` and ``hint #101`` (neither is counted). Counts are
        exact for one thread.

        Parameters
        ----------
        argv, cpu, **options
            As in `run`; the program's output is not shown.

        Returns
        -------
        list of dict
            One count a region, in the order in which they ended; keys as in `Invocation`.

        Raises
        ------
        LeanconvError
            As `run`, and when the program fails.
        """
        outcome, counts = self._run_regions("count_instructions", [], argv, cpu, options)
        if outcome.returncode != 0:
            raise LeanconvError(f"{argv[0]} {ending(outcome)} on the emulated {cpu}")
        return [_with_total(count) for count in counts]

    def profile_regions(
        self,
        argv: Sequence[str | Path],
        caches: Sequence[str],
        cpu: str = DEFAULT_CPU,
        **options: Any,
    ) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
        """Executed blocks and cache misses of each region that an aarch64 program marks.

        Parameters
        ----------
        argv, cpu, **options
            As in `run`; the program's output is kept.
        caches
            ``l1=BYTES:WAYS`` and ``l2=BYTES:WAYS``: see EMULATOR_SOURCES/profile_regions.c, also
            for the keys of a region.

        Returns
        -------
        process, list of dict
            The ended program, whatever its status, and what it did, a dict a region.

        Raises
        ------
        LeanconvError
            As `run`.
        """
        return self._run_regions("profile_regions", caches, argv, cpu, options)

    def _run_regions(
        self,
        plugin: Plugin,
        plugin_arguments: Sequence[str],
        argv: Sequence[str | Path],
        cpu: str,
        options: Mapping[str, Any],
    ) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
        self._require_ready()
        _check_aarch64_file(Path(options.get("cwd", "."), argv[0]), "program")
        with tempfile.TemporaryDirectory() as scratch:
            regions = Path(scratch) / "regions"
            regions.touch()
            arguments = ",".join([_plugin_output(regions), *plugin_arguments])
            command = self.command(argv, cpu, plugin=plugin, plugin_arguments=arguments)
            outcome = subprocess.run(
                command, text=True, check=False, **{"capture_output": True, **options}
            )
            return outcome, _read_regions(regions)

    def invoke(
        self,
        model: str | Path,
        *,
        mode: Mode = "xnnpack",
        cpu: str = DEFAULT_CPU,
        delegate: str | Path | None = None,
        options: str | None = None,
        inputs: Sequence[np.ndarray] | None = None,
        seed: int = 0,
        threads: int = 1,
        invocations: int = 1,
        count: bool = False,
    ) -> Invocation:
        """Run a TensorFlow Lite model under LiteRT on the board.

        Parameters
        ----------
        model
            A ``.tflite`` file.
        mode
            What runs the model, or what a delegate leaves of it: XNNPACK, which is LiteRT's
            default, or LiteRT's built-in kernels.
        cpu
            A name in `CPUS`.
        delegate, options
            An external delegate built for aarch64 Linux; its options as ``key:value;key:value``.
        inputs
            Arrays in the model's order; other shapes than the model's resize it. Without them,
            random values from `seed`.
        threads
            LiteRT's number of threads.
        invocations
            How often the model runs before its outputs are read.
        count
            Whether to count the instructions of one more invocation.

        Raises
        ------
        LeanconvError
            When the board is not set up, a file is missing or unusable, or the model fails.
        """
        self._require_ready()
        find_cpu(cpu)
        _check_file(Path(model), "model")
        if delegate is not None:
            _check_aarch64_file(Path(delegate), "delegate")
        with tempfile.TemporaryDirectory() as name:
            # The environment and the lengths of paths move Python's stack and heap, and with them
            # a few instructions of the model's: every model runs under the same names.
            scratch = Path(name)
            names = {"model.tflite": Path(model)}
            arguments: list[str | Path] = [EMULATOR_SOURCES / "invoke_model.py", "model.tflite"]
            arguments += ["--outputs", "outputs.npz"]
            arguments += ["--seed", str(seed), "--threads", str(threads)]
            arguments += ["--invocations", str(invocations)]
            if mode == "builtin":
                arguments += ["--builtin"]
            if delegate is not None:
                names["delegate.so"] = Path(delegate)
                arguments += ["--delegate", "delegate.so"]
                arguments += [f"--delegate-options={options or ''}"]
            if inputs is not None:
                named: dict[str, Any] = {f"input_{i}": array for i, array in enumerate(inputs)}
                np.savez(scratch / "inputs.npz", **named)
                arguments += ["--inputs", "inputs.npz"]
            if count:
                arguments += ["--count", self.markers]
            for link, path in names.items():
                (scratch / link).symlink_to(path.absolute())
            command = self.python_command(
                arguments,
                cpu,
                # Counts also depend on the order of hash tables, and on whether numpy has threads.
                env={"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
                plugin_arguments=_plugin_output(scratch / "regions") if count else None,
            )
            outcome = subprocess.run(
                command, text=True, check=False, capture_output=True, cwd=scratch, env={}
            )
            if outcome.returncode != 0:
                refused = _error_line(outcome.stderr, ("error: ",))
                if not refused:
                    raise LeanconvError(f"running {model} {ending(outcome)} on the emulated {cpu}")
                for link, path in names.items():
                    refused = refused.replace(f"{scratch}/{link}", str(path))
                    refused = refused.replace(f" {link}", f" {path}")
                raise LeanconvError(refused.removeprefix("error: "))
            described = json.loads(outcome.stdout.splitlines()[-1])
            with np.load(scratch / "outputs.npz") as arrays:
                values = [arrays[f"output_{i}"] for i in range(len(described["outputs"]))]
            counts = None
            if count:
                marking, invocation = _read_regions(scratch / "regions")[-2:]
                counts = _with_total({key: invocation[key] - marking[key] for key in invocation})
        return Invocation(values, described["report"], counts)

    def count(
        self,
        model: str | Path,
        mode: Mode = "xnnpack",
        cpu: str = DEFAULT_CPU,
        delegate: str | Path | None = None,
        options: str | None = None,
    ) -> dict[str, int]:
        """Executed instructions of one invocation of a model: one thread, after two warm-ups.

        Parameters and errors are those of `invoke`, the result is `Invocation.counts`.
        """
        invocation = self.invoke(
            model,
            mode=mode,
            cpu=cpu,
            delegate=delegate,
            options=options,
            invocations=_WARM_UPS,
            count=True,
        )
        assert invocation.counts is not None
        return invocation.counts


_WARM_UPS = 2


def _escape_commas(path: Path) -> str:
    """A path inside one of the emulator's comma-separated arguments."""
    return str(path).replace(",", ",,")


def _plugin_output(path: Path) -> str:
    return f"out={_escape_commas(path)}"


def _read_regions(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _with_total(counts: dict[str, int]) -> dict[str, int]:
    return {**counts, "total": sum(counts[name] for name in INSTRUCTION_CLASSES)}


def _check_file(path: Path, kind: str) -> None:
    if not path.is_file():
        raise LeanconvError(f"there is no {kind} {path}")


def _check_aarch64_file(path: Path, kind: str) -> None:
    """Refuse what the emulator would refuse with a message about something else."""
    _check_file(path, kind)
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


# ---- building --------------------------------------------------------------------------------


def _is_foreign(folder: Path) -> bool:
    """Whether a board put there would take the place of something else."""
    if not folder.exists() or (folder / _STAMP).exists():
        return False
    return not folder.is_dir() or any(folder.iterdir())


def _check_programs() -> None:
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise LeanconvError(
                f"{program} is missing: the board is built from Debian 12's packages, on Debian 12"
            )
    for module in ("pip", "ziglang"):
        if not importlib.util.find_spec(module):
            raise LeanconvError(f"this Python has no {module}: python -m pip install {module}")


def _error_line(text: str, prefixes: Sequence[str]) -> str | None:
    for line in text.splitlines():
        if line.startswith(tuple(prefixes)):
            return line.strip()
    return None


def _download_debian(partial: Path, host: _Host, report: Callable[[str], None]) -> list[Path]:
    """Fetch the packages and all they depend on, by this machine's settings.

    apt-get works on lists and a package database of its own, in which nothing is installed: it
    resolves the whole set, needs no root and leaves this machine's database alone.
    """
    apt = partial / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    architectures = " ".join(f'"{name}";' for name in dict.fromkeys(("arm64", host.debian)))
    (apt / "apt.conf").write_text(
        "#clear APT::Architectures;\n"
        # Hooks of this machine's programs, which want root.
        "#clear APT::Update::Pre-Invoke;\n"
        "#clear APT::Update::Post-Invoke;\n"
        "#clear APT::Update::Post-Invoke-Success;\n"
        "#clear DPkg::Pre-Install-Pkgs;\n"
        'APT::Architecture "arm64";\n'
        f"APT::Architectures {{ {architectures} }};\n"
        'APT::Sandbox::User "";\n'
        'APT::Install-Recommends "false";\n'
        'Acquire::Languages "none";\n'
        f'Dir::State "{apt}/state";\n'
        f'Dir::State::status "{apt}/status";\n'
        f'Dir::Cache "{apt}/cache";\n'
        f'Dir::Log "{apt}";\n'
    )
    apt_get = ["apt-get", "-c", str(apt / "apt.conf"), "-qq", "--yes"]
    environment = {**os.environ, "LC_ALL": "C"}
    # A list that cannot be fetched may be one that is not needed: the next command decides.
    update = subprocess.run(
        [*apt_get, "update"], env=environment, capture_output=True, text=True, check=False
    )
    report("Debian packages")
    packages = [f"{name}:arm64" for name in _ARM64_PACKAGES]
    packages += [f"{name}:{host.debian}" for name in _HOST_PACKAGES]
    install = subprocess.run(
        [*apt_get, "--download-only", "install", *packages],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if install.returncode != 0:
        cause = (
            _error_line(update.stderr, ("E:", "W: Failed to fetch"))
            or _error_line(install.stderr, ("E:",))
            or complaint(install.stderr)
        )
        raise LeanconvError(
            f"apt-get cannot fetch the board's packages: {cause} (they are those of Debian 12; "
            "check the network connection and /etc/apt, then run setup again)"
        )
    return sorted((apt / "cache/archives").glob("*.deb"))


def _unpack_debian(debs: Sequence[Path], board: Path, host: _Host) -> None:
    system, emulator, sanitizer = board / _SYSTEM, board / _EMULATOR, board / _SANITIZER
    for root in (system, emulator, sanitizer):
        root.mkdir()
    for deb in debs:
        architecture = deb.stem.rpartition("_")[2]
        if deb.name.startswith(f"{_EMULATOR_PACKAGE}_"):
            _unpack_emulator(deb, emulator)
            continue
        if deb.name.startswith(f"{_SANITIZER_PACKAGE}_"):
            _unpack_deb(deb, sanitizer)
            continue
        if architecture in ("arm64", "all"):
            _unpack_deb(deb, system)
        if architecture == host.debian:
            _unpack_deb(deb, emulator)
    for root in (system, emulator, sanitizer):
        for folder in _UNUSED_SYSTEM_FOLDERS:
            shutil.rmtree(root / folder, ignore_errors=True)
    # Without a cache of its own the board's loader would read this machine's.
    (system / "etc").mkdir(exist_ok=True)
    (system / "etc/ld.so.cache").write_bytes(b"")


def _unpack_deb(deb: Path, folder: Path) -> None:
    unpacked = subprocess.run(
        ["dpkg-deb", "-x", str(deb), str(folder)], capture_output=True, text=True, check=False
    )
    if unpacked.returncode != 0:
        raise LeanconvError(f"cannot unpack {deb.name}: {complaint(unpacked.stderr)}")


def _unpack_emulator(deb: Path, folder: Path) -> None:
    """Unpack only the emulator of aarch64: the package has thirty others."""
    wanted = "./usr/bin/qemu-aarch64"
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE
    ) as archive:
        assert archive.stdout is not None
        with tarfile.open(fileobj=archive.stdout, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name == wanted else None
                if content:
                    program = folder / wanted
                    program.parent.mkdir(parents=True, exist_ok=True)
                    with program.open("wb") as file:
                        shutil.copyfileobj(content, file)
                    program.chmod(0o755)
                    # The rest need not be unpacked to be thrown away.
                    archive.kill()
                    return
    raise LeanconvError(f"{deb.name} has no {wanted}")


def _download_wheels(folder: Path) -> list[Path]:
    platforms = [word for name in _WHEEL_PLATFORMS for word in ("--platform", name)]
    abis = [word for name in ("cp311", "abi3", "none") for word in ("--abi", name)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-input", "--dest", str(folder), "--no-deps", "--only-binary=:all:"]
    pip += [*platforms, "--python-version", "3.11", "--implementation", "cp", *abis]
    # The running Python's versions may have no wheel for CPython 3.11; any will do then.
    for same in (_same_version_requirements(), list(_SAME_VERSION)):
        download = subprocess.run(
            [*pip, *same, *_REQUIREMENTS], capture_output=True, text=True, check=False
        )
        if download.returncode == 0:
            return sorted(folder.glob("*.whl"))
    cause = _error_line(download.stderr, ("ERROR:",)) or complaint(download.stderr)
    raise LeanconvError(
        f"pip cannot download the board's Python packages: {cause} (check the network connection "
        "and `pip config list`, then run setup again)"
    )


def _unpack_wheels(wheels: Sequence[Path], site: Path) -> None:
    site.mkdir(parents=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = [
                name
                for name in archive.namelist()
                if not name.startswith(_UNUSED_WHEEL_FILES) and "/tests/" not in name
            ]
            archive.extractall(site, names)
    (site / "leanconv_board.pth").write_text(
        "import os, sys; sys.executable = os.environ.get('LEANCONV_BOARD_PYTHON', sys.executable)\n"
    )


def _compile_library(source: Path, library: Path, machine: str, *options: str) -> None:
    target = ["-target", f"{machine}-linux-gnu.{GLIBC}"]
    common = ["-std=c11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden"]
    Toolchain.default().run([*target, *common, *options, source, "-o", library])


# ---- the command -----------------------------------------------------------------------------


def max_abs_difference(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Largest absolute difference between two runs' outputs; quantised ones in units of a step."""
    return max(
        float(np.max(np.abs(np.subtract(a, b, dtype=np.float64)), initial=0.0))
        for a, b in zip(outputs, reference, strict=True)
    )


def _count_rows(
    board: Board,
    model: Path,
    cpu: str,
    *,
    delegate: Path | None,
    options: str | None,
    builtin_only: bool,
) -> list[dict[str, Any]]:
    """One row for XNNPACK, the built-in kernels and the delegate each."""
    runs: list[tuple[str, Mode, Path | None]] = [("builtin", "builtin", None)]
    if not builtin_only:
        runs.insert(0, ("xnnpack", "xnnpack", None))
    if delegate:
        runs.append(("delegate", "builtin" if builtin_only else "xnnpack", delegate))
    invocations = {
        kernels: board.invoke(
            model,
            mode=mode,
            cpu=cpu,
            delegate=library,
            options=options if library else None,
            invocations=_WARM_UPS,
            count=True,
        )
        for kernels, mode, library in runs
    }
    reference = invocations["builtin"].outputs
    return [
        {
            "model": str(model),
            "cpu": cpu,
            "kernels": kernels,
            **(invocation.counts or {}),
            "max_abs_difference": max_abs_difference(invocation.outputs, reference),
            "report": invocation.report,
        }
        for kernels, invocation in invocations.items()
    ]


def _count_table(rows: Sequence[Mapping[str, Any]], delegate: Path | None) -> Table:
    first = rows[0]
    titles = {
        "xnnpack": "XNNPACK",
        "builtin": "built-in kernels",
        "delegate": delegate.name if delegate else "",
    }
    table = Table(title=f"{Path(first['model']).name} on an emulated {first['cpu']}")
    table.add_column("executed instructions")
    for row in rows:
        table.add_column(titles[row["kernels"]], justify="right")

    def add(title: str, key: str, style: str = "{:,}", end_section: bool = False) -> None:
        table.add_row(title, *(style.format(row[key]) for row in rows), end_section=end_section)

    for key, title in INSTRUCTION_CLASSES.items():
        add(f"{key}  {title}", key, end_section=key == "other")
    add("total", "total", end_section=True)
    for key, title in BYTE_COUNTERS.items():
        add(title, key)
    add("max abs difference from built-in kernels", "max_abs_difference", "{:.3g}")
    return table


def _run_count(board: Board, arguments: argparse.Namespace) -> int:
    if arguments.json:
        try:
            arguments.json.touch()
        except OSError as error:
            raise LeanconvError(f"cannot write {arguments.json}: {error.strerror}") from error
    rows = _count_rows(
        board,
        arguments.model,
        arguments.cpu,
        delegate=arguments.delegate,
        options=arguments.delegate_options,
        builtin_only=arguments.builtin,
    )
    console = Console()
    console.print(_count_table(rows, arguments.delegate))
    console.print(COUNT_NOTE.format(cpu=arguments.cpu), highlight=False)
    if CPUS[arguments.cpu].note:
        console.print(f"Note: {CPUS[arguments.cpu].note}.", highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def _run_setup(board: Board) -> int:
    start = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {line}", flush=True)

    board.setup(progress)
    progress(f"the board in {board.folder} is ready")
    return 0


def _exit_status(outcome: subprocess.CompletedProcess[str]) -> int:
    """As a shell gives it: 128 + n for a program that signal n ended."""
    return outcome.returncode if outcome.returncode >= 0 else 128 - outcome.returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="board",
        description="An emulated Arm board on this machine.",
        epilog=f"CPU models: {', '.join(CPUS)} (default: {DEFAULT_CPU}).",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("setup", help="build the board, or do nothing when it is complete")
    run = commands.add_parser("run", help="run an aarch64 program")
    python = commands.add_parser(
        "python", help="run a script, or -- and arguments of python, on the board's Python"
    )
    count = commands.add_parser("count", help="count the executed instructions of a model")
    for command in (run, python, count):
        command.add_argument(
            "--cpu", default=DEFAULT_CPU, help=f"one of {', '.join(CPUS)}; default: %(default)s"
        )
    # One list for the program and its arguments: argparse would swallow a `--` between the two.
    for command, name in ((run, "PROGRAM"), (python, "SCRIPT")):
        command.usage = f"{command.prog} [-h] [--cpu CPU] {name} [ARGUMENTS...]"
        command.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    count.add_argument("model", type=Path, metavar="MODEL.tflite")
    count.add_argument("--delegate", type=Path, metavar="LIBRARY", help="adds its column")
    count.add_argument("--delegate-options", metavar="KEY:VALUE;...")
    count.add_argument(
        "--builtin",
        action="store_true",
        help="no XNNPACK: leave out its column, and give what the delegate leaves to the "
        "built-in kernels",
    )
    count.add_argument("--json", type=Path, metavar="FILE", help="write the same rows as JSON")
    return parser


def _dispatch(arguments: argparse.Namespace) -> int:
    board = Board.default()
    if arguments.command == "setup":
        return _run_setup(board)
    find_cpu(arguments.cpu)
    if arguments.command == "count":
        return _run_count(board, arguments)
    is_option = arguments.words[:1] == ["--"]
    words = arguments.words[is_option:]
    if not words:
        raise LeanconvError(f"{arguments.command} what? Its first argument is missing")
    if arguments.command == "run":
        return _exit_status(board.run(words, arguments.cpu))
    if is_option:
        return _exit_status(board.run_python(words, arguments.cpu))
    return _exit_status(board.python(words[0], words[1:], arguments.cpu))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    try:
        return _dispatch(_parser().parse_args(argv))
    except LeanconvError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
