"""Plans as a file has them: ``tvmc plan --json`` writes them, ``tvmc compile --plan`` takes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.budget.problem import Form, Solution, Unit
from schedules.errors import LeanconvError, OverLimit

#: What stands for the kernel of a layer that has none.
LEFT = "left to TFLite"


@dataclass(frozen=True)
class RecordedUnit:
    """Layers ``first`` to ``last``, and the algorithm with all of its knobs, or :data:`LEFT`."""

    first: int
    last: int
    choice: str
    is_pooled: bool
    is_embedded: bool
    is_narrow: bool

    @classmethod
    def of(cls, unit: Unit, form: Form) -> RecordedUnit:
        """What was chosen."""
        choice = LEFT if form.plan is None else str(form.plan.choice)
        return cls(unit.first, unit.last, choice, unit.is_pooled, form.is_embedded, form.is_narrow)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is rare is only there where it is true."""
        values = {"layers": [self.first, self.last], "choice": self.choice}
        rare = {
            "pooled": self.is_pooled,
            "embedded": self.is_embedded,
            "zero_filters": self.is_narrow,
        }
        return values | {name: True for name, is_so in rare.items() if is_so}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RecordedUnit:
        """The inverse."""
        first, last = map(int, values["layers"])
        rare = (values.get(name) is True for name in ("pooled", "embedded", "zero_filters"))
        return cls(first, last, str(values["choice"]), *rare)


@dataclass(frozen=True)
class RecordedPlan:
    """A plan of the model and the target of these names, for so many threads."""

    model: str
    target: str
    threads: int
    bytes: int
    units: tuple[RecordedUnit, ...]


def plan_values(solution: Solution, fastest: int) -> dict[str, Any]:
    """Plain values for JSON; ``fastest`` is the fastest plan's cost."""
    return {
        "bytes": solution.bytes,
        "arena_bytes": solution.arena,
        "packed_bytes": solution.weights,
        "own_bytes": solution.own,
        "file_bytes": solution.file,
        "time": solution.cost / fastest if fastest else 1.0,
        "kernels": [RecordedUnit.of(*choice).to_dict() for choice in solution.chosen],
    }


def read_plan(path: Path, limit: int | None) -> RecordedPlan:
    """The fastest plan in a file, or the fastest within a limit in bytes.

    Raises
    ------
    OverLimit
        If all of them hold more.
    LeanconvError
        If the file cannot be read, or has no plans.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        plans = sorted(values["plans"], key=lambda plan: (plan["time"], plan["bytes"]))
        within = [plan for plan in plans if limit is None or plan["bytes"] <= limit]
        if plans and not within:
            least = min(plan["bytes"] for plan in plans)
            raise OverLimit(
                f"{limit} bytes are too few for the plans of {path}: the least are {least}"
            )
        units = tuple(map(RecordedUnit.from_dict, within[0]["kernels"]))
        names, threads = (str(values["model"]), str(values["target"])), int(values["threads"])
        return RecordedPlan(*names, threads, int(within[0]["bytes"]), units)
    except OSError as error:
        raise LeanconvError(f"plan {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, LookupError, AttributeError):
        raise LeanconvError(f"{path} has no plans as `tvmc plan --json` writes them") from None
