"""C compilers that turn C sources and compiled kernels into shared libraries and programs.

The default is zig, which comes as a Python wheel and brings the C libraries of every target that
it compiles for, so that no machine needs a cross compiler. Anything else that understands gcc's
options can be named instead, for example an Android NDK's clang.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from schedules.cache import cache_folder
from schedules.errors import LeanconvError, complaint
from schedules.store import Store, digest
from schedules.target import elf
from schedules.target.simd import Simd

#: The oldest glibc that zig links for: a library then loads on every later one.
GLIBC = "2.17"
#: A compiler that says nothing for so long has hung.
TIMEOUT_SECONDS = 600.0

#: For C sources. No strict C11, which would hide POSIX; no tables for exceptions, which never pass;
#: nothing for debuggers, which zig writes unasked and the linker drops.
COMPILE_OPTIONS = (
    *("-std=gnu11", "-O2", "-g0", "-fPIC", "-fvisibility=hidden"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
)
#: Loops over elements, and what runs at every call, are fast rather than small.
FAST_SOURCES = (
    *("codes/", "host/pool", "operation/broadcast", "operation/elementwise", "run/invoke"),
    *("operators/arithmetic", "operators/mirroring", "operators/pooling", "operators/reduction"),
    *("operators/resizing", "operators/softmax", "operators/strided"),
    *("kernels/halves", "kernels/hybrid/", "kernels/quantised/", "kernels/reference_conv"),
    *("kernels/upsampling", "kernels/weights"),
)
#: Where gcc and clang look for headers beside what their options say.
HEADER_PATHS = ("CPATH", "C_INCLUDE_PATH")
#: For the library; ``CMakeLists.txt`` has the same.
LINK_OPTIONS = (
    "-shared",
    "-s",
    "-Wl,--version-script=exports.map",
    "-Wl,-Bsymbolic",
    "-Wl,-z,defs",
    "-Wl,-z,noexecstack",
    "-Wl,--as-needed",
)

# Android without its NDK. Zig does not have bionic, but a library needs to know of a C library
# only the names that it exports, and of its headers only what both 64-bit C libraries agree on:
# the sources stay within that (musl's pthread_mutex_t and pthread_cond_t have bionic's size and
# zero is their initial state in both; constants used are the kernel's).
_BIONIC = {
    "libc.so": (
        "_exit abort calloc chdir chmod clock_gettime dprintf dup2 execv fork free getauxval "
        "getpid madvise malloc memcmp memcpy memmove memset mmap munmap open posix_memalign prctl "
        "pthread_cond_destroy pthread_cond_init pthread_cond_signal pthread_cond_wait "
        "pthread_create pthread_join pthread_mutex_destroy pthread_mutex_init "
        "pthread_mutex_lock pthread_mutex_unlock pthread_sigmask qsort sched_getaffinity "
        "sched_yield sigfillset signal snprintf strchr strcmp strlen strrchr vsnprintf waitpid"
    ),
    "libdl.so": "dladdr",
    "libm.so": (
        "ceilf cosf erff exp exp2f expf floorf fmaf fmaxf fminf frexp frexpf ilogbf ldexp "
        "ldexpf log2f logf lrint lrintf lroundf nearbyintf powf rint rintf round roundf sinf sqrtf "
        "tanhf truncf"
    ),
}
#: Symbols that a library for Android may leave to the system, by the library that has them.
ANDROID_SYMBOLS = {library: tuple(names.split()) for library, names in _BIONIC.items()}


@dataclass(frozen=True)
class Toolchain:
    """A C compiler driver.

    Parameters
    ----------
    command : tuple of str
        The compiler and options that are always given.
    is_zig : bool
        Whether the target has to be named to it.
    """

    command: tuple[str, ...]
    is_zig: bool = False

    @classmethod
    def default(cls, mode: str = "cc") -> Toolchain:
        """The zig that is installed beside this package, as a compiler or what else it can be."""
        package = find_spec("ziglang")
        if package is None or package.origin is None:
            raise LeanconvError("the package ziglang is missing: install it, or name a compiler")
        # Not `python -m ziglang`, which starts a Python for each call.
        return cls((str(Path(package.origin).parent / "zig"), mode), is_zig=True)

    @classmethod
    def named(cls, command: str | None) -> Toolchain:
        """A compiler given as a command line, e.g. ``aarch64-linux-gnu-gcc``; ``None``: zig.

        Raises
        ------
        LeanconvError
            If the command line is empty or its quotes do not match.
        """
        if command is None:
            return cls.default()
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise LeanconvError(f"compiler {command!r}: {error}") from None
        if not words:
            raise LeanconvError("the compiler's command is empty")
        if shutil.which(words[0]) is None:
            raise LeanconvError(
                f"compiler {words[0]!r} was not found: install it, or leave out --cc"
            )
        return cls(words)

    def link_library(
        self,
        folder: Path,
        sources: Sequence[str],
        objects: Sequence[str],
        output: Path,
        simd: Simd,
        page_bytes: int = elf.PAGE_BYTES,
    ) -> None:
        """Compile C ``sources`` and link them with ``objects``, all in ``folder``.

        Parameters
        ----------
        folder : Path
            Holds sources, headers, objects and ``exports.map``. Intermediate files stay there.
        sources, objects : sequence of str
            File names.
        output : Path
            The shared library to write; its name (plain characters of it) is the ``soname``.
        simd : Simd
            The target.
        page_bytes : int
            The largest pages that it may be mapped in.

        Raises
        ------
        LeanconvError
            With the compiler's first error, or if it compiled for another processor.
        """
        compiled = self.compile_objects(folder, sources, simd)
        # A comma would end the option.
        name = re.sub(r"[^A-Za-z0-9_.+-]", "_", output.name).lstrip("-")
        options = [*LINK_OPTIONS, f"-Wl,-soname,{name}", f"-Wl,-z,max-page-size={page_bytes}"]
        if self.is_zig:
            # Nothing here calls a library of the compiler, as -z defs would tell. Zig compiles two
            # of them first, which takes seconds on a new machine.
            options += ["-rtlib=none", "-fno-sanitize=undefined"]
        libraries = ["-lm", "-ldl"] if simd.android else ["-lm", "-lpthread", "-ldl"]
        self._link_shared([*options, *compiled, *objects], libraries, output, folder, simd)

    def link_module(self, objects: Sequence[str], output: Path, simd: Simd) -> None:
        """Link what TVM compiled into a library for its runtime, which has what it needs.

        Parameters
        ----------
        objects : sequence of str
            Files, in one folder, where intermediate files stay as well.
        output : Path
            The shared library to write.
        simd : Simd
            The target.

        Raises
        ------
        LeanconvError
            With the linker's first error, or if it linked for another processor.
        """
        options = ["-shared", "-s", "-Wl,-Bsymbolic", "-Wl,-z,noexecstack"]
        options.append(f"-Wl,-z,max-page-size={elf.PAGE_BYTES}")
        # TVM packs its bytecode as C, which needs nothing, if it has compiled nothing itself.
        compiled = [Path(path) for path in objects if Path(path).suffix != ".c"]
        needed = {name for path in compiled for name in elf.undefined_symbols(path.read_bytes())}
        runtime = [name for name in needed if name.startswith("TVM")]
        folder = Path(objects[0]).absolute().parent
        self._link_shared([*options, *objects], ["-lm"], output, folder, simd, runtime)

    def _link_shared(
        self,
        arguments: Sequence[str],
        libraries: Sequence[str],
        output: Path,
        folder: Path,
        simd: Simd,
        runtime: Sequence[str] = (),
    ) -> None:
        """Link a library that needs system ``libraries`` and symbols of TVM's ``runtime``."""
        target = self._target_options(simd)
        if self.is_zig and simd.android:
            libraries = [*self._bionic_stubs(folder, target), "-nostdlib"]
        self._link([*target, *arguments, *libraries], output, folder)
        problems = elf.problems(output, simd, {**ANDROID_SYMBOLS, "libtvm_runtime.so": runtime})
        if problems:
            output.unlink()
            raise LeanconvError(f"{shlex.join(self.command)} made a library that {problems[0]}")

    def compile_objects(self, folder: Path, sources: Sequence[str], simd: Simd) -> list[str]:
        """Compile C ``sources``, side by side; the names of the objects, all in ``folder``.

        Those that were compiled before come from the store.
        """
        options = [*self._target_options(simd), *COMPILE_OPTIONS, "-I."]
        compiled = {source: str(Path(source).with_suffix(".o")) for source in sources}
        store = Store.default()
        keys = dict.fromkeys(sources, "")
        if store.folder is not None:
            keys = self._object_keys(folder, sources, options)

        def compile_one(source: str) -> None:
            path = folder / compiled[source]
            kept = store.get(keys[source])
            if kept is not None:
                path.write_bytes(kept)
                return
            size = [] if source.startswith(FAST_SOURCES) else ["-Os"]
            self.run([*options, *size, "-c", source, "-o", compiled[source]], folder)
            if path.is_file():  # whatever the command is
                store.put(keys[source], path.read_bytes())

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
            list(executor.map(compile_one, sources))
        return list(compiled.values())

    def _object_keys(
        self, folder: Path, sources: Sequence[str], options: Sequence[str]
    ) -> dict[str, str]:
        """The name in the store of the object of each source.

        Any of the headers in ``folder`` may be in any source.
        """
        headers = sorted(folder.rglob("*.h"))
        texts = [
            part for path in headers for part in (str(path.relative_to(folder)), path.read_bytes())
        ]
        common = digest(_compiler_digest(self, tuple(options)), *FAST_SOURCES, *texts)
        return {
            source: digest(common, source, (folder / source).read_bytes()) for source in sources
        }

    def link_program(self, folder: Path, objects: Sequence[str], output: Path, simd: Simd) -> None:
        """Link ``objects``, all in ``folder``, into an executable.

        For Android it is static: zig has no bionic, and a program without one runs there as well.

        Raises
        ------
        LeanconvError
            With the compiler's first error, or if it compiled for another processor.
        """
        options = [*self._target_options(simd), "-s", *(["-static"] if simd.android else [])]
        self._link([*options, *objects, "-lm", "-lpthread"], output, folder)
        with output.open("rb") as file:
            machine = elf.machine(file)
        if machine != elf.MACHINES[simd.arch]:
            output.unlink()
            raise LeanconvError(
                f"{shlex.join(self.command)} made a program for {machine}, not for {simd.arch}: "
                f"name a compiler for {simd.name}"
            )

    def _target_options(self, simd: Simd) -> list[str]:
        if not self.is_zig:
            return []
        if not simd.android:
            return ["-target", f"{simd.arch}-linux-gnu.{GLIBC}"]
        options = ["-target", f"{simd.arch}-linux-musl", "-fno-stack-protector"]
        options.append("-fno-builtin-bcmp")  # clang would call it, as musl has it
        if simd.arch == "aarch64":
            # Android reserves that register. (zig ignores -ffixed-x18.)
            options.append("-mcpu=generic+reserve_x18")
        return options

    def _bionic_stubs(self, folder: Path, target: Iterable[str]) -> list[str]:
        """Libraries with the names of Android's, of empty functions with the names of its."""
        for library, symbols in ANDROID_SYMBOLS.items():
            source = folder / f"stub_{library}.c"
            source.write_text("".join(f"void {symbol}(void) {{}}\n" for symbol in symbols))
            options = ["-shared", "-nostdlib", "-fPIC", "-fno-builtin", "-w"]
            self.run(
                [*target, *options, f"-Wl,-soname,{library}", source.name, "-o", library], folder
            )
        return list(ANDROID_SYMBOLS)

    def _link(self, arguments: Sequence[str], output: Path, folder: Path) -> None:
        output.unlink(missing_ok=True)
        self.run([*arguments, "-o", output.absolute()], folder)
        if not output.is_file():
            raise LeanconvError(
                f"{shlex.join(self.command)} wrote nothing: it is no compiler that takes -o FILE"
            )

    def run(self, arguments: Sequence[str | Path], folder: Path | None = None) -> str:
        """Start the compiler, in ``folder`` or here; what it says, if it succeeds.

        Raises
        ------
        LeanconvError
            If it cannot be started, hangs, or fails: then with its first error.
        """
        name = shlex.join(self.command)
        try:
            result = subprocess.run(
                [*self.command, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_SECONDS,
                env=_zig_environment() if self.is_zig else None,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise LeanconvError(
                f"compiler {self.command[0]!r} cannot be started: {error.strerror}"
            ) from None
        except subprocess.TimeoutExpired:
            raise LeanconvError(f"{name} did not finish in {TIMEOUT_SECONDS:.0f} seconds") from None
        if result.returncode != 0:
            status = f"exit status {result.returncode}"
            raise LeanconvError(f"{name} failed: {complaint(result.stdout, status)}")
        return result.stdout


@cache
def _compiler_digest(toolchain: Toolchain, options: tuple[str, ...]) -> str:
    """The hash of what an object depends on beside its sources: the compiler and its options.

    Its predefined macros tell its version, whatever script starts it, and the target.
    """
    folder = Path(tempfile.gettempdir())
    macros = toolchain.run([*options, "-dM", "-E", "-x", "c", os.devnull], folder)
    path = shutil.which(toolchain.command[0])
    size = Path(path).stat().st_size if path else 0
    searched = [os.environ.get(name, "") for name in HEADER_PATHS]
    # Each environment has its own zig, which brings its own headers.
    command = toolchain.command[1:] if toolchain.is_zig else toolchain.command
    return digest(shlex.join([*command, *options]), str(size), macros, *searched)


def _zig_environment() -> dict[str, str]:
    """The environment for zig, which needs a cache folder that it can write.

    It hangs or fails where the home directory is read-only or missing, as in many containers.
    """
    environment = dict(os.environ)
    if "ZIG_GLOBAL_CACHE_DIR" not in environment:
        folders = [Path(tempfile.gettempdir()) / f"leanconv-zig-{os.getuid()}"]
        with suppress(LeanconvError):
            folders.insert(0, cache_folder("zig"))
        folder = next(filter(_is_own_folder, folders), None)
        if folder is None:
            raise LeanconvError(f"zig needs a cache folder: {folders[-1]} cannot be written")
        environment["ZIG_GLOBAL_CACHE_DIR"] = str(folder)
    return environment


def _is_own_folder(path: Path) -> bool:
    """Whether ``path`` is a folder of this user's that can be written; it is made if need be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.stat().st_uid == os.getuid() and os.access(path, os.W_OK | os.X_OK)
    except OSError:
        return False
