"""What the emulated board is made of: packages of Debian and of Python, fetched and unpacked.

They come from this machine's own package settings: Debian's (read for arm64 as well, nothing is
installed) and pip's.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError, complaint

# Raised whenever boards made by older versions of this file must be rebuilt.
_FORMAT = 1

# apt-get adds the packages that these depend on.
_ARM64_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
# Debian 12 has the one build of QEMU 7.2 whose user-mode emulator takes plugins.
_EMULATOR_PACKAGE = "qemu-user"
# AddressSanitizer's runtime for this machine's programs: zig compiles for it but does not bring it.
_SANITIZER_PACKAGE = "libasan8"
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

#: The board's folders.
SYSTEM = "system"
EMULATOR = "emulator"
#: Apart from the emulator's libraries, whose C library is not for this machine's programs.
SANITIZER = "sanitizer"
#: Files in :data:`SYSTEM`.
PYTHON = Path("usr/bin/python3.11")
SITE = Path("usr/local/lib/python3.11/dist-packages")

#: Called with one line before each step.
Report = Callable[[str], None]


@dataclass(frozen=True)
class Host:
    """What depends on the architecture of the machine that emulates."""

    machine: str
    debian: str
    loader: str

    @property
    def triplet(self) -> str:
        """Debian's name of the folder of libraries."""
        return f"{self.machine}-linux-gnu"


_HOSTS = {
    "x86_64": Host("x86_64", "amd64", "ld-linux-x86-64.so.2"),
    "aarch64": Host("aarch64", "arm64", "ld-linux-aarch64.so.1"),
}


def this_host() -> Host:
    """The machine that this runs on.

    Raises
    ------
    LeanconvError
        When no board can be emulated on it.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _HOSTS:
        raise LeanconvError(
            f"the board runs on Linux on {' or '.join(_HOSTS)}, this is {sys.platform} on {machine}"
        )
    return _HOSTS[machine]


def wanted(host: Host) -> dict[str, Any]:
    """The stamp of an up-to-date board; anything else in the file makes the board stale."""
    return {
        "format": _FORMAT,
        "host": host.machine,
        "debian": [*_ARM64_PACKAGES, *_HOST_PACKAGES],
        "python": [*map(_same_version, _SAME_VERSION), *_REQUIREMENTS],
    }


def build(board: Path, scratch: Path, host: Host, report: Report) -> None:
    """Fill the new folder ``board``; what is fetched goes to ``scratch``, beside it.

    Raises
    ------
    LeanconvError
        When a program or package is missing, or the network is down.
    """
    _check_programs()
    report("Debian packages")
    wanted = [f"{name}:arm64" for name in _ARM64_PACKAGES]
    wanted += [f"{name}:{host.debian}" for name in _HOST_PACKAGES]
    debs = download_debian(wanted, scratch / "apt", host)
    report("unpacking Debian packages")
    _unpack_all(debs, board, host)
    report("Python packages for CPython 3.11 on aarch64")
    wheels = _download_wheels(scratch / "wheels")
    report("unpacking Python packages")
    _unpack_wheels(wheels, board / SYSTEM / SITE)


def _same_version(package: str) -> str:
    try:
        return f"{package}=={importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def _check_programs() -> None:
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise LeanconvError(
                f"{program} is missing: the board is built from Debian 12's packages, on Debian 12"
            )
    for module in ("pip", "ziglang"):
        if not importlib.util.find_spec(module):
            raise LeanconvError(f"this Python has no {module}: python -m pip install {module}")


def _finished(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def download_debian(wanted: Sequence[str], apt: Path, host: Host) -> list[Path]:
    """Fetch packages and all they depend on, by this machine's settings.

    apt-get works on lists and a package database of its own, in which nothing is installed: it
    resolves the whole set, needs no root and leaves this machine's database alone.

    Parameters
    ----------
    wanted : sequence of str
        Names with architectures, such as ``libc6:arm64``.
    apt : Path
        A folder to be made, for lists and packages.
    host : Host
        Its packages may be wanted beside those of arm64.

    Returns
    -------
    list of Path
        The packages' files.

    Raises
    ------
    LeanconvError
        If one cannot be fetched.
    """
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
    # A list that cannot be fetched may be one that is not needed: the next command decides.
    update = _finished([*apt_get, "update"])
    install = _finished([*apt_get, "--download-only", "install", *wanted])
    if install.returncode != 0:
        lines = (update.stderr + install.stderr).splitlines()
        errors = [line for line in lines if line.startswith(("E:", "W: Failed to fetch"))]
        cause = errors[0] if errors else complaint(install.stderr)
        raise LeanconvError(
            f"apt-get cannot fetch packages for the board: {cause} (they are those of Debian 12; "
            "check the network connection and /etc/apt, then run setup again)"
        )
    return sorted((apt / "cache/archives").glob("*.deb"))


def _unpack_all(debs: Sequence[Path], board: Path, host: Host) -> None:
    system, emulator, sanitizer = board / SYSTEM, board / EMULATOR, board / SANITIZER
    for root in (system, emulator, sanitizer):
        root.mkdir()
    for deb in debs:
        architecture = deb.stem.rpartition("_")[2]
        if deb.name.startswith(f"{_EMULATOR_PACKAGE}_"):
            _unpack_emulator(deb, emulator)
        elif deb.name.startswith(f"{_SANITIZER_PACKAGE}_"):
            unpack_debian(deb, sanitizer)
        else:
            if architecture in ("arm64", "all"):
                unpack_debian(deb, system)
            if architecture == host.debian:
                unpack_debian(deb, emulator)
    for root in (system, emulator, sanitizer):
        for folder in _UNUSED_SYSTEM_FOLDERS:
            shutil.rmtree(root / folder, ignore_errors=True)
    # Without a cache of its own the board's loader would read this machine's.
    (system / "etc").mkdir(exist_ok=True)
    (system / "etc/ld.so.cache").write_bytes(b"")


def unpack_debian(deb: Path, folder: Path) -> None:
    """Unpack one package; raises LeanconvError if it is damaged."""
    unpacked = _finished(["dpkg-deb", "-x", deb, folder])
    if unpacked.returncode != 0:
        raise LeanconvError(f"cannot unpack {deb.name}: {complaint(unpacked.stderr)}")


def _unpack_emulator(deb: Path, folder: Path) -> None:
    """Unpack only the emulator of aarch64: the package has thirty others."""
    wanted = "./usr/bin/qemu-aarch64"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as archive:
        assert archive.stdout is not None
        with tarfile.open(fileobj=archive.stdout, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name == wanted else None
                if content:
                    program = folder / wanted
                    program.parent.mkdir(parents=True)
                    program.write_bytes(content.read())
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
    for same in (map(_same_version, _SAME_VERSION), _SAME_VERSION):
        download = _finished([*pip, *same, *_REQUIREMENTS])
        if download.returncode == 0:
            return sorted(folder.glob("*.whl"))
    raise LeanconvError(
        f"pip cannot download the board's Python packages: {complaint(download.stderr)} (check the "
        "network connection and `pip config list`, then run setup again)"
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
