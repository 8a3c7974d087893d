"""The store: what is kept comes back; what is damaged, missing or too much does no harm."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from schedules.store import SWITCH, Store, bypassed, digest

KEY = digest("a key")


def entry(store: Store, key: str = KEY) -> Path:
    assert store.folder is not None
    return store.folder / key[:2] / key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "store")


def test_what_is_kept_comes_back(store: Store) -> None:
    assert store.get(KEY) is None
    for data in (b"", b"kernel", os.urandom(100_000)):
        store.put(KEY, data)
        assert store.get(KEY) == data
    assert [path.name for path in entry(store).parent.iterdir()] == [KEY]
    assert store.get(digest("another key")) is None


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_entry_is_none(store: Store, damage: bytes | None) -> None:
    store.put(KEY, b"kernel" * 100)
    path = entry(store)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\0" if damage is None else damage)
    assert store.get(KEY) is None
    store.put(KEY, b"kernel")
    assert store.get(KEY) == b"kernel"


def test_no_list_of_parts_is_taken_for_another() -> None:
    lists = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ()]
    assert len({digest(*parts) for parts in lists}) == len(lists)
    assert digest("ab") == digest(b"ab")


def test_what_was_not_read_for_longest_goes(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=256 * 1000)  # 1000 bytes in each of its folders
    keys = [KEY[:2] + f"{index:062x}" for index in range(5)]
    for age, key in enumerate(keys[:4]):
        store.put(key, b"x" * 200)  # and a checksum
        os.utime(entry(store, key), (age, age))
    assert store.get(keys[0]) is not None  # read, so it stays
    store.put(keys[4], b"x" * 200)
    assert [key for key in keys if store.get(key) is None] == keys[1:3]


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "store")
    store.put(KEY, b"kernel")
    assert store.get(KEY) is None


def test_a_full_disk_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    store.put(KEY, b"kernel")
    assert store.get(KEY) is None
    assert not list(entry(store).parent.iterdir())


def _put_and_get(folder: Path) -> list[bytes | None]:
    store, read = Store(folder), []
    for _ in range(200):
        store.put(KEY, b"kernel" * 1000)
        read.append(store.get(KEY))
    return read


def test_processes_share_the_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_put_and_get, [tmp_path, tmp_path])
    assert {*first, *second} == {b"kernel" * 1000}
    assert len(list((tmp_path / KEY[:2]).iterdir())) == 1


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert Store.default().folder == Path("/somewhere/leanconv/store")
    monkeypatch.setattr(platformdirs, "user_cache_path", no_home)
    assert Store.default().folder is None


def no_home(_name: str) -> Path:
    raise RuntimeError


@pytest.mark.parametrize("before", [None, "on", "off"])
def test_bypassed_here_and_in_processes(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(SWITCH, raising=False)
    if before is not None:
        monkeypatch.setenv(SWITCH, before)
    with bypassed():
        assert Store.default().folder is None
        ask = "from schedules.store import Store; print(Store.default().folder)"
        command = [sys.executable, "-c", ask]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.strip() == "None"
    assert os.environ.get(SWITCH) == before
    with bypassed(False):
        assert (Store.default().folder is None) == (before == "off")
