"""Named choices that a schedule leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

#: Values of the knobs of one kernel, by name.
Knobs = Mapping[str, Any]
#: None of them set.
NO_KNOBS: Knobs = MappingProxyType({})


@dataclass(frozen=True)
class Knob:
    """One named choice of a schedule: the values worth trying, and a good one untuned."""

    choices: tuple[Any, ...]
    default: Any
