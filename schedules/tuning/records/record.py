"""One trial, and the JSON line that describes it.

The keys of a line, in this order: ``v`` (1), ``workload`` (its ``to_text``), ``algorithm``,
``knobs`` (``NAME=VALUE:NAME=VALUE``, as for ``tvmc compile --algorithm``), ``costs_s`` (minimum,
median and maximum), ``samples``, ``error``, ``target``, ``board``, ``kind``, ``tvm`` and
``timestamp``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache

from schedules.errors import LeanconvError
from schedules.layer.block import Workload, workload_from_text
from schedules.plan.choice import Choice

#: Of the format. A line of a later one may mean anything.
VERSION = 1
#: How costs came about: on the processor itself; or by a model of it, on an emulated one.
MEASURED, MODELLED = "measured", "modelled"
#: The error of the best of a layer, whose network is faster with the untuned choices.
LOST = "its network is faster untuned"
#: Digits of a cost that are more than noise.
COST_DIGITS = 4
#: Of an error text.
ERROR_CHARACTERS = 80
#: Of the longest workload with all of its knobs, where board and target have usual names.
LINE_BYTES = 600

# What a run tunes many times over is parsed once.
_workload_from_text = cache(workload_from_text)


class NewerVersion(LeanconvError):
    """A line that a later version of this package wrote."""


@dataclass(frozen=True)
class Record:
    """One trial of one candidate.

    Parameters
    ----------
    workload, candidate
        What was computed, and how.
    costs_s : tuple of float
        Minimum, median and maximum of the samples, in seconds a call, which are kept to
        :data:`COST_DIGITS`; empty if it failed.
    samples : int
        How many there were.
    error : str or None
        Why it failed; kept is one line of at most :data:`ERROR_CHARACTERS`.
    target : str
        See :func:`schedules.tuning.records.task.tuning_target`.
    board : str
        Name of the board: that of the log's folder.
    cost_kind : {"measured", "modelled"}
        See :data:`MEASURED`; the two are never compared.
    tvm : str
        Version that compiled it.
    timestamp : int
        Seconds since 1970, UTC.

    Raises
    ------
    LeanconvError
        If that is no trial: without costs and without an error, for example.
    """

    workload: Workload
    candidate: Choice
    costs_s: tuple[float, ...]
    samples: int
    error: str | None
    target: str
    board: str
    cost_kind: str
    tvm: str
    timestamp: int

    def __post_init__(self) -> None:
        # A record is what its line says, whether it was read or is new.
        costs = tuple(float(f"{cost:.{COST_DIGITS}g}") for cost in self.costs_s)
        object.__setattr__(self, "costs_s", costs)
        if self.error is not None:
            object.__setattr__(self, "error", _shortened(self.error))
        if (self.error is None) != (len(costs) == 3) or len(costs) not in (0, 3):
            raise LeanconvError("a trial has three costs or an error")
        if not all(0 < cost < math.inf for cost in costs) or list(costs) != sorted(costs):
            raise LeanconvError(f"costs of {costs} seconds are no minimum, median and maximum")
        if self.samples < (1 if costs else 0):
            raise LeanconvError(f"a trial of {self.samples} samples")
        if self.cost_kind not in (MEASURED, MODELLED):
            raise LeanconvError(f"costs are {MEASURED} or {MODELLED}, not {self.cost_kind!r}")

    @property
    def cost_s(self) -> float:
        """The median, by which candidates are compared; infinite if it failed."""
        return self.costs_s[1] if self.costs_s else math.inf

    @property
    def is_lost(self) -> bool:
        """Whether it is no trial, but a mark: see :data:`LOST`."""
        return self.error == LOST

    def to_line(self) -> str:
        """The line, without the character that ends it.

        An error text that would make it longer than :data:`LINE_BYTES` is cut further.
        """
        line = self._line(self.error)
        excess = len(line.encode(errors="replace")) + 1 - LINE_BYTES
        if self.error is None or excess <= 0:
            return line
        return self._line(_shortened(self.error, max(len(self.error) - excess, 1)))

    def _line(self, error: str | None) -> str:
        values = {
            "v": VERSION,
            "workload": self.workload.to_text(),
            "algorithm": self.candidate.algorithm,
            "knobs": ":".join(f"{name}={value}" for name, value in self.candidate.settings),
            "costs_s": self.costs_s,
            "samples": self.samples,
            "error": error,
            "target": self.target,
            "board": self.board,
            "kind": self.cost_kind,
            "tvm": self.tvm,
            "timestamp": self.timestamp,
        }
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The inverse of :meth:`to_line`.

        Raises
        ------
        NewerVersion
            If only a later version of this package knows what the line means.
        LeanconvError
            If it describes no trial.
        """
        try:
            values = json.loads(line)
            if values["v"] > VERSION:
                raise NewerVersion(f"a record of version {values['v']}: update leanconv")
            for name, kinds in _TYPES.items():
                if type(values[name]) not in kinds:
                    raise LeanconvError(f"a record whose {name} is {values[name]!r}")
            return cls(
                _workload_from_text(values["workload"]),
                _candidate(values["algorithm"], values["knobs"]),
                tuple(values["costs_s"]),
                values["samples"],
                values["error"],
                values["target"],
                values["board"],
                values["kind"],
                values["tvm"],
                values["timestamp"],
            )
        except KeyError as error:
            raise LeanconvError(f"a record without {error}") from None
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise LeanconvError("a line that is no record") from None


#: What may stand under each key.
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("workload", "algorithm", "knobs", "target", "board", "kind", "tvm"), (str,)),
    **dict.fromkeys(("v", "samples", "timestamp"), (int,)),
    "costs_s": (list,),
    "error": (str, type(None)),
}


@cache
def _candidate(algorithm: str, knobs: str) -> Choice:
    return Choice(algorithm, tuple(map(_setting, knobs.split(":"))) if knobs else ())


@cache
def _setting(text: str) -> tuple[str, int | str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise LeanconvError(f"{text!r} is not KNOB=VALUE")
    return name, int(value) if value.isdecimal() else value


def _shortened(text: str, characters: int = ERROR_CHARACTERS) -> str:
    """One line of at most so many ``characters``, all of which can be printed."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= characters else line[: characters - 1] + "…"
