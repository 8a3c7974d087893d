"""The RPC server for boards without Python, with all that it needs, in one folder.

    python -m scripts.board.rpc --target cortex-a76 -o FOLDER

Copy the folder to the board and start ``leanconv-rpc-server`` in it; ``--help`` tells its options,
which are those of ``tvmc rpc-server``. The program is compiled here from `SOURCES`. Beside it lie
TVM's runtime libraries: this Python's for machines like this one, else the emulated board's. They
need glibc 2.27 and GCC's libstdc++ of the board.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.files import replace_atomically
from schedules.target.simd import Simd
from schedules.target.toolchain import GLIBC, Toolchain
from scripts.board.board import Board
from tvmc.command import LineParser, exit_status

SOURCES = Path(__file__).resolve().parent / "rpc_server"
PROGRAM = "leanconv-rpc-server"
#: In the wheels of TVM and of its C interface.
LIBRARIES = ("tvm/lib/libtvm_runtime.so", "tvm_ffi/lib/libtvm_ffi.so")

# C++17 of which only headers are used: the C++ library, which zig would compile for a minute first,
# is not even linked.
_COMPILE_OPTIONS = (
    *("-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
    *("-Wall", "-Wextra", "-Werror"),
)
# Nothing refers to TVM's runtime: it registers its functions by being loaded.
_LINK_OPTIONS = ("-s", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN")


def build(simd: Simd, folder: Path) -> Path:
    """Compile the server for ``simd`` and put it, with TVM's libraries, into ``folder``.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    LeanconvError
        If there is no TVM runtime for the target, or the folder cannot be written.
    """
    libraries = _runtime_libraries(simd)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LeanconvError(f"cannot write {folder}: {error.strerror}") from None
    with tempfile.TemporaryDirectory() as scratch:
        made = _compile(simd, libraries, Path(scratch))
        for path in (made, *libraries):
            replace_atomically(folder / path.name, path.read_bytes())
    program = folder / PROGRAM
    program.chmod(0o755)
    return program


def _runtime_libraries(simd: Simd) -> list[Path]:
    if simd.android:
        raise LeanconvError(
            f"TVM has no runtime for Android: on {simd.name} measure with --board-command"
        )
    if simd.arch == platform.machine():
        return [_site(name) / name for name in LIBRARIES]
    if simd.arch == "aarch64":
        return [Board.default().python_packages / name for name in LIBRARIES]
    raise LeanconvError(
        f"there is no TVM runtime for {simd.arch} on this machine: run this on one of that kind"
    )


def _site(name: str) -> Path:
    """The folder in which this Python has the package whose file is ``name``."""
    package = importlib.util.find_spec(name.partition("/")[0])
    assert package is not None and package.origin is not None
    return Path(package.origin).parents[1]


def _compile(simd: Simd, libraries: Sequence[Path], scratch: Path) -> Path:
    target = ("-target", f"{simd.arch}-linux-gnu.{GLIBC}")
    headers = ("-isystem", _site("tvm_ffi") / "tvm_ffi/include")
    sources = sorted(SOURCES.glob("*.cc"))
    objects = [scratch / f"{source.stem}.o" for source in sources]

    def compile_one(source: Path, output: Path) -> None:
        options = (*target, *_COMPILE_OPTIONS, *headers)
        Toolchain.default("c++").run([*options, "-c", source, "-o", output])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(compile_one, sources, objects))
    program = scratch / PROGRAM
    linked = (*objects, *libraries)
    Toolchain.default().run([*target, *_LINK_OPTIONS, *linked, "-o", program])
    return program


def _parser() -> argparse.ArgumentParser:
    parser = LineParser(
        prog="board.rpc", description="Make the RPC server for boards without Python."
    )
    add = parser.add_argument
    add("--target", metavar="NAME", default="host",
        help="the board, as `tvmc tune` takes it [%(default)s]")  # fmt: skip
    add("-o", "--output", metavar="FOLDER", type=Path, required=True, help="where to put it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = _parser().parse_args(argv)

    def make() -> None:
        program = build(Simd.named(options.target), options.output)
        print(f"{program} and {len(LIBRARIES)} libraries: copy {options.output} to the board")

    return exit_status("board.rpc", make)


if __name__ == "__main__":
    sys.exit(main())
