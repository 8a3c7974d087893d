"""``board.json``: which board the records beside it are of."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from schedules import __version__
from schedules.errors import LeanconvError
from schedules.files import write_json
from schedules.target.simd import HOST, Simd
from schedules.tuning.records.calibration import Calibration
from schedules.tuning.records.task import tuning_target

FILE = "board.json"


@dataclass(frozen=True)
class BoardInfo:
    """A board, and the software that tuned for it last.

    Parameters
    ----------
    board : str
        Its name: that of the folder.
    target : str
        See :func:`schedules.tuning.records.task.tuning_target`.
    cpu, arch, os : str
        Model of the processor, its instruction set, and the system, as the board tells them.
    features : tuple of str
        Instruction-set extensions.
    cores, memory_bytes : int
        Of the whole board.
    software : mapping of str to str
        Versions; see :func:`software`.
    calibration : Calibration, optional
        What its cores do in a second, if that was measured.
    """

    board: str
    target: str
    cpu: str
    arch: str
    features: tuple[str, ...]
    cores: int
    os: str
    memory_bytes: int
    software: Mapping[str, str]
    calibration: Calibration | None = None

    @classmethod
    def of(cls, board: str, target: str, probed: Mapping[str, Any]) -> BoardInfo:
        """From what ``Measurer.probe`` returns, and this software."""
        own = {"board": board, "target": target, "software": software(), "calibration": None}
        return cls._from_dict({**probed, **own})

    @classmethod
    def read(cls, folder: Path) -> BoardInfo | None:
        """What ``folder`` says; ``None`` if it says nothing.

        Raises
        ------
        LeanconvError
            If its file is damaged.
        """
        path = folder / FILE
        try:
            return cls._from_dict(json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LeanconvError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise LeanconvError(
                f"{path} describes no board: remove it, and the next tuning writes it again"
            ) from None

    def write(self, folder: Path) -> None:
        """Leave it in ``folder``, which is made if need be, atomically."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LeanconvError(f"cannot make {folder}: {error.strerror}") from None
        write_json(folder / FILE, asdict(self))

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> BoardInfo:
        features = tuple(sorted(values["features"]))
        known = {f.name: values[f.name] for f in fields(cls) if f.name != "calibration"}
        figures = values.get("calibration")
        calibration = None if figures is None else Calibration.from_dict(figures)
        return cls(**{**known, "features": features, "calibration": calibration})


def check_same(folder: Path, info: BoardInfo) -> BoardInfo:
    """Make sure that ``folder`` may hold records of the board ``info``; what to write there.

    That is ``info`` with the calibration that is there, unless it has one.

    Raises
    ------
    LeanconvError
        If it holds those of another processor: their times are not comparable.
    """
    known = BoardInfo.read(folder)
    if known is not None and known.cpu != info.cpu:
        raise LeanconvError(
            f"{folder} is of the board {known.board} with {known.cpu}, not {info.cpu}: choose "
            f"another folder with -o"
        )
    if known is not None and info.calibration is None:
        return replace(info, calibration=known.calibration)
    return info


def calibrated(
    simd: Simd,
    paths: Iterable[str | Path],
    host_figures: Callable[[Simd], Calibration | None] | None = None,
) -> Simd:
    """``simd``, with the figures of the board that these files or folders of records are of.

    Where they have none and ``simd`` is this machine, with what ``host_figures`` tells.

    Raises
    ------
    LeanconvError
        If what says so is damaged.
    """
    for path in map(Path, paths):
        info = BoardInfo.read(path if path.is_dir() else path.parent)
        if info and info.calibration and info.target == tuning_target(simd):
            return info.calibration.applied_to(simd)
    figures = host_figures(simd) if host_figures and simd.name == HOST else None
    return figures.applied_to(simd) if figures else simd


def software() -> dict[str, str]:
    """The versions that decide what is compiled."""
    import tvm  # takes a second
    from tvm.target import codegen

    return {
        "leanconv": __version__,
        "tvm": tvm.__version__,
        "llvm": str(codegen.llvm_version_major()),
        "python": platform.python_version(),
    }
