"""The folder of what can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedules.cache import cache_folder
from schedules.errors import LeanconvError


def test_it_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder("store") == Path("/somewhere/leanconv/store")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder("store") == Path("/home/someone/.cache/leanconv/store")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("board") == Path("/home/someone/.cache/leanconv/board")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(LeanconvError, match="set XDG_CACHE_HOME"):
        cache_folder("store")
