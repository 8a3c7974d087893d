"""``tvmc plan`` and ``tvmc compile --memory-limit``: what they promise, and that it is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmc
from schedules.errors import LeanconvError
from tests.support.tflite_writer import Conv, chain, merged
from tflite_delegate.build import Report
from tvmc.cli import main
from tvmc.planning.plan_command import plan
from tvmc.running.interpreter import Session, runtime
from tvmc.running.probe import Probe

#: Inverted residuals, then a layer that can pack its weights or not.
LAYERS = [
    Conv(48, (1, 1), activation="relu6"),
    Conv(48, depthwise=True, activation="relu6", seed=1),
    Conv(24, (1, 1), seed=2),
    Conv(32, seed=3),
]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "blocks.tflite"
    path.write_bytes(chain((1, 14, 14, 16), LAYERS))
    return path


@pytest.fixture(scope="module")
def plans(graph: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plan(graph).to_dict()["plans"]
    return found


def test_plans_are_found_without_tvm(graph: Path) -> None:
    """Its import would be a third of the time."""
    code = "import sys\nfrom tvmc.cli import main\n"
    code += (
        f"assert main(['plan', {str(graph)!r}, '--memory-limit', '1M', '--json', 'x.json']) == 0\n"
    )
    code += "print('tvm.runtime' in sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=graph.parent)
    assert done.stderr.splitlines()[-1] == "False", done.stderr


def test_models_of_several_graphs_have_no_plans_yet(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(merged([graph.read_bytes()] * 2))
    command = ["compile", str(path), "-o", str(tmp_path / "lib.so"), "--memory-limit", "1M"]
    for words in (["plan", str(path)], command):
        assert main(words) == 2
        assert capsys.readouterr().err.endswith("are for models of one graph so far\n")


def test_the_plans_trade_bytes_for_time(plans: list[dict[str, Any]]) -> None:
    assert len(plans) > 2
    sizes, times = ([plan[name] for plan in plans] for name in ("bytes", "time"))
    assert sizes == sorted(set(sizes))
    assert times == sorted(set(times), reverse=True)
    assert times[-1] == 1.0
    for found in plans:
        kinds = ("arena_bytes", "packed_bytes", "own_bytes")
        assert found["bytes"] == sum(found[kind] for kind in kinds)
        covered = [i for k in found["kernels"] for i in range(k["layers"][0], k["layers"][1] + 1)]
        assert covered == list(range(len(LAYERS)))
    fewest = {kernel["choice"].partition(":")[0] for kernel in plans[0]["kernels"]}
    assert "fused_block" in fewest


@pytest.mark.parametrize(("place", "threads"), [(0, 1), (-1, 1), (-1, 4)])
def test_a_delegate_holds_what_its_plan_says(
    graph: Path, place: int, threads: int, tmp_path: Path
) -> None:
    plans = plan(graph, threads=threads).to_dict()["plans"]
    limit, library = plans[place]["bytes"], tmp_path / "lib.so"
    report = tvmc.compile(
        graph, output=library, memory_limit=limit, threads=threads, weights="heap"
    )
    litert = runtime("litert")
    session = Session(graph, litert, delegate=library, xnnpack=False, threads=threads)
    arena = Probe(session.interpreter).arena_bytes()
    packed = sum(layer.packed_bytes for layer in report.layers)
    assert arena == plans[place]["arena_bytes"]
    assert packed == plans[place]["packed_bytes"]
    image = np.random.default_rng(0).standard_normal((1, 14, 14, 16), np.float32)
    ours = session.run([image])
    theirs = Session(graph, litert, xnnpack=False, threads=1).run([image])
    for output, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_weights_are_in_the_library_only_where_the_heap_is_slower(
    graph: Path, plans: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tight, ample = plans[0]["bytes"], plans[-1]["bytes"]
    on_heap = tvmc.compile(graph, output=tmp_path / "lib.so", memory_limit=ample)
    assert isinstance(on_heap, Report) and not any(layer.embedded for layer in on_heap.layers)
    report = tvmc.compile(graph, output=tmp_path / "lib.so", memory_limit=tight)
    assert isinstance(report, Report) and any(layer.embedded for layer in report.layers)
    session = Session(graph, runtime("litert"), delegate=tmp_path / "lib.so", xnnpack=False)
    told = session.report()
    assert told is not None
    held = Probe(session.interpreter).arena_bytes() + told["live_bytes"]
    own = told["memory"]["own_bytes"], told["memory"]["promised_own_bytes"]
    assert held + own[0] <= held + own[1] <= tight
    assert report.own_bytes == own[1]
    capsys.readouterr()
    for limit in (ample, tight):
        assert main(["plan", str(graph), "--memory-limit", str(limit)]) == 0
        (marked,) = (line for line in capsys.readouterr().out.splitlines() if "<-" in line)
        packed = int(marked.split()[2].replace(",", ""))
        assert (packed > 0) == (limit == ample)
    assert int(marked.split()[0].replace(",", "")) == held + own[1]


def test_each_thread_has_workspace_of_its_own(graph: Path, plans: list[dict[str, Any]]) -> None:
    several = plan(graph, threads=4).to_dict()
    assert several["threads"] == 4
    # The fastest may be other kernels.
    assert several["plans"][0]["bytes"] > plans[0]["bytes"]


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_that_there_are_not(graph: Path, threads: int) -> None:
    with pytest.raises(LeanconvError, match=f"{threads} threads: 1 to"):
        plan(graph, threads=threads)


def test_threads_take_less_time(graph: Path) -> None:
    """But not by as much as there are: they meet behind every layer."""
    alone, four = (plan(graph, threads=threads).solutions[-1].cost for threads in (1, 4))
    assert alone / 4 < four < alone


def test_embedded_weights_are_not_on_the_heap_but_in_files(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    command = ["plan", str(graph), "--weights", "embedded"]
    assert main([*command, "--json", str(path)]) == 0
    found = json.loads(path.read_text())["plans"]
    assert all(each["packed_bytes"] == 0 and each["file_bytes"] > 0 for each in found)
    least = min(each["file_bytes"] for each in found)
    capsys.readouterr()
    # Weights are read from one file or the other.
    assert main([*command, "--file-limit", "1"]) == 1
    words = capsys.readouterr().err.split()
    assert words[:2] == ["tvmc:", "error:"]
    possible = int(words[-1])
    assert 1 < possible <= least
    assert main([*command, "--file-limit", str(possible), "--json", str(path)]) == 0
    found = json.loads(path.read_text())["plans"]
    assert {each["file_bytes"] for each in found} == {possible}
    assert main([*command, "--file-limit", str(possible - 1)]) == 1


def test_one_byte_below_the_least_is_refused(
    graph: Path, plans: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    least = plans[0]["bytes"]
    library = tmp_path / "lib.so"
    command = ["compile", str(graph), "-o", str(library), "--weights", "heap"]
    assert main([*command, "--memory-limit", str(least - 1)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"{least - 1} bytes are too few for blocks.tflite: the least possible are {least}" in line
    )
    assert "tensors" in line
    assert not library.exists()
    # What would lower it, to the byte.
    assert (
        main(["plan", str(graph), "--threads", "4", "--weights", "heap", "--memory-limit", "1"])
        == 1
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--threads 1 ({least})" in line
    embedded = plan(graph, threads=4, embeds=True).to_dict()["plans"][0]["bytes"]
    assert f"--weights embedded ({embedded})" in line


def test_what_a_user_sees(
    graph: Path, plans: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, limit = tmp_path / "plan.json", plans[1]["bytes"]
    arguments = ["plan", str(graph), "--json", str(path), "--memory-limit", str(limit)]
    assert main([*arguments, "--points", "2", "--weights", "heap"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    titles = ["bytes", "arena", "packed weights", "own", "in files", "time", "what changes"]
    assert header.split() == " ".join(titles).split()
    assert [row.split()[0] for row in rows] == [
        f"{plans[place]['bytes']:,}" for place in (0, 1, -1)
    ]
    assert rows[1].endswith("<- --memory-limit")
    assert json.loads(path.read_text())["plans"] == plans


def test_a_limit_below_the_least_is_refused(
    graph: Path, plans: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(graph), "--memory-limit", "1K", "--weights", "heap"]) == 1
    line = "tvmc: error: 1024 bytes are too few for blocks.tflite: the least possible are "
    assert capsys.readouterr().err.startswith(f"{line}{plans[0]['bytes']}, ")


def test_a_plan_in_a_file_is_compiled(
    graph: Path, plans: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, library = tmp_path / "plan.json", tmp_path / "lib.so"
    assert main(["plan", str(graph), "--json", str(path)]) == 0
    wanted, report = plans[1], tmp_path / "report.json"
    command = ["compile", str(graph), "-o", str(library), "--report", str(report), "--plan"]
    assert main([*command, f"{path}#{wanted['bytes'] + 1}"]) == 0
    session = Session(graph, runtime("litert"), delegate=library, xnnpack=False, threads=1)
    assert Probe(session.interpreter).arena_bytes() == wanted["arena_bytes"]
    layers = json.loads(report.read_text())["layers"]
    for kernel in wanted["kernels"]:
        for layer in layers[kernel["layers"][0] : kernel["layers"][1] + 1]:
            choice = ":".join(
                [layer["algorithm"], *(f"{k}={v}" for k, v in layer["knobs"].items())]
            )
            assert choice == kernel["choice"]
    # One byte below the least, another model, and what is no plan.
    capsys.readouterr()
    assert main([*command, f"{path}#{plans[0]['bytes'] - 1}"]) == 1
    assert f"the least are {plans[0]['bytes']}" in capsys.readouterr().err
    other = tmp_path / "other.tflite"
    other.write_bytes(chain((1, 8, 8, 4), [Conv(4)]))
    for model, plan_file, text in (
        (other, path, "the plan is of blocks.tflite"),
        (graph, f"{path}#much", "is not a number of bytes"),
        (graph, report, "has no plans"),
        (graph, tmp_path / "none.json", "cannot be read"),
    ):
        assert main(["compile", str(model), "-o", str(library), "--plan", str(plan_file)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line


@pytest.mark.parametrize("weights", ["heap", "embedded"])
def test_a_library_of_several_plans_takes_what_a_limit_allows(
    graph: Path, weights: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "lib.so"
    plans = plan(graph, embeds=weights == "embedded").to_dict()["plans"]
    small, large = plans[0], plans[-1]
    assert small["bytes"] < large["bytes"]
    limits = f"{large['bytes']},{small['bytes']}"
    command = ["compile", str(graph), "-o", str(library), "--weights", weights, "--memory-limit"]
    assert main([*command, f"{small['bytes']},{large['bytes']}"]) == 2
    assert "have to fall" in capfd.readouterr().err
    assert main([*command, limits]) == 0
    image = np.random.default_rng(0).standard_normal((1, 14, 14, 16), np.float32)
    litert = runtime("litert")
    expected = Session(graph, litert, xnnpack=False, threads=1).run([image])
    for limit, held in (
        (0, large), (large["bytes"], large), (large["bytes"] - 1, small), (small["bytes"], small),
        (small["bytes"] - 1, None),
    ):  # fmt: skip
        options = {"memory_limit": str(limit)} if limit else {}
        session = Session(
            graph, litert, delegate=library, delegate_options=options, xnnpack=False, threads=1
        )
        (output,) = session.run([image])
        np.testing.assert_allclose(output, expected[0], rtol=1e-4, atol=1e-4)
        told = session.report()
        assert told is not None
        if held is None:
            assert told["live_bytes"] == 0
            continue
        assert Probe(session.interpreter).arena_bytes() == held["arena_bytes"]
        assert told["live_bytes"] == held["packed_bytes"]
        in_library = sum(layer["embedded_bytes"] for layer in told["layers"])
        assert (in_library > 0) == (weights == "embedded")
    assert "plan 2 of 2, as the one before needs" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--algorithm", "indirect"), ("--objective", "memory")]
)
def test_what_does_not_go_with_a_limit(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    command = ["compile", str(graph), "-o", str(tmp_path / "lib.so"), "--memory-limit", "1M"]
    assert main([*command, option, value]) == 2
    assert f"--memory-limit does not go with {option} yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--memory-limit", "1M"),
        ("--threads", "2"),
        ("--weights", "embedded"),
        ("--file-limit", "1M"),
    ],
)
def test_modules_have_no_limit(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    command = ["compile", str(graph), "-o", str(tmp_path / "m.so"), "-f", "so"]
    assert main([*command, option, value]) == 2
    assert f"{option} is for delegates" in capsys.readouterr().err


@pytest.mark.parametrize(
    "limits", [{"memory_limit": 2**20}, {"file_limit": 2**20}, {"weights": "embedded"}]
)
def test_functions_refuse_them_too(graph: Path, tmp_path: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(LeanconvError, match="are for delegates"):
        tvmc.compile(graph, output=tmp_path / "m.so", output_format="so", **limits)


def test_the_page_holds_all_that_it_shows(
    graph: Path, plans: list[dict[str, Any]], tmp_path: Path
) -> None:
    page = tmp_path / "plan.html"
    limit = plans[1]["bytes"]
    command = ["plan", str(graph), "--html", str(page), "--weights", "heap"]
    assert main([*command, "--memory-limit", str(limit)]) == 0
    text = page.read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    (line,) = [line for line in text.splitlines() if line.startswith("const data = ")]
    data = json.loads(line.removeprefix("const data = ").removesuffix(";"))
    assert data["plans"][data["chosen"]]["bytes"] == limit
    assert (data["threads"], data["options"]) == (1, "--weights heap ")
    for shown, expected in zip(data["plans"], plans, strict=True):
        for kind in ("bytes", "arena_bytes", "own_bytes"):
            assert shown[kind] == expected[kind]
        assert [data["kernels"][number]["layers"] for number in shown["kernels"]] == [
            kernel["layers"] for kernel in expected["kernels"]
        ]
        # Nothing lies where something else does at the same time.
        for i, (_, first, last, size, offset) in enumerate(shown["placed"]):
            assert offset + size <= shown["arena_bytes"]
            for _, other_first, other_last, other_size, other in shown["placed"][:i]:
                apart = last < other_first or other_last < first
                assert apart or offset + size <= other or other + other_size <= offset
