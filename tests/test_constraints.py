"""Each pin in constraints.txt has a wheel for each Python, and together they are all it needs."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: Those that pyproject.toml names; TensorFlow has nothing for the last.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


@pytest.fixture(scope="module")
def pins(repo_root: Path) -> list[Requirement]:
    lines = (repo_root / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def holds(requirement: Requirement, python: str, extra: str = "") -> bool:
    """Whether ``requirement`` is one on this system with another Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def unpinned(python: str, packages: Mapping[str, Any]) -> Iterator[str]:
    """What no pin fulfils of what the tests need, or of what that needs, on and on."""
    seen, pending = set(), [("leanconv", ""), ("leanconv", "test")]
    while pending:
        name, extra = one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        if name == "leanconv":
            needs = importlib.metadata.requires(name) or []
        else:
            needs = packages[name].get("requires_dist", [])
        for need in map(Requirement, needs):
            if not holds(need, python, extra):
                continue
            needed = canonicalize_name(need.name)
            if needed == "leanconv" or (
                needed in packages and packages[needed]["version"] in need.specifier
            ):
                pending += [(needed, extra) for extra in ("", *need.extras)]
            else:
                yield f"{name} needs {need}"


def test_the_pythons_of_the_project(repo_root: Path) -> None:
    project = (repo_root / "pyproject.toml").read_text()
    assert tuple(re.findall(r"Python :: (3\.\d+)", project)) == PYTHONS


def test_each_package_has_one_pin(pins: list[Requirement]) -> None:
    for python in PYTHONS:
        names = [canonicalize_name(pin.name) for pin in pins if holds(pin, python)]
        assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_pins_resolve(python: str, pins: list[Requirement], tmp_path: Path) -> None:
    """Each has a wheel, and together they are all that is needed.

    pip looks up wheels for another Python, but not what only another Python needs.
    """
    report, wanted = tmp_path / "report.json", tmp_path / "pins.txt"
    wanted.write_text("".join(f"{p.name}{p.specifier}\n" for p in pins if holds(p, python)))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps"]
    command += ["--ignore-installed", "--only-binary=:all:", f"--python-version={python}"]
    command += [f"--target={tmp_path}", f"--report={report}", f"--requirement={wanted}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    installed = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
    packages: dict[str, Any] = {
        canonicalize_name(package["name"]): package for package in installed
    }
    assert list(unpinned(python, packages)) == []
