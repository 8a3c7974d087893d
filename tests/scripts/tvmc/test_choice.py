"""`tvmc compile`: which algorithm users get, and how they choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tvmc
from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.plan.choice import Choice
from schedules.target.simd import Simd
from schedules.tuning.records.records import Log, Record
from scripts.models.layers import LAYERS
from tests.support.trials import record
from tflite_delegate.read import model as tflite_model
from tvmc.cli import main


@pytest.fixture
def graph(made_model: Callable[[str], Path]) -> Path:
    """56x56x64 3x3 -> 64: what every algorithm serves."""
    return made_model(LAYERS[0].name)


def compiled(graph: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    """The only layer's entry in the report."""
    report, library = folder / "report.json", folder / "lib.so"
    target = ["--target", "neoverse-n1"]
    assert main(["compile", str(graph), *target, "-o", str(library), "--report", str(report),
                 *arguments]) == 0  # fmt: skip
    (layer,) = json.loads(report.read_text())["layers"]
    return dict(layer)


def test_auto_is_the_default_and_says_why(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = compiled(graph, tmp_path)
    assert (layer["algorithm"], layer["knobs"]["outputs"]) == ("winograd", 4)
    assert layer["why"] in capsys.readouterr().out
    assert layer["kernel_macs"] * 4 == layer["macs"]
    assert [text.split(":")[:2] for text in layer["rejected"]] == [["winograd", "outputs=6"]]
    assert layer["tuning"] is layer["seconds"] is None
    assert compiled(graph, tmp_path, "--algorithm", "auto") == layer


@pytest.mark.parametrize(
    ("arguments", "algorithm", "outputs"),
    [
        (["--workspace-limit", "0"], "indirect", None),
        (["--workspace-limit", "257K"], "winograd", 4),
        (["--workspace-limit", "256K"], "winograd", 2),
        (["--workspace-limit", "1M", "--max-error", "1"], "winograd", 6),
        (["--max-error", "1e-9"], "indirect", None),
        (["--algorithm", "winograd:outputs=2,mec"], "winograd", 2),
        (["--algorithm", "im2col,mec_strip", "--workspace-limit", "1M"], "mec_strip", None),
    ],
)
def test_limits_and_names(
    graph: Path, tmp_path: Path, arguments: list[str], algorithm: str, outputs: int | None
) -> None:
    layer = compiled(graph, tmp_path, *arguments)
    assert (layer["algorithm"], layer["knobs"].get("outputs")) == (algorithm, outputs)


def test_a_layer_that_nothing_serves_within_the_limits(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--algorithm", "im2col,mec", "--workspace-limit", "4096"]
    assert main(["compile", str(graph), "-o", str(tmp_path / "lib.so"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "im2col: its workspace of 7225344 bytes is over the limit of 4096; mec: its" in line
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workspace-limit", "-1"], "'-1' is not a number of bytes"),
        (["--workspace-limit", "4G"], "'4G' is not a number of bytes"),
        (["--workspace-limit", ""], "'' is not a number of bytes"),
        (["--max-error", "0"], "'0' is not a number above 0"),
        (["--max-error", "nan"], "'nan' is not a number above 0"),
        (["--max-error", "small"], "'small' is not a number above 0"),
        (["--algorithm", "winograd:outputs=7"], "winograd has no outputs = 7: one of 2, 4, 5, 6"),
        (["--algorithm", "winograd:m=2"], "winograd has no knob 'm'"),
        (["--algorithm", "indirect,winograd:m=2"], "no layer can be compiled with winograd:m=2"),
        (["--algorithm", "winograd:"], "is not NAME or NAME:KNOB=VALUE"),
        (["--algorithm", "mec,mec:solution=A"], "mec is named twice"),
        (["--algorithm", "im2row"], "unknown algorithm 'im2row': one of auto, "),
    ],
)
def test_wrong_options_end_in_one_line(
    graph: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        status = main(["compile", str(graph), "-o", str(tmp_path / "lib.so"), *arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tvmc: error: ")
    assert message in line


def test_layers_without_a_knob_stay_with_tflite(
    made_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """A 1x1 convolution has no lowered matrix, and so no solution A."""
    model, report = made_model("small"), tmp_path / "report.json"
    arguments = ["--algorithm", "mec:solution=A", "--report", str(report)]
    assert main(["compile", str(model), "-o", str(tmp_path / "lib.so"), *arguments]) == 0
    layers = [la for la in json.loads(report.read_text())["layers"] if la["op"] == "CONV_2D"]
    pointwise = ["conv1x1" in layer["geometry"] for layer in layers]
    assert True in pointwise
    assert [layer["claimed"] for layer in layers] == [not one for one in pointwise]
    reasons = [layer["reason"] for layer in layers if not layer["claimed"]]
    assert all("mec:solution=A: mec has no knob 'solution'" in reason for reason in reasons)


def test_auto_and_a_name_that_it_chooses(graph: Path, tmp_path: Path) -> None:
    names = ",".join(["auto", *REGISTRY.names()])
    assert compiled(graph, tmp_path, "--algorithm", names)["algorithm"] == "winograd"


# Records of earlier measurements


#: Linked by nobody, which takes seconds.
SOURCES = ("--output-format", "delegate-source")


@pytest.fixture
def board(graph: Path, tmp_path: Path) -> Path:
    """The folder of a board: its best choice, the untuned one, and one of another version."""
    best = trial(graph, "indirect:columns=3", 0.5)
    gone = Choice.of("indirect", {**best.candidate.knobs, "unroll": 4})
    log = Log(tmp_path / "pixel6")
    for found in (trial(graph, "winograd", 0.75), best, trial(graph, gone, 0.1)):
        log.append(found)
    return tmp_path / "pixel6"


def trial(graph: Path, choice: str | Choice, milliseconds: float, **fields: Any) -> Record:
    (layer,) = tflite_model.read(graph).layers
    assert layer.workload is not None
    return record(layer.workload, Simd.named("neoverse-n1"), choice, milliseconds, **fields)


def test_tuning_records(
    graph: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = compiled(graph, tmp_path, "--tuning-records", str(board), *SOURCES)
    assert (layer["algorithm"], layer["tuning"]) == ("indirect", "tuned")
    assert layer["knobs"] == trial(graph, "indirect:columns=3", 0.5).candidate.knobs
    assert layer["seconds"] == pytest.approx(5e-4)
    assert layer["why"] == "tuned: 0.5 ms on pixel6 (0.75 ms untuned)"
    printed = capsys.readouterr()
    line = "records measured on pixel6: 1 layers tuned, 0 transferred from others, 0 untuned"
    assert line in printed.out.splitlines()
    (warning,) = printed.err.splitlines()
    assert warning.startswith("tvmc: warning: 1 record left out: indirect has no knob 'unroll'")


def test_modelled_records_are_said_to_be(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(tmp_path / "emulated")
    log.append(trial(graph, "mec", 0.5, cost_kind="modelled", board="emulated"))
    compiled(graph, tmp_path, "--tuning-records", str(log.path), *SOURCES)
    output = capsys.readouterr().out
    assert "records modelled, not measured, for emulated: 1 layers tuned" in output


def test_each_path_has_records_for_the_target(graph: Path, board: Path, tmp_path: Path) -> None:
    other = Log(tmp_path / "rpi")
    other.append(trial(graph, "mec", 0.1, target="cortex-a53"))
    arguments: dict[str, Any] = {"target": "neoverse-n1", "output": tmp_path / "lib.so"}
    complaint = "rpi has no records for cortex-a76, as neoverse-n1 is compiled, but for cortex-a53"
    with pytest.raises(LeanconvError, match=complaint):
        tvmc.compile(graph, tuning_records=[board, tmp_path / "rpi"], **arguments)
    with pytest.raises(LeanconvError, match="no tuning records at "):
        tvmc.compile(graph, tuning_records=[tmp_path / "nowhere"], **arguments)
    assert not (tmp_path / "lib.so").exists()
