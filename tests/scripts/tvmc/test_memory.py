"""``tvmc run --memory``: what every function holds, and that it adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tvmc
from tests.support.tflite_writer import Conv, chain
from tvmc.cli import main

#: Bytes of the tensors of three layers on 8x8 pixels: of 4, 16, 8 and 12 channels.
SIZES = [8 * 8 * channels * 4 for channels in (4, 16, 8, 12)]
LAYERS = [Conv(16), Conv(8, (1, 1)), Conv(12)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "layers.tflite"
    path.write_bytes(chain((1, 8, 8, 4), LAYERS))
    return path


def test_what_every_function_holds_adds_up(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, report = tmp_path / "lib.so", tmp_path / "report.json"
    compiled = tvmc.compile(graph, output=library, algorithms=["im2col"])
    options = ["--delegate", str(library), "--memory", "--num-threads", "2"]
    assert main(["run", str(graph), *options, "--report", str(report)]) == 0
    text = capsys.readouterr().out
    memory = json.loads(report.read_text())["memory"]
    nodes, told = memory["nodes"], memory["delegate"]

    x, first, second, y = SIZES
    assert [node["tensors"] for node in nodes] == [x + first, x + first + second, x + second + y]
    assert [node["packed"] for node in nodes] == [layer.packed_bytes for layer in compiled.layers]
    assert sum(node["packed"] for node in nodes) == told["packed_bytes"] > 0
    assert max(node["workspace"] for node in nodes) == told["workspace_bytes"] > 0
    held = [node["tensors"] + node["workspace"] for node in nodes]
    assert max(held) <= memory["arena"] == told["arena_bytes"] == told["promised_arena_bytes"]
    assert memory["arena"] - max(held) < 64, "sizes of whole cache lines leave no gaps"

    before, loaded, after = memory["anonymous"]
    assert min(before, loaded, after) > 0
    rows = [line for line in text.splitlines() if line.startswith("leanconv/im2col")]
    assert [line.endswith("<-") for line in rows] == [size == max(held) for size in held]
    assert f"arena {memory['arena']:,} bytes (promised {memory['arena']:,})" in text
    assert "anonymous memory: " in text


def test_models_without_a_delegate_have_an_account(graph: Path) -> None:
    memory = tvmc.run(graph, memory=True).memory
    assert memory is not None
    (node,) = memory.nodes
    assert (node.tensors, node.workspace, node.packed) == (SIZES[0] + SIZES[-1], 0, 0)
    assert memory.delegate == {}
    assert tvmc.run(graph).memory is None


def test_modules_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "module.so"), "--memory"]) == 2
    assert "memory is told of .tflite models" in capsys.readouterr().err
