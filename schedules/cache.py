"""Where everything is kept that can be made again, and can be removed at any time."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from schedules.errors import LeanconvError


def cache_folder(name: str) -> Path:
    """``leanconv/NAME`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it may not exist.

    Raises
    ------
    LeanconvError
        If there is neither.
    """
    try:
        return platformdirs.user_cache_path("leanconv") / name
    except RuntimeError:
        raise LeanconvError("this user has no home directory: set XDG_CACHE_HOME") from None
