"""What to compile for a layer or block, given what was measured on the target before.

A workload that has records gets the best of its candidates that the user's limits allow; a layer
that has none, what the records of other layers promise (:mod:`transfer`), if that is credible.
Records by which a whole network was slower do not count any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from schedules.errors import LeanconvError
from schedules.plan.plan import Plan
from schedules.plan.planner import Limits, default_limits, exceeded
from schedules.target.simd import Simd
from schedules.tuning.records.completion import completed
from schedules.tuning.records.records import (
    LOST,
    MODELLED,
    Record,
    by_workload,
    current,
    of_target,
    ranked,
)
from schedules.tuning.records.task import tuning_target
from schedules.tuning.search.search import make_search
from schedules.tuning.search.space import Space
from schedules.tuning.transfer import Transfer

#: Where a plan comes from: records of the workload; those of others; or the planner alone.
TUNED, TRANSFERRED, DEFAULT = "tuned", "transferred", "default"

#: Part of the untuned choice's time that another has to save. A network is not the program that
#: measured: with gains of up to 3 % of single layers, networks were as often slower as faster.
MIN_SAVING = 0.04

#: Candidates that a model ranks: the default of each form, what evolves from them, random ones.
CANDIDATES = 500
SEED = 0

#: Whether a plan may be compiled at all.
Accept = Callable[[Plan], bool]


@dataclass(frozen=True)
class Advice:
    """A plan to compile.

    Parameters
    ----------
    default : Plan
        What is compiled without records.
    source : {"tuned", "transferred", "default"} or None
        Where it comes from; ``None`` if there are no records at all.
    seconds : float or None
        Recorded time of one image, all groups of a layer included, if the plan was measured.
    """

    plan: Plan
    default: Plan
    source: str | None = None
    seconds: float | None = None

    def because(self, why: str) -> Advice:
        """The same plan, chosen over others for another reason."""
        told = f"{why}; {self.plan.why}" if self.source == TUNED else why
        return replace(self, plan=replace(self.plan, why=told))


class Advisor:
    """Answers from the records of one board.

    Parameters
    ----------
    records : sequence of Record
        Those for other targets are left out.
    limits : Limits
        What no plan may exceed.
    transfer : Transfer, optional
        What was learned from these records; by default that is done when it is needed.

    Raises
    ------
    LeanconvError
        If no record is for ``simd``, or they are of several boards, whose times say nothing about
        each other.
    """

    def __init__(
        self,
        records: Sequence[Record],
        simd: Simd,
        limits: Limits,
        transfer: Transfer | None = None,
    ) -> None:
        self._simd, self._limits = simd, limits
        if transfer is not None:
            self._transfer = transfer  # instead of the cached property
        own = for_target(records, simd, "what was given")
        sources = list(dict.fromkeys((record.board, record.cost_kind) for record in own))
        if len(sources) > 1:
            names = ", ".join(f"{board} ({kind})" for board, kind in sources)
            raise LeanconvError(
                f"the records for {tuning_target(simd)} are of {len(sources)} boards, {names}: "
                "give those of one"
            )
        #: Where the times are from, and how they came about.
        self.board, self.cost_kind = sources[0]
        self._left_out: dict[Record, str] = {}
        self._trials = by_workload(own)

    @property
    def warnings(self) -> list[str]:
        """A line for each reason why records could not be used."""
        reasons = Counter(self._left_out.values())
        return [
            f"{count} record{'s'[: count > 1]} left out: {why}" for why, count in reasons.items()
        ]

    def advise(self, default: Plan, accept: Accept) -> Advice:
        """What to compile instead of ``default``, if anything."""
        trials = self._trials.get(default.workload, ())
        if trials and not current(trials):
            return Advice(default, default, DEFAULT).because(f"untuned: {LOST}")
        return (
            self._tuned(default, accept)
            or self._transferred(default, accept)
            or Advice(default, default, DEFAULT)
        )

    # Records of the workload

    def _tuned(self, default: Plan, accept: Accept) -> Advice | None:
        """The best plan on record that is allowed."""
        workload = default.workload
        own = completed(current(self._trials.get(workload, ())), self._simd)
        trials = ranked(own, workload)
        limits = self._limits_for(default)
        # The untuned choice is measured as often as the best, which says nothing of its rank.
        untuned = next((record for record in trials if record.candidate == default.choice), None)
        others = (record for record in trials if record is not untuned)
        best = self._first_allowed([untuned] if untuned else [], limits, accept)
        found = self._first_allowed(others, limits, accept)
        if found and (best is None or found[0].cost_s < (1 - MIN_SAVING) * best[0].cost_s):
            best = found
        if best is None:
            return None
        record, plan = best
        why = _why(record, untuned, plan.calls)
        return Advice(replace(plan, why=why), default, TUNED, plan.calls * record.cost_s)

    def _first_allowed(
        self, records: Iterable[Record], limits: Limits, accept: Accept
    ) -> tuple[Record, Plan] | None:
        for record in records:
            plan = self._replay(record)
            if plan is not None and exceeded(plan, limits) is None and accept(plan):
                return record, plan
        return None

    def _replay(self, record: Record) -> Plan | None:
        try:
            return Plan.of(record.candidate, record.workload, self._simd)
        except LeanconvError as error:  # of another version: an algorithm or knob that is gone
            self._left_out[record] = str(error)
            return None

    # Records of others

    def _transferred(self, default: Plan, accept: Accept) -> Advice | None:
        """The plan that promises most, of those that nothing is known of.

        None for a block, to which records of others do not carry over.
        """
        if len(default.layers) > 1 or self._transfer is None:
            return None
        space = Space(default.workload, self._simd, self._limits_for(default))
        known = {record.candidate for record in self._trials.get(default.workload, ())}
        search = make_search("xgb", space, SEED, self._transfer.model)
        proposals = (c for c in search.propose(CANDIDATES) if c not in known)
        plans = [plan for plan in map(space.plan, proposals) if accept(plan)]
        found = self._transfer.best(default, plans)
        if found is None:
            return None
        plan, promise = found
        why = f"{TRANSFERRED}: {promise:.2f} of the untuned time by the records of other layers"
        return Advice(replace(plan, why=why), default, TRANSFERRED)

    @cached_property
    def _transfer(self) -> Transfer | None:
        trials = (record for own in self._trials.values() for record in own)
        usable = [record for record in trials if self._replay(record) is not None]
        return Transfer.learn(completed(usable, self._simd), self._simd)

    def _limits_for(self, default: Plan) -> Limits:
        """The planner's, or what a plan that was asked for by name takes anyway."""
        limits = default_limits(default.workload, self._limits)
        if limits.error is None or self._limits.error is not None:
            return limits
        return replace(limits, error=max(limits.error, default.expected_error))


def for_target(records: Sequence[Record], simd: Simd, where: str) -> list[Record]:
    """Those of ``records`` that are for ``simd``.

    Raises
    ------
    LeanconvError
        If there are none; it says for which targets those in ``where`` are.
    """
    target = tuning_target(simd)
    own = of_target(records, target)
    if not own:
        found = "; ".join(sorted({record.target for record in records})) or "nothing"
        asked = target if simd.mcpu in simd.name else f"{target}, as {simd.name} is compiled"
        raise LeanconvError(f"{where} has no records for {asked}, but for {found}")
    return own


def _why(record: Record, untuned: Record | None, calls: int) -> str:
    how = "modelled for" if record.cost_kind == MODELLED else "on"
    text = f"{TUNED}: {_milliseconds(record, calls)} {how} {record.board}"
    if untuned is None:
        return text
    if untuned.candidate == record.candidate:
        return f"{text}, the untuned choice"
    return f"{text} ({_milliseconds(untuned, calls)} untuned)"


def _milliseconds(record: Record, calls: int) -> str:
    return f"{calls * record.cost_s * 1e3:.4g} ms"
