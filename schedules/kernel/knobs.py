"""Named choices that a schedule leaves open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

#: Values of the knobs of one kernel, by name.
Knobs = Mapping[str, Any]
#: None of them set.
NO_KNOBS: Knobs = MappingProxyType({})


def always(*values: Any) -> bool:
    """For :attr:`Knob.tried`: a search tries every value."""
    del values
    return True


def never(*values: Any) -> bool:
    """For :attr:`Knob.tried`: a search tries none but the untuned one."""
    del values
    return False


@dataclass(frozen=True)
class Knob:
    """One named choice of a schedule, for one workload on one target.

    Parameters
    ----------
    name : str
        By which users, records and the schedule know it.
    choices : tuple
        Every value that the schedule can do: numbers or words.
    default
        A good one untuned.
    tried : callable
        Whether a search tries a value. It should not where it can be told beforehand that nothing
        is gained: of register tiles that spill, work for nothing, values that make the same kernel
        as others. The untuned choice is tried in any case.
    beside : tuple of str
        Other knobs that only make sense together with this one: a search changes all of them at
        once, and ``tried`` takes their values as well.
    feature : callable, optional
        The number as which a cost model sees a value, which should mean the same for every layer.
        By default a number is itself, and a word its place among the choices.
    """

    name: str
    choices: tuple[Any, ...]
    default: Any
    tried: Callable[..., bool] = always
    beside: tuple[str, ...] = ()
    feature: Callable[[Any], float] | None = None

    def number(self, value: Any) -> float:
        """``value`` as a cost model sees it."""
        if self.feature is not None:
            return self.feature(value)
        return float(self.choices.index(value) if isinstance(value, str) else value)


def by_name(*knobs: Knob) -> dict[str, Knob]:
    """``knobs`` as an algorithm tells them."""
    return {knob.name: knob for knob in knobs}
