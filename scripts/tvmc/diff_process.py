"""Compare in a process of its own, ``python -m tvmc.diff_process``: LiteRT may crash on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError, reason
from schedules.progress import Progress
from tvmc.answers import Asked, Send, answer
from tvmc.comparing.differences import Unverifiable
from tvmc.comparison import Differences, diff_delegate, diff_module

_FUNCTIONS: Mapping[str, Callable[..., Differences]] = {
    "module": diff_module,
    "delegate": diff_delegate,
}


def diff(kind: str, model: Path, library: Path, progress: Progress, **more: Any) -> Differences:
    """What :func:`tvmc.comparison.diff_module` or ``diff_delegate`` finds, by ``kind``.

    Raises
    ------
    LeanconvError
        As they do; Unverifiable if LiteRT crashes.
    """
    asked = Asked("tvmc.diff_process", (kind, model, library, more))
    for found in asked:
        if isinstance(found, Differences):
            return found
        progress(*found)
    raise Unverifiable(f"LiteRT cannot run {model}: its process ended {asked.ending}")


def _diff(request: tuple[str, Path, Path, dict[str, Any]], send: Send) -> None:
    kind, model, library, more = request
    try:
        send(_FUNCTIONS[kind](model, library, progress=lambda *step: send(step), **more))
    except LeanconvError:
        raise
    except Exception as error:  # of whatever kind a damaged model causes
        told = f"{model} cannot be compared: {type(error).__name__}: {reason(error)}"
        raise Unverifiable(told) from None


if __name__ == "__main__":
    answer(_diff)
