"""Which values of an algorithm's knobs are tried, and which of them together.

A knob's choices are all that a schedule can do; its rule leaves out what is not worth building. The
untuned default is never left out.

An *axis* is a list of values for one knob, or for several that only make sense together; the
candidates of an algorithm are the product of its axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedules.kernel.knobs import Knob, Knobs


@dataclass(frozen=True)
class Axis:
    """Values that the knobs ``names`` take together."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


def axes(knobs: Mapping[str, Knob], untuned: Sequence[Knobs]) -> list[Axis]:
    """The axes of an algorithm, those of several knobs first.

    Parameters
    ----------
    knobs
        The algorithm's, for the workload at hand.
    untuned
        The defaults of its forms.
    """
    found = [_axis(knob, knobs, untuned) for knob in knobs.values()]
    led = {name for axis in found for name in axis.names[1:]}
    own = [axis for axis in found if axis.names[0] not in led]
    return sorted(own, key=lambda axis: len(axis.names) == 1)


def _axis(knob: Knob, knobs: Mapping[str, Knob], untuned: Sequence[Knobs]) -> Axis:
    names = (knob.name, *knob.beside)
    choices = itertools.product(*(knobs[name].choices for name in names))
    values = {values for values in choices if knob.tried(*values)}
    values |= {tuple(start[name] for name in names) for start in untuned}
    return Axis(names, tuple(sorted(values)))
