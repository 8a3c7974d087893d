"""How a candidate is timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How a candidate is timed.

    The candidates of a batch take turns: every round takes one sample of each, so that what the
    machine does meanwhile falls on all of them alike.

    Parameters
    ----------
    number : int
        Calls of a sample at least.
    repeat : int
        Samples of each candidate: rounds.
    min_repeat_ms : float
        A sample lasts at least so long.
    timeout_s : float
        A candidate that takes longer for one check or one sample is ended.
    build_timeout_s : float
        And one that takes longer to compile.
    weights_bytes : int
        Bytes of the copies of a candidate's weights that calls take in turns: more than the last
        cache, and they come from memory. By default they come from beyond the L2 cache.
    """

    number: int = 1
    repeat: int = 5
    min_repeat_ms: float = 10.0
    timeout_s: float = 10.0
    build_timeout_s: float = 60.0
    weights_bytes: int = 0
