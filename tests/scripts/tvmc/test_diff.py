"""tvmc diff, and the verification of modules: what is found, named, written and refused."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tvmc
from schedules.errors import LeanconvError
from schedules.target import elf
from schedules.target.toolchain import Toolchain
from tests.support.modules import FOREIGN_METADATA
from tests.support.tflite_writer import Conv, Dense, ModelWriter
from tflite_delegate.importer import relax as relax_import
from tvmc.cli import main
from tvmc.comparing import verification
from tvmc.comparing.differences import Unverifiable
from tvmc.comparing.tflite_graph import TfliteGraph
from tvmc.comparing.verification import WrongModule, verify_module
from tvmc.comparison import Differences, diff_delegate
from tvmc.compiling import module_compiler
from tvmc.diff_process import diff

SHAPE = (1, 9, 9, 8)


def network(third_seed: int = 3, id_type: str = "int32") -> bytes:
    """Convolutions, an addition, a mean, a dense layer and a softmax; ids choose what is added.

    ``third_seed`` changes the weights of the third convolution.
    """
    writer = ModelWriter()
    image, ids = writer.tensor(SHAPE), writer.tensor((9,), id_type)
    x, shape = writer.conv(image, SHAPE, Conv(8, (3, 3), activation="relu6", seed=1))
    y, shape = writer.conv(x, shape, Conv(8, (3, 3), depthwise=True, seed=2))
    y, shape = writer.conv(y, shape, Conv(8, (1, 1), activation="relu", seed=third_seed))
    table = writer.constant(np.arange(16, dtype=np.float32).reshape(2, 8) / 8)
    rows = writer.node("GATHER", [table, ids], (9, 8))
    y = writer.node("ADD", [y, rows], shape, fusedActivationFunction="none")
    y = writer.node("MEAN", [y, writer.constant(np.array([1, 2], np.int32))], (1, 8))
    y, shape = writer.dense(y, (1, 8), Dense(12, seed=4))
    y = writer.node("SOFTMAX", [y], shape, beta=1.0)
    return writer.finish([image, ids], [y])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    (folder / "right.tflite").write_bytes(network())
    (folder / "wrong.tflite").write_bytes(network(third_seed=5))
    tvmc.compile(folder / "right.tflite", output=folder / "m.tar", output_format="tar")
    tvmc.compile(folder / "right.tflite", output=folder / "delegate.so")
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        status = main(["diff", *map(str, arguments)])
    except SystemExit as stop:
        status = int(stop.code or 0)
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.parametrize("kind", [("--module", "m.tar"), ("--delegate", "delegate.so")])
def test_what_is_right(
    folder: Path, kind: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    table = folder / "table.json"
    arguments = (folder / "right.tflite", kind[0], folder / kind[1], "--json", table)
    status, output, errors = call(capsys, *arguments, "--seed", 7)
    assert (status, errors) == (0, "")
    assert re.search(r"\d tensors compared, at most \S+ of the bound apart\n$", output)
    found = json.loads(table.read_text())
    assert found["first"] is None
    operators = [row["operator"] for row in found["tensors"]]
    assert operators[0] == "CONV_2D" and operators[-1] == "SOFTMAX"
    assert all(row["within"] and row["difference"] <= row["bound"] for row in found["tensors"])
    assert all(row["bound"] < 0.01 for row in found["tensors"])


def test_the_first_tensor_that_differs_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = call(capsys, folder / "wrong.tflite", "--module", folder / "m.tar")
    assert status == 1
    assert errors.count("\n") == 1
    told = r"tvmc: error: tensor (\d+) 'tensor_\d+', which \w+ computed for (CONV_2D|ADD), is"
    match = re.match(told, errors)
    assert match
    differing = [line for line in output.splitlines() if "DIFFERS" in line]
    assert differing[0].startswith(f"{match[1]} ")
    assert any(line.split()[2] == "DEPTHWISE_CONV_2D" for line in output.splitlines())
    assert all(line.split()[2] != "DEPTHWISE_CONV_2D" for line in differing)


def test_inputs_can_be_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = folder / "inputs.npz"
    np.savez(inputs, tensor_0=np.full(SHAPE, 1e30, np.float32))
    graph, library = folder / "right.tflite", folder / "delegate.so"
    assert call(capsys, graph, "--delegate", library, "-i", inputs)[0] == 0
    np.savez(inputs, other=np.zeros(3))
    status, _, errors = call(capsys, graph, "--delegate", library, "-i", inputs)
    assert status == 2
    assert "there is no input 'other'" in errors


def test_a_wrong_delegate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delegate runs other weights than LiteRT is compared with."""
    wrong = TfliteGraph(folder / "wrong.tflite").with_outputs
    monkeypatch.setattr(TfliteGraph, "with_outputs", lambda _self, tensors: wrong(tensors))
    graph, library = folder / "right.tflite", folder / "delegate.so"
    found = diff_delegate(graph, library, progress=lambda *_: None)
    assert re.search(r"which \w+ computed for CONV_2D, is \S+ from LiteRT's", str(found))
    assert found.first and not found.first.within


