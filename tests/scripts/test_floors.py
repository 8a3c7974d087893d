"""Folders are floors: the rules hold, and a planted violation is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import include_floors

PACKAGES = ("schedules", "tflite_delegate", "scripts/tvmc")


def test_c_files_include_downwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert include_floors.main([]) == 0
    copy = tmp_path / "csrc"
    shutil.copytree(include_floors.CSRC, copy)
    with (copy / "host" / "tensor.c").open("a") as file:
        file.write('#include "claim/claim.h"\n#include "host/nothing.h"\n')
    assert include_floors.main([str(copy)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "host/tensor.c includes claim/claim.h, which is on a floor above",
        "host/tensor.c: there is no host/nothing.h",
    ]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("schedules/layer/workload.py", "import schedules.plan.planner"),
        ("schedules/kernel/tiles.py", "import tflite_delegate.build"),
        ("tflite_delegate/read/graph.py", "import tvmc.cli"),
    ],
)
def test_a_planted_import_is_found(repo_root: Path, tmp_path: Path, module: str, line: str) -> None:
    for package in PACKAGES:
        target = tmp_path / Path(package).name
        shutil.copytree(repo_root / package, target, ignore=shutil.ignore_patterns("csrc"))
    shutil.copy(repo_root / "pyproject.toml", tmp_path)
    assert _lint(tmp_path) == 0
    with (tmp_path / module).open("a") as file:
        file.write(f"{line}\n")
    assert _lint(tmp_path) == 1


def _lint(folder: Path) -> int:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return done.returncode
