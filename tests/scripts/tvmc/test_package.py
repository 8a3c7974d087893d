"""Compiled modules on disk: what is read is what was written, and nothing else passes for one."""

from __future__ import annotations

import json
import platform
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tvm
from tvm import relax

from schedules.errors import LeanconvError
from schedules.target.simd import Simd
from tests.support.modules import FOREIGN, FOREIGN_METADATA, HOST, METADATA, compiled, mixed
from tvmc.compiling import package
from tvmc.compiling.package import Metadata, with_metadata, write_tar


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("modules") / "mixed.so", mixed(), METADATA)


def test_a_library_describes_itself(library: Path) -> None:
    with package.load(library) as found:
        assert found.metadata == METADATA
        assert found.library == found.path == library
        found.check_runs_here()
    module = tvm.runtime.load_module(str(library))
    told = relax.VirtualMachine(module, tvm.cpu())[package.METADATA_FUNCTION]()
    assert Metadata.from_json(str(told)) == METADATA


def test_the_description_survives_dead_code_elimination() -> None:
    module = relax.transform.DeadCodeElimination()(with_metadata(mixed(), METADATA))
    assert package.METADATA_FUNCTION in [name.name_hint for name in module.get_global_vars()]


def test_with_metadata_changes_a_copy() -> None:
    module = mixed()
    with_metadata(module, METADATA)
    assert [name.name_hint for name in module.get_global_vars()] == ["main"]


def test_tar(library: Path, tmp_path: Path) -> None:
    path, again = tmp_path / "mixed.tar", tmp_path / "again.tar"
    write_tar(path, library, METADATA)
    write_tar(again, library.read_bytes(), METADATA)
    assert path.read_bytes() == again.read_bytes()
    with tarfile.open(path, "r:") as tar:
        assert sorted(tar.getnames()) == ["metadata.json", "mod.so"]
    with package.load(path) as found:
        assert found.metadata == METADATA
        assert found.library.read_bytes() == library.read_bytes()
    assert not found.library.exists()


def test_a_library_for_another_architecture(tmp_path: Path) -> None:
    path = compiled(tmp_path / "foreign.so", mixed(), FOREIGN_METADATA, FOREIGN)
    with package.load(path) as found:
        assert found.metadata == FOREIGN_METADATA
        expected = f"{path} is for {FOREIGN.arch} .*, this machine is {platform.machine()}"
        with pytest.raises(LeanconvError, match=expected):
            found.check_runs_here()


def test_a_library_for_another_processor(library: Path) -> None:
    # What this machine has, and an instruction that none has.
    newer = replace(HOST, features=HOST.features | {"teleport"})
    found = package.Package(library, library, METADATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Simd, "from_target", lambda _: newer)
        with pytest.raises(LeanconvError, match="needs teleport, which this processor lacks"):
            found.check_runs_here()


def refusal(path: Path) -> str:
    """Why ``path`` is not read: one line that names it."""
    with pytest.raises(LeanconvError) as refused, package.load(path):
        pass
    text = str(refused.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_what_is_no_package(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "missing.so")
    assert "there is no file" in refusal(tmp_path)
    for content in (b"", b"TFL3", bytes(4096), b"text\n" * 1000):
        path = tmp_path / "other.so"
        path.write_bytes(content)
        assert "no module that `tvmc compile` made" in refusal(path)


def test_a_library_of_somebody_else(tmp_path: Path) -> None:
    path = compiled(tmp_path / "mixed.so", mixed(), None)
    assert "no module that `tvmc compile` made: it has no description" in refusal(path)


@pytest.mark.parametrize("missing", ["mod.so", "metadata.json"])
def test_a_tar_that_lacks_a_file(missing: str, library: Path, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.tar", tmp_path / "part.tar"
    write_tar(whole, library, METADATA)
    with tarfile.open(whole) as source, tarfile.open(path, "w") as tar:
        for member in source:
            member.name = "other" if member.name == missing else member.name
            tar.addfile(member, source.extractfile(member))
    assert f"it has no {missing}" in refusal(path)


@pytest.mark.parametrize("form", ["so", "tar"])
def test_torn_files(form: str, library: Path, tmp_path: Path) -> None:
    path = tmp_path / f"torn.{form}"
    if form == "so":
        path.write_bytes(library.read_bytes())
    else:
        write_tar(path, library, METADATA)
    whole = path.read_bytes()
    for share in (0.002, 0.1, 0.3, 0.6):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "compile it again" in refusal(path)


def test_a_tar_of_a_damaged_library(tmp_path: Path, library: Path) -> None:
    path = tmp_path / "damaged.tar"
    write_tar(path, library.read_bytes()[:1000], METADATA)
    assert "damaged or cut off" in refusal(path)


def without(key: str) -> Callable[[dict], object]:
    return lambda values: values.pop(key)


def setting(key: str, value: object) -> Callable[[dict], object]:
    return lambda values: values.update({key: value})


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without("inputs"), "has no 'inputs'"),
        (without("format"), "has no 'format'"),
        (setting("format", 2), "its format is 2: update leanconv"),
        (setting("format", "1"), "damaged"),
        (setting("tvm_target", "llvm"), "damaged"),
        (setting("model", None), "damaged"),
        (setting("kernels", []), "damaged"),
        (setting("kernels", {"conv": {"layers": ""}}), "has no 'workspace_bytes'"),
        (setting("outputs", [{"name": "y", "shape": [-1], "dtype": "int8"}]), "damaged"),
        (setting("outputs", [{"name": "y", "shape": [1], "dtype": "float7"}]), "damaged"),
        (setting("outputs", [{"name": "y", "shape": 1, "dtype": "int8"}]), "damaged"),
    ],
)
def test_damaged_descriptions(damage: Callable[[dict], object], complaint: str) -> None:
    values = json.loads(METADATA.to_json())
    damage(values)
    with pytest.raises(LeanconvError, match=complaint) as refused:
        Metadata.from_json(json.dumps(values))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100000, '{"format": 1e999}'])
def test_what_is_no_description(text: str) -> None:
    with pytest.raises(LeanconvError, match="its description"):
        Metadata.from_json(text)


def test_descriptions_are_ascii() -> None:
    named = replace(METADATA, model="modèle 模型.tflite")
    assert named.to_json().isascii()
    assert Metadata.from_json(named.to_json() + "\x05 and what follows") == named
