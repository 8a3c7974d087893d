"""The wheel: what is in it, and that what it installs works outside the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest

import schedules
from tvmc.running.interpreter import Session, runtime


@pytest.fixture(scope="module")
def wheel(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what a clean clone holds, without network."""
    source = tmp_path_factory.mktemp("clone")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=repo_root, capture_output=True, text=True, check=True)
    for name in filter(None, done.stdout.split("\0")):
        if (repo_root / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repo_root / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(target), "."]
    subprocess.run(command, cwd=source, check=True)
    (path,) = target.iterdir()
    return path


def test_the_wheel_holds_the_packages_and_the_c_sources(wheel: Path, repo_root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    patterns = ("*.c", "*.h", "*.map", "CMakeLists.txt")
    expected = {
        path.relative_to(repo_root).as_posix()
        for folder in ("tflite_delegate/csrc", "schedules/tuning/csrc")
        for pattern in patterns
        for path in (repo_root / folder).rglob(pattern)
    }
    assert len(expected) > 10
    scripts = repo_root / "scripts"
    expected |= {
        path.relative_to(scripts).as_posix()
        for pattern in ("*.py", "*.html")
        for path in (scripts / "tvmc").rglob(pattern)
    }
    expected |= {
        path.relative_to(repo_root).as_posix()
        for package in ("schedules", "tflite_delegate")
        for path in (repo_root / package).rglob("*.py")
    }
    expected |= {f"{package}/py.typed" for package in ("schedules", "tflite_delegate", "tvmc")}
    assert expected <= names
    rest = {name for name in names - expected if ".dist-info/" not in name}
    assert not rest


def test_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    folder = f"leanconv-{schedules.__version__}.dist-info"
    metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
    assert metadata["Name"] == "leanconv"
    assert metadata["Version"] == schedules.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) >= {"models", "runtime", "test", "peers"}
    assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert "tvmc = tvmc.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()


def test_the_installed_command_works_outside_the_checkout(
    wheel: Path, tmp_path: Path, made_model: Callable[[str], Path]
) -> None:
    graph = made_model("small")
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*command, str(site), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: object) -> str:
        words = [str(argument) for argument in arguments]
        done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import tvmc, schedules, tflite_delegate as d; print(tvmc, schedules, d)"
    assert run(sys.executable, "-c", where).count(str(site)) == 3
    tvmc = site / "bin" / "tvmc"
    assert run(tvmc, "--version").startswith(f"tvmc (leanconv) {schedules.__version__}, TVM ")
    run(tvmc, "compile", graph, "-o", "libsmall.so", "--report", "report.json")
    assert sorted(os.listdir(work)) == ["libsmall.so", "report.json"]
    report = Session(graph, runtime("litert"), delegate=work / "libsmall.so").report()
    assert report is not None
    assert report["claimed"] == 6


def test_the_constraints_pin_what_pyproject_asks_for(repo_root: Path) -> None:
    """Every direct dependency has one exact version in constraints.txt."""
    project = (repo_root / "pyproject.toml").read_text().split("[project.scripts]")[0]
    asked = set(re.findall(r'^    "([a-z][a-z-]*)', project, re.MULTILINE)) - {"leanconv"}
    asked |= {"ai-edge-litert", "tensorflow", "torch", "onnx", "onnxruntime", "ncnn"}
    pins = (repo_root / "constraints.txt").read_text()
    pinned = set(re.findall(r"^([A-Za-z0-9_.-]+)==", pins, re.MULTILINE))
    assert asked <= pinned
