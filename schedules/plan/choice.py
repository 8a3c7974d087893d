"""An algorithm by name, with values for its knobs: what users ask for, tuners try, records keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.kernel.knobs import NO_KNOBS, Knobs
from schedules.kernel.tiles import ORDERS

#: The name under which the planner chooses.
AUTO = "auto"

#: The words of loop orders.
_LOOPS = frozenset(",".join(ORDERS).split(","))


@dataclass(frozen=True)
class Choice:
    """An algorithm and values of its knobs: some of them, or all in the algorithm's order."""

    algorithm: str
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, algorithm: str, knobs: Knobs = NO_KNOBS) -> Choice:
        """From knobs by name."""
        return cls(algorithm, tuple(knobs.items()))

    @property
    def knobs(self) -> dict[str, Any]:
        """Values by name."""
        return dict(self.settings)

    @classmethod
    def parse(cls, text: str) -> Choice:
        """``NAME`` or ``NAME:KNOB=VALUE:KNOB=VALUE``, e.g. ``winograd:outputs=2``.

        Raises
        ------
        LeanconvError
            If that is not what ``text`` is, or no algorithm has that name.
        """
        name, *settings = text.split(":")
        known = [AUTO, *(algorithm.name for algorithm in REGISTRY)]
        if name not in known:
            raise LeanconvError(f"unknown algorithm {name!r}: one of {', '.join(known)}")
        knobs: dict[str, Any] = {}
        for setting in settings:
            knob, equals, value = setting.partition("=")
            if not (knob and equals and value) or name == AUTO:
                raise LeanconvError(f"{text!r} is not NAME or NAME:KNOB=VALUE")
            if knob in knobs:
                raise LeanconvError(f"{text!r}: {knob} is there twice")
            knobs[knob] = int(value) if value.isdecimal() else value
        return cls.of(name, knobs)

    @classmethod
    def parse_all(cls, texts: str | Sequence[str]) -> list[Choice]:
        """Choices, each once; several may be in one text, with commas between them.

        A loop order, ``indirect:order=rows,columns,panels``, has commas of its own.
        """
        found: list[str] = []
        for part in ",".join([texts] if isinstance(texts, str) else texts).split(","):
            if found and "=" in found[-1] and part.partition(":")[0] in _LOOPS:
                found[-1] += f",{part}"
            else:
                found.append(part)
        return [cls.parse(text) for text in dict.fromkeys(found)]

    def __str__(self) -> str:
        return ":".join([self.algorithm, *(f"{name}={value}" for name, value in self.settings)])
