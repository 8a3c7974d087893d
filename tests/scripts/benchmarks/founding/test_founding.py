"""The first measurements: what is counted on the heap, what the tables say, wrong command lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schedules.target.toolchain import Toolchain
from scripts.benchmarks.founding import compute_library, images
from scripts.benchmarks.founding.compute_library import JOBS, growth, tensor_bytes
from scripts.benchmarks.harness.runners import TENSORFLOW
from scripts.board import packages
from scripts.models.layers import IMAGE_LAYERS, LAYERS
from scripts.models.make import RECIPES

MIB = 1 << 20
COUNTING = Path(compute_library.__file__).with_name("account.c")
#: Takes blocks in every way, prints what is held beyond the start, and the most that was.
BLOCKS = """
import ctypes, json
c = ctypes.CDLL(None)
for name in ("malloc", "calloc", "realloc", "aligned_alloc"):
    getattr(c, name).restype = ctypes.c_void_p
for name in ("account_held", "account_most"):
    getattr(c, name).restype = ctypes.c_long
size, pointer = ctypes.c_size_t, ctypes.c_void_p
c.account_restart()
start, found = c.account_held(), []
a = pointer(c.malloc(size(1 << 20)))
b = pointer(c.calloc(size(2), size(1 << 20)))
d = pointer(c.aligned_alloc(size(4096), size(1 << 20)))
found.append(c.account_held() - start)
a = pointer(c.realloc(a, size(3 << 20)))
found.append(c.account_held() - start)
for block in (a, b, d):
    c.free(block)
found.append(c.account_held() - start)
found.append(c.account_most() - start)
print(json.dumps(found))
"""


def test_every_block_of_the_heap_is_counted(tmp_path: Path) -> None:
    library = tmp_path / "account.so"
    Toolchain.default().run(["-O1", "-shared", "-fPIC", COUNTING, "-o", library])
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS],
        env={"LD_PRELOAD": str(library), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    counted = json.loads(done.stdout)
    for found, mebibytes in zip(counted, (4, 6, 0, 6), strict=True):
        assert 0 <= found - mebibytes * MIB < MIB // 8


def test_the_library_is_fetched_into_a_new_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "download_debian", lambda *arguments: [Path("a.deb")])
    monkeypatch.setattr(packages, "unpack_debian", lambda deb, to: (to / deb.stem).touch())
    system = compute_library.fetched(tmp_path / "cache" / "compute_library")
    assert [path.name for path in system.parent.iterdir()] == ["system"]
    assert [path.name for path in system.iterdir()] == ["a"]


def test_growth_is_beyond_what_was_there_before() -> None:
    heap = {"before": 10, "allocated": 14, "after": 13, "most": 19}
    assert growth(heap) == {"allocated": 4, "after": 3, "most": 9}


def test_models_are_those_of_the_jobs(made_model: Callable[[str], Path]) -> None:
    assert all(job.model in RECIPES for job in JOBS.values())
    assert all(layer.name in RECIPES for layer in IMAGE_LAYERS)
    # Image and output of 56x56x64, 64 kernels of 3x3x64, 64 biases.
    elements = 2 * 56 * 56 * 64 + 64 * 9 * 64 + 64
    assert tensor_bytes(made_model(LAYERS[0].name)) == 4 * elements


def test_what_was_published_stands_beside() -> None:
    held = {"peak_rss_bytes": 3 * MIB, "tensor_bytes": MIB, "workspace_bytes": None}
    times = {"min_s": 1e-3, "median_s": 2e-3}
    row = {"image": "300x300x3", "name": TENSORFLOW, "memory": held, "times": times}
    (text,) = images.report([{**row, "published": images.PUBLISHED[TENSORFLOW][300]}])
    assert text.splitlines()[-1].split("  ")[-1] == "200 MiB, 2.8 s"
    job = {"job": "product", "runtime": "ours", "tensor_bytes": MIB, **dict.fromkeys(
        ("allocated", "after", "most"), 2 * MIB)}  # fmt: skip
    (text,) = compute_library.report([{**job, "published": JOBS["product"].published}])
    assert text.splitlines()[-1].endswith("80 -> 6472 -> 6472 KiB")


@pytest.mark.parametrize(
    ("benchmark", "arguments", "message"),
    [
        (images, ["--sizes", "200"], "unknown size '200': one of 300, 1960"),
        (compute_library, ["--jobs", "dance"], "unknown job 'dance': one of product, "),
    ],
)
def test_errors_are_one_line(
    benchmark: object, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(arguments) == 2  # type: ignore[attr-defined]
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.slow
def test_the_library_is_fetched_built_and_run(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    assert compute_library.main(["--jobs", "network", "--json", str(rows)]) == 0
    theirs, ours = json.loads(rows.read_text())["rows"]
    for row in (theirs, ours):
        assert 0 < row["allocated"] <= row["after"] <= row["most"] < 4 * MIB


@pytest.mark.slow
def test_all_ways_compute_the_same_image(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    assert images.main(["--sizes", "300", "--rounds", "3", "--json", str(rows)]) == 0
    for row in json.loads(rows.read_text())["rows"]:
        assert row["reason"] is None
        assert row["max_difference"] < 1e-5
        assert row["memory"]["tensor_bytes"] == 2 * 4 * 300 * 300 * 3
