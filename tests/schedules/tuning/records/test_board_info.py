"""board.json, and folders of another board."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tvm

from schedules import __version__
from schedules.errors import LeanconvError
from schedules.tuning.records.board_info import BoardInfo, check_same

PROBED = {
    "cpu": "Cortex-A76",
    "arch": "aarch64",
    "features": ["fp", "asimd"],
    "cores": 4,
    "os": "Linux 6.6",
    "memory_bytes": 8 * 2**30,
}
INFO = BoardInfo.of("pi-5", "cortex-a76", PROBED)


def test_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "tuning_logs" / "pi-5"
    assert BoardInfo.read(folder) is None
    INFO.write(folder)
    assert BoardInfo.read(folder) == INFO
    values = json.loads((folder / "board.json").read_text())
    assert list(values) == ["board", "target", "cpu", "arch", "features", "cores", "os",
                            "memory_bytes", "software", "calibration"]  # fmt: skip
    assert values["features"] == ["asimd", "fp"]
    assert values["software"].keys() == {"leanconv", "tvm", "llvm", "python"}
    assert values["software"]["leanconv"] == __version__
    assert values["software"]["tvm"] == tvm.__version__
    assert [path.name for path in folder.iterdir()] == ["board.json"]


def test_another_board(tmp_path: Path) -> None:
    check_same(tmp_path, INFO)
    INFO.write(tmp_path)
    check_same(tmp_path, replace(INFO, os="Linux 6.12", memory_bytes=4 * 2**30))
    with pytest.raises(LeanconvError) as caught:
        check_same(tmp_path, replace(INFO, board="pi-4", cpu="Cortex-A72"))
    assert str(caught.value) == (
        f"{tmp_path} is of the board pi-5 with Cortex-A76, not Cortex-A72: choose another folder "
        "with -o"
    )


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"features": 5}'])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "board.json").write_bytes(content)
    with pytest.raises(LeanconvError, match="describes no board: remove it"):
        check_same(tmp_path, INFO)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LeanconvError, match="cannot make"):
        INFO.write(tmp_path / "file")
    with pytest.raises(LeanconvError, match="cannot read"):
        BoardInfo.read(tmp_path / "file")
