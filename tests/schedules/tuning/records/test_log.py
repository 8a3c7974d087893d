"""Logs: whole lines or none, whoever writes and whatever happens."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import resource
import signal
from dataclasses import replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from schedules.tuning.records.log import Log, load, locked, rewrite
from schedules.tuning.records.record import Record
from tests.support.records import record

FIRST, SECOND = record(columns=1), record(columns=2)
NEWER = json.dumps(json.loads(FIRST.to_line()) | {"v": 2})

#: Processes that need not import TVM again.
FORK = multiprocessing.get_context("fork")


def append(folder: Path, one: Record, count: int) -> None:
    """Add ``one`` so often, each time a second later."""
    log = Log(folder)
    for trial in range(count):
        log.append(replace(one, timestamp=trial))


def append_limited(folder: Path, most_bytes: int, errors: SimpleQueue[str]) -> None:
    """Add the first record until the file would have more than ``most_bytes``."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        append(folder, FIRST, 10)
    except LeanconvError as error:
        errors.put(str(error))


def test_appends_and_loads(tmp_path: Path) -> None:
    log = Log(tmp_path / "boards" / "pi-5")
    log.append(FIRST)
    log.append(SECOND)
    assert log.path.name == "float32.jsonl"
    assert load(log.path) == load(log.path.parent) == [FIRST, SECOND]


def test_two_processes_at_once(tmp_path: Path) -> None:
    boards = [record(board=name) for name in ("left", "right")]
    writers = [FORK.Process(target=append, args=(tmp_path, board, 500)) for board in boards]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    found = load(tmp_path)
    for board in boards:
        assert [r.timestamp for r in found if r.board == board.board] == list(range(500))
    assert len(Log(tmp_path).path.read_text().splitlines()) == 1000


def test_a_torn_line_costs_nothing_but_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(tmp_path)
    log.append(FIRST)
    whole = log.path.read_bytes()
    for end in range(len(whole) + 1, 2 * len(whole) - 1, 40):
        log.path.write_bytes((whole + whole)[:end])
        assert load(log.path) == [FIRST]
        assert not caplog.records
    log.append(SECOND)
    assert load(log.path) == [FIRST, SECOND]
    assert "1 damaged" in caplog.text


def test_a_last_line_that_lacks_only_its_end(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.path.write_text(FIRST.to_line())
    log.append(SECOND)
    assert load(tmp_path) == [FIRST, SECOND]


def test_skipped_lines_are_counted_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [b"{", FIRST.to_line().encode(), b"\xff\x00", NEWER.encode(), b"", NEWER.encode()]
    (tmp_path / "float32.jsonl").write_bytes(b"\n".join([*lines, b"torn"]))
    (tmp_path / "int8.jsonl").write_bytes(b"junk\n" + SECOND.to_line().encode() + b"\n")
    assert load(tmp_path) == [FIRST, SECOND]
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "left out: 3 damaged, 2 of a newer version" in warning.getMessage()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there are no tuning records at"),
        ("", "holds no tuning records"),
        ("# readme\n", "holds no tuning records"),
        (NEWER + "\n", "a newer version wrote the records"),
    ],
)
def test_nothing_to_load(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LeanconvError, match=message):
        load(path)


def test_folders_without_records(tmp_path: Path) -> None:
    (tmp_path / "board.json").write_text("{}")
    with pytest.raises(LeanconvError, match="holds no tuning records"):
        load(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(LeanconvError, match="cannot read"):
        load(tmp_path)


def test_a_line_that_did_not_fit_is_taken_back(tmp_path: Path) -> None:
    """The fourth line is written in part."""
    errors = FORK.SimpleQueue()
    most_bytes = 7 * len(FIRST.to_line()) // 2
    writer = FORK.Process(target=append_limited, args=(tmp_path, most_bytes, errors))
    writer.start()
    writer.join(120)
    path = Log(tmp_path).path
    assert errors.get() == f"cannot append to {path}: File too large"
    assert path.read_bytes().count(b"\n") == len(load(path)) == 3
    assert path.read_bytes().endswith(b"\n")


def test_an_interrupt_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Log(tmp_path).append(record(1e-3))
    assert load(tmp_path) == [record(1e-3)]


def test_a_full_disk(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.path.symlink_to("/dev/full")
    with pytest.raises(LeanconvError, match="No space left on device"):
        log.append(FIRST)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LeanconvError, match="cannot append to"):
        Log(tmp_path / "file").append(FIRST)


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    odd = record(board=b"caf\xe9".decode(errors="surrogateescape"))
    Log(tmp_path).append(odd)
    assert load(tmp_path) == [odd]


def test_rewritten_while_others_append(tmp_path: Path) -> None:
    """An appender that waited for the old file writes to the new one."""
    log = Log(tmp_path)
    log.append(FIRST)
    writer = FORK.Process(target=append, args=(tmp_path, SECOND, 60))
    writer.start()
    rewritten = 0
    while writer.is_alive():
        with locked(log.path):
            rewrite(log.path, load(log.path))
        rewritten += 1
    assert writer.exitcode == 0
    assert rewritten > 1
    assert len(load(log.path)) == 61
