"""A board whose packages cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.board import packages
from tests.scripts.board.conftest import ErrorLine


def fake_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    folder.mkdir()
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_setup_without_apt_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_line: ErrorLine
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "board"))
    fake_programs(tmp_path / "bin", monkeypatch)
    assert "apt-get is missing" in error_line(["setup"])


def test_setup_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_line: ErrorLine
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "cache" / "board"))
    fails = """case "$*" in
*update) echo "W: Failed to fetch the list: no route" >&2;;
*) echo "E: Unable to locate package" >&2; exit 100;;
esac"""
    fake_programs(tmp_path / "bin", monkeypatch, apt_get=fails, dpkg_deb="exit 0")
    line = error_line(["setup"])
    assert "apt-get cannot fetch packages for the board: W: Failed to fetch the list: no r" in line
    assert "run setup again" in line
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["board.lock"]


def test_setup_without_a_package_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_line: ErrorLine
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "cache" / "board"))
    monkeypatch.setattr(packages, "download_debian", lambda *arguments: [])
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ERROR: no such index' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    line = error_line(["setup"])
    assert "cannot download the board's Python packages: ERROR: no such index" in line
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["board.lock"]