def test_a_crash_is_told(folder: Path, tmp_path: Path) -> None:
    """A delegate that ends its process, and a model that cannot be read."""
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes((folder / "right.tflite").read_bytes()[:300])
    with pytest.raises(LeanconvError, match=r"LiteRT cannot run|cannot be compared"):
        diff("delegate", damaged, folder / "delegate.so", lambda *_: None)
    crash = tmp_path / "crash.c"
    crash.write_text(
        "#include <stdlib.h>\nvoid *tflite_plugin_create_delegate(void) { abort(); }\n"
    )
    library = tmp_path / "crash.so"
    command = [*Toolchain.default().command, "-shared", "-fPIC", str(crash), "-o", str(library)]
    subprocess.run(command, check=True)
    with pytest.raises(Unverifiable, match="its process ended by SIGABRT"):
        diff("delegate", folder / "right.tflite", library, lambda *_: None)


# When it is compiled


def test_a_wrong_module_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = relax_import.import_model
    other = folder / "wrong.tflite"
    monkeypatch.setattr(
        module_compiler, "import_model", lambda _path, *more: imported(other, *more)
    )
    output = tmp_path / "m.so"
    output.write_text("what was there before")
    with pytest.raises(WrongModule, match=r"the module is wrong: tensor \d+ .*nothing was written"):
        tvmc.compile(folder / "right.tflite", output=output, output_format="so")
    assert output.read_text() == "what was there before"
    assert main(["compile", str(folder / "right.tflite"), "-o", str(output), "-f", "so"]) == 1
    report = tvmc.compile(
        folder / "right.tflite", output=output, output_format="so", verify=False
    ).to_dict()
    assert report["verification"] == "not verified: not asked for"
    assert output.stat().st_size > 1000


def test_what_cannot_be_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = folder / "right.tflite"

    def verified(metadata: Any = None) -> str:
        with tvmc.compiling.package.load(folder / "m.tar") as package:
            known = metadata or package.metadata
            return verify_module(graph, package.library, known, lambda *_: None)

    assert re.match(r"verified with LiteRT: \d+ tensors compared", verified())
    assert "not verified: this machine cannot run it" in verified(FOREIGN_METADATA)
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert", None)
    assert "not verified: LiteRT is not installed" in verified()


def test_a_model_that_litert_cannot_take_apart(folder: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Differences:
        raise Unverifiable("LiteRT cannot run WHILE by itself")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "diff", refuse)
        with tvmc.compiling.package.load(folder / "m.tar") as package:
            line = verify_module(
                folder / "right.tflite", package.library, package.metadata, lambda *_: None
            )
    assert line == "not verified: LiteRT cannot run WHILE by itself"


def test_a_full_disk_is_told_before_llvm_ends_the_process(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=3 << 20))
    with pytest.raises(LeanconvError, match=r"has 3 MiB left, and 16 are needed: .* TMPDIR"):
        tvmc.compile(folder / "right.tflite", output=tmp_path / "m.so", output_format="so")
    assert not list(tmp_path.iterdir())


# What it refuses


def test_wrong_command_lines(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, library, module = (folder / name for name in ("right.tflite", "delegate.so", "m.tar"))
    foreign = tmp_path / "foreign.so"
    data = bytearray(library.read_bytes())
    data[18:20] = (183 if data[18] == 62 else 62).to_bytes(2, "little")
    foreign.write_bytes(data)
    other = tmp_path / "other.tflite"
    writer = ModelWriter()
    image = writer.tensor((1, 4, 4, 3))
    writer_output, _ = writer.conv(image, (1, 4, 4, 3), Conv(2, (1, 1)))
    other.write_bytes(writer.finish([image], [writer_output]))
    wide = tmp_path / "wide.tflite"  # of the module's shapes
    wide.write_bytes(network(id_type="int64"))
    for arguments, message in (
        ((graph,), "one of the arguments --delegate --module is required"),
        ((graph, "--delegate", library, "--module", module), "not allowed with argument"),
        ((tmp_path / "no.tflite", "--module", module), "no.tflite"),
        ((module, "--module", module), "is not a .tflite model"),
        ((folder, "--delegate", library), "is not a .tflite model"),
        ((graph, "--module", library), "is a delegate"),
        ((graph, "--module", graph), "is no module"),
        ((graph, "--module", tmp_path / "no.so"), "there is no file"),
        ((graph, "--delegate", tmp_path / "no.so"), "there is no file"),
        ((graph, "--delegate", module), "it is no shared library"),
        ((graph, "--delegate", foreign), "it is for "),
        ((graph, "--module", module, "--json", tmp_path / "no" / "t"), "there is no folder"),
        ((graph, "--module", module, "--json", module), "it is read as well"),
        ((graph, "--module", module, "-i", graph), "is no .npz file"),
        ((graph, "--module", module, "--delegate-options", "a:b"), "goes with --delegate"),
        ((other, "--module", module), "was not compiled from"),
        ((wide, "--module", module), "was not compiled from"),
    ):
        status, _, errors = call(capsys, *arguments)
        assert (status, errors.count("\n")) == (2, 1), (arguments, errors)
        assert message in errors, (arguments, errors)


def test_a_library_for_another_machine(tmp_path: Path, folder: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("text")
    assert elf.refusal(text, "main") == "is no shared library"
    assert elf.refusal(folder / "delegate.so", "main") == "has no main"
    assert elf.refusal(folder / "delegate.so", "tflite_plugin_create_delegate") is None
