"""Compiled modules on disk: a library that carries its description, or a tar of both.

A library (``.so``) is what TVM exports. The description, :class:`Metadata` as JSON, is the result
of its function ``leanconv_metadata``, and stands in the file as plain text: it is read from there
without loading the library, which may be for another processor. A tar, for those who unpack what
they ship, has the library as ``mod.so`` and the description as ``metadata.json``.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from schedules.errors import LeanconvError
from schedules.files import replace_atomically
from schedules.target import elf
from schedules.target.simd import Simd

if TYPE_CHECKING:
    import tvm

#: Of the description.
FORMAT = 1
#: The function of a library that returns its description.
METADATA_FUNCTION = "leanconv_metadata"
#: The members of a tar.
LIBRARY_MEMBER, METADATA_MEMBER = "mod.so", "metadata.json"
_ELF_MAGIC = b"\x7fELF"
#: How the description begins; json.dumps leaves only ASCII in it.
_DESCRIPTION = re.compile(rb'\{"format": \d+, "leanconv": [ -~]*')


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a module, as its model calls it."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> TensorInfo:
        shape = tuple(_count(size) for size in values["shape"])
        return cls(_text(values["name"]), shape, np.dtype(_text(values["dtype"])).name)


@dataclass(frozen=True)
class KernelInfo:
    """One of our kernels: its layers, and the bytes that it takes beside the tensors.

    ``layers`` is their geometry, such as ``conv3x3 56x56x64->64 relu``.
    """

    layers: str
    algorithm: str
    workspace_bytes: int
    packed_bytes: int

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> KernelInfo:
        sizes = _count(values["workspace_bytes"]), _count(values["packed_bytes"])
        return cls(_text(values["layers"]), _text(values["algorithm"]), *sizes)


@dataclass(frozen=True)
class Metadata:
    """What a module is, and who made it for what.

    Parameters
    ----------
    leanconv, tvm : str
        Versions that compiled it.
    model : str
        Name of the model's file.
    target : str
        As the user named it.
    tvm_target : mapping
        The same as TVM takes it.
    inputs, outputs : tuple of TensorInfo
        In the order of ``main``'s parameters and results.
    kernels : mapping of str to KernelInfo
        By the name of the function that the virtual machine calls.
    signature : str, optional
        The model's, whose graph it is; by default the main graph.
    """

    leanconv: str
    tvm: str
    model: str
    target: str
    tvm_target: Mapping[str, Any]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    kernels: Mapping[str, KernelInfo]
    signature: str | None = None

    def to_json(self) -> str:
        """One line of ASCII characters."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """The inverse of :meth:`to_json`; what follows the JSON object does not matter.

        Raises
        ------
        LeanconvError
            If it describes no module, or only a later version of this package knows which.
        """
        try:
            values, _ = json.JSONDecoder().raw_decode(text)
            if _count(values["format"]) > FORMAT:
                raise LeanconvError(f"its format is {values['format']}: update leanconv")
            texts = {name: _text(values[name]) for name in ("leanconv", "tvm", "model", "target")}
            return cls(
                **texts,
                tvm_target=dict(values["tvm_target"]),
                inputs=tuple(map(TensorInfo._from_dict, values["inputs"])),
                outputs=tuple(map(TensorInfo._from_dict, values["outputs"])),
                kernels={
                    name: KernelInfo._from_dict(info) for name, info in values["kernels"].items()
                },
                signature=_text(values["signature"]) if values.get("signature") else None,
            )
        except KeyError as error:
            raise LeanconvError(f"its description has no {error}") from None
        except (TypeError, ValueError, AttributeError, RecursionError):
            raise LeanconvError("its description is damaged") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def with_metadata(module: tvm.IRModule, metadata: Metadata) -> tvm.IRModule:
    """A copy of ``module`` with a function that returns ``metadata``; compiled, it is a package."""
    import tvm
    from tvm import relax
    from tvm.ir.type import StringType

    function = relax.Function([], tvm.ir.StringImm(metadata.to_json()), StringType())
    copy = module.clone()
    copy[METADATA_FUNCTION] = function.with_attr("global_symbol", METADATA_FUNCTION)
    return copy


def write_tar(output: Path, library: bytes | Path, metadata: Metadata) -> None:
    """Write a package, atomically; the same input gives the same bytes.

    Raises
    ------
    LeanconvError
        If it cannot be written.
    """
    members = {
        METADATA_MEMBER: (metadata.to_json() + "\n").encode(),
        LIBRARY_MEMBER: library if isinstance(library, bytes) else library.read_bytes(),
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    replace_atomically(output, file.getvalue())


@dataclass(frozen=True)
class Package:
    """A module that was read, or as good as: its library lies in a file."""

    path: Path
    library: Path
    metadata: Metadata

    def check_runs_here(self) -> None:
        """Find out before it is loaded whether this machine's processor can run it.

        Raises
        ------
        LeanconvError
            If it is for another architecture, or uses instructions that this processor lacks.
        """
        target = Simd.from_target(self.metadata.tvm_target)
        with self.library.open("rb") as file:
            machine = elf.machine(file)
        if machine != elf.MACHINES.get(platform.machine()):
            raise LeanconvError(
                f"{self.path} is for {target.arch} ({self.metadata.target}), this machine is "
                f"{platform.machine()}: run it on a board with --rpc-tracker"
            )
        if missing := sorted(target.features - Simd.named("host").features):
            raise LeanconvError(
                f"{self.path} was compiled for {self.metadata.target} and needs {missing[0]}, "
                "which this processor lacks: compile it for another target"
            )


@contextlib.contextmanager
def load(path: Path) -> Iterator[Package]:
    """Open a package; the library of a tar is unpacked for as long.

    Raises
    ------
    LeanconvError
        If there is none, it is damaged, or tvmc did not make it.
    """
    if not path.is_file():
        raise LeanconvError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            is_library = file.read(len(_ELF_MAGIC)) == _ELF_MAGIC
    except OSError as error:
        raise LeanconvError(f"cannot read {path}: {error.strerror}") from None
    if is_library:
        yield _package(path, path, None)
        return
    members = _members(path)
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        library = Path(folder) / LIBRARY_MEMBER
        replace_atomically(library, members[LIBRARY_MEMBER])
        yield _package(path, library, members[METADATA_MEMBER].decode(errors="replace"))


def _members(path: Path) -> dict[str, bytes]:
    """The two files in a tar."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                if content := tar.extractfile(member):
                    found[member.name] = content.read()
    except tarfile.TarError:
        raise LeanconvError(
            f"{path} is no module that `tvmc compile` made, or it is cut off: compile it again"
        ) from None
    for name in (LIBRARY_MEMBER, METADATA_MEMBER):
        if name not in found:
            raise LeanconvError(f"{path} is no module that `tvmc compile` made: it has no {name}")
    return found


def _package(path: Path, library: Path, description: str | None) -> Package:
    data = library.read_bytes()
    if not _is_whole(data):
        raise LeanconvError(f"the library in {path} is damaged or cut off: compile it again")
    if description is None:
        found = _DESCRIPTION.search(data)
        if "tflite_plugin_create_delegate" in elf.exported_symbols(library):
            raise LeanconvError(f"{path} is a delegate: tvmc run MODEL --delegate {path}")
        if not found:
            raise LeanconvError(
                f"{path} is no module that `tvmc compile` made: it has no description"
            )
        description = found[0].decode()
    try:
        return Package(path, library, Metadata.from_json(description))
    except LeanconvError as error:
        raise LeanconvError(f"cannot use {path}: {error}") from None


def _is_whole(library: bytes) -> bool:
    """Whether an ELF file has all that it says; the loader does not ask, and crashes."""
    try:
        file = ELFFile(io.BytesIO(library))
        ends = [part["p_offset"] + part["p_filesz"] for part in file.iter_segments("PT_LOAD")]
    except (ELFError, ValueError, OverflowError):
        return False
    sections_end = file["e_shoff"] + file["e_shnum"] * file["e_shentsize"]
    return max([sections_end, *ends]) <= len(library)
