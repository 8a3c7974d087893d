"""Folders are floors: the rules hold, and a planted violation is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import include_floors, line_budget

PACKAGES = ("schedules", "tflite_delegate", "scripts")


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
        ("scripts/board/core_model.py", "import scripts.benchmarks.layers"),
        ("scripts/tvmc/cli.py", "import scripts.demo"),
    ],
)
def test_a_planted_import_is_found(repo_root: Path, tmp_path: Path, module: str, line: str) -> None:
    for package in PACKAGES:
        target = tmp_path / package
        shutil.copytree(repo_root / package, target, ignore=shutil.ignore_patterns("csrc"))
    shutil.copy(repo_root / "pyproject.toml", tmp_path)
    assert _lint(tmp_path) == 0
    with (tmp_path / module).open("a") as file:
        file.write(f"{line}\n")
    assert _lint(tmp_path) == 1


def _lint(folder: Path) -> int:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder / 'scripts'}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return done.returncode


def test_mypy_checks_every_folder_of_scripts(repo_root: Path) -> None:
    checked = (repo_root / "pyproject.toml").read_text().partition("[tool.mypy]")[2]
    for path in [*repo_root.glob("scripts/*/__init__.py"), *repo_root.glob("scripts/[!_]*.py")]:
        name = path.parent.name if path.stem == "__init__" else path.stem
        assert name == "tvmc" or f'"scripts.{name}",' in checked


def test_only_tvmc_has_a_name_of_its_own(repo_root: Path, tmp_path: Path) -> None:
    """Of what lies in ``scripts``: nothing else is found from another folder."""
    names = sorted({path.stem for path in repo_root.glob("scripts/[!_]*")})
    program = (
        "import importlib.util as u, sys; specs = [u.find_spec(name) for name in sys.argv[2:]]; "
        "print(*(s.name for s in specs if s and s.origin and s.origin.startswith(sys.argv[1])))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", program, str(repo_root), *names]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"tvmc"}


def test_folders_keep_to_their_budget(
    repo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in (*PACKAGES, "tests"):
        for folder in repo_root.glob(f"{package}/**/"):
            (tmp_path / folder.relative_to(repo_root)).mkdir(parents=True, exist_ok=True)
    for path in line_budget.sources(repo_root):
        shutil.copy(repo_root / path, tmp_path / path)
    assert line_budget.main(tmp_path) == 0
    capsys.readouterr()
    (tmp_path / "schedules/plan/long.py").write_text("pass\n" * 2000)
    for number in range(line_budget.MOST_FILES + 1):
        (tmp_path / f"scripts/models/f{number}.c").touch()
    (tmp_path / "tflite_delegate/elsewhere").mkdir()
    (tmp_path / "tflite_delegate/elsewhere/new.py").touch()
    assert line_budget.main(tmp_path) == 1
    said = capsys.readouterr().err
    assert "schedules/plan/long.py: 2000 lines are more than 450" in said
    assert re.search(r"schedules/plan: \d{4} lines are more than its", said)
    assert "scripts/models: 2" in said
    assert "tflite_delegate/elsewhere: scripts/line_budget.py has no budget for it" in said
    assert said.count("\n") == 4
