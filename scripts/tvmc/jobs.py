"""What is told to whatever runs a model, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from schedules.errors import LeanconvError


class DataRefused(LeanconvError):
    """The values of an input are none that an operator can take, such as indices out of range."""


@dataclass(frozen=True)
class Job:
    """How to run a model.

    Parameters
    ----------
    values : list of arrays
        The inputs.
    repeat, number : int
        Samples to take, and calls of a sample.
    end_to_end : bool
        Whether the time of a call includes the way of inputs and outputs.
    threads : int or None
        That compute; ``None``: as many as the runtime likes.
    profile : bool
        Whether to find out where the time goes, in another ``repeat * number`` calls.
    keep_results : bool
        Whether to run the model but once, here, and keep what every function computed.
    """

    values: list[NDArray[Any]]
    repeat: int
    number: int
    end_to_end: bool
    threads: int | None
    profile: bool
    keep_results: bool = False


@dataclass(frozen=True)
class FunctionTime:
    """All calls of one function, and their seconds without what the function itself called."""

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Parameters
    ----------
    outputs : list of arrays
        In the model's order.
    times : list of float
        Seconds of one call, a figure for each sample.
    functions : list of FunctionTime
        Where the time of the profiled calls went.
    results : list of (str, array)
        Functions and what they computed, if that was to be kept.
    """

    outputs: list[NDArray[Any]]
    times: list[float]
    functions: list[FunctionTime]
    results: list[tuple[str, NDArray[Any]]] = field(default_factory=list)
