"""A network as the budget's solver sees it: units of layers, and what each of their forms costs.

A *unit* is a run of layers that one kernel computes: a layer by itself, or a chain. A *form* of it
is an algorithm with its knobs. While a unit runs, the arena holds the tensors that are alive then
and the form's workspace. The weights that a form packs stay on the heap all the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from schedules.layer.network import Chain
from schedules.plan.plan import Plan


@dataclass(frozen=True)
class Form:
    """One way to compute a unit.

    Parameters
    ----------
    cost : int
        Time of the whole unit, in picoseconds: sums of integers are exact.
    workspace : int
        Bytes of the arena while it runs, of all threads.
    weights : int
        Bytes that it keeps on the heap; what is read where the model has it takes none.
    file : int
        Bytes that it reads where files have them.
    plan : Plan or None
        What to compile; ``None`` if the layer is left to the runtime.
    is_embedded : bool
        Whether what it packs is data of the library.
    is_narrow : bool
        Whether the kernel computes not all filters: :mod:`schedules.plan.filters`.
    """

    cost: int
    workspace: int
    weights: int
    file: int = 0
    is_embedded: bool = False
    plan: Plan | None = field(default=None, compare=False)
    is_narrow: bool = False

    @property
    def overwrites(self) -> str | None:
        """What its output may lie in the place of, as :attr:`Plan.overwrites` says."""
        return self.plan.overwrites if self.plan else None


@dataclass(frozen=True)
class Unit:
    """Layers ``first`` to ``last`` of a network, in its order, by one kernel.

    Parameters
    ----------
    live : int
        Bytes of tensors that the arena holds while it runs. They are not the same for those of its
        forms whose output lies in the place of something, which make a unit of their own.
    forms : tuple of Form
        What computes it.
    around : int
        The most bytes of tensors while what follows runs that another unit of the same layers does
        as well: a pool.
    is_pooled : bool
        Whether it is that unit.
    """

    first: int
    last: int
    live: int
    forms: tuple[Form, ...]
    around: int = 0
    is_pooled: bool = False

    @cached_property
    def chain(self) -> Chain:
        """The positions of its layers."""
        return tuple(range(self.first, self.last + 1))

    def need(self, form: Form) -> int:
        """Bytes of the arena while it runs by one of its forms, and what follows."""
        return max(self.live + form.workspace, self.around)


@dataclass(frozen=True)
class Problem:
    """What to choose: units that cover every layer once, and a form of each.

    Parameters
    ----------
    layers : int
        Layers of the network.
    units : tuple of Unit
        Every layer is in at least one.
    floor : int
        The most bytes of tensors while what is in no unit runs.
    """

    layers: int
    units: tuple[Unit, ...]
    floor: int = 0

    def on_heap(self) -> Problem:
        """The same without forms that have packed weights in the library."""
        units = (
            replace(unit, forms=tuple(form for form in unit.forms if not form.is_embedded))
            for unit in self.units
        )
        return replace(self, units=tuple(units))


@dataclass(frozen=True)
class Solution:
    """A form for each of the units that compute a network.

    ``cost`` is as in :class:`Form`, ``arena`` the most bytes of tensors and workspace at once,
    ``weights`` those of packed weights on the heap, ``file`` those in files. ``own`` is as
    :attr:`Network.own_bytes`, of which the solver knows nothing: they are the same in every plan.
    """

    cost: int
    arena: int
    weights: int
    file: int
    chosen: tuple[tuple[Unit, Form], ...]
    own: int = 0

    @property
    def bytes(self) -> int:
        """All that is held."""
        return self.arena + self.weights + self.own


def undominated(forms: Iterable[Form]) -> tuple[Form, ...]:
    """The forms that no other beats in time and all kinds of bytes, the fastest first."""
    kept: list[Form] = []
    for form in sorted(forms, key=lambda f: (f.cost, f.workspace, f.weights, f.file)):
        if not any(
            f.workspace <= form.workspace and f.weights <= form.weights and f.file <= form.file
            for f in kept
        ):
            kept.append(form)
    return tuple(kept)
