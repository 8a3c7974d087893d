"""Tune the tasks of a model: propose, measure, record, learn, until the trials are used up.

Trials are shared out by :mod:`schedules.tuning.budget`, a batch at a time. At the end the fastest
candidates of each task and its untuned default run once more side by side with many samples (the
play-off): among hundreds of short measurements the best one is partly luck.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import tvm

from schedules.algorithms import Unsupported
from schedules.layer.block import Workload
from schedules.plan.choice import Choice
from schedules.plan.planner import NO_LIMITS, Limits
from schedules.target.simd import Simd
from schedules.tuning.boards.base import BoardLost
from schedules.tuning.budget import TaskProgress, next_task
from schedules.tuning.measure.measure import Measurement, Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.completion import completed
from schedules.tuning.records.records import MEASURED, Log, Logs, Record, ranked
from schedules.tuning.records.task import Task, tuning_target
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.proposals import Search
from schedules.tuning.search.search import make_search
from schedules.tuning.search.space import Space

#: Candidates that are measured side by side on one board.
BATCH = 8
#: Candidates of a play-off, besides the untuned default.
FINALISTS = 3
#: And their samples.
FINAL_SAMPLES = 20
#: The model learns anew when it has seen so much more.
NEW_SHARE = 0.1


@dataclass(frozen=True)
class Options:
    """How to tune.

    Parameters
    ----------
    trials : int
        Candidates to try, over all tasks; those in the log count.
    tuner : {"xgb", "ga", "random", "gridsearch"}
        How they are chosen.
    early_stopping : int
        Trials without gain after which a task is left alone.
    seed : int
        Of everything that is random.
    limits : Limits
        What no candidate may exceed.
    """

    trials: int = 1000
    tuner: str = "xgb"
    early_stopping: int = 64
    seed: int = 0
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class Status:
    """Where tuning stands, for a display.

    Parameters
    ----------
    phase : {"trials", "play-off"}
    workload : Conv2dWorkload or Block
        What was measured last.
    best, untuned : Record or None
        Its best trial, and that of its untuned default.
    trials, of_trials, errors : int
        Of all tasks.
    tuned_s, untuned_s : float
        The layers of the models that were tried so far, one after the other.
    boards : int
        Boards that answer.
    seconds, seconds_left : float
        Since the start, and expected.
    """

    phase: str
    workload: Workload
    best: Record | None
    untuned: Record | None
    trials: int
    of_trials: int
    errors: int
    tuned_s: float
    untuned_s: float
    boards: int
    seconds: float
    seconds_left: float


Notify = Callable[[Status], None]


class Tuner:
    """Tunes ``tasks``, and appends one record a trial to ``log``.

    Parameters
    ----------
    tasks : sequence of Task
    simd : Simd
        What to compile for.
    measurer : Measurer
    log : Log or Logs
        Where records go; ``board`` is the board's name in them.
    known : sequence of Record
        What was recorded for this target before: of these tasks, what counts as tried; of others,
        what the model learns from.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        simd: Simd,
        measurer: Measurer,
        log: Log | Logs,
        board: str,
        known: Sequence[Record] = (),
        options: Options = Options(),
        notify: Notify | None = None,
    ) -> None:
        self.simd, self.measurer, self.log, self.board = simd, measurer, log, board
        self.options, self.notify = options, notify or (lambda _status: None)
        self.records = completed((record for record in known if not record.is_lost), simd)
        self.model = CostModel(simd, options.seed)
        self._learnt = 0
        self._spaces: dict[Workload, Space] = {}
        self._searches: dict[Workload, Search] = {}
        self.progress: list[TaskProgress] = []
        for task in tasks:
            try:
                space = Space(task.workload, simd, options.limits)
            except Unsupported:
                continue  # nothing serves it within the limits
            self._spaces[task.workload] = space
            importance = task.count * space.plan(space.default).cost
            own = [record for record in self.records if record.workload == task.workload]
            self.progress.append(TaskProgress(task, importance, own))
        self._started = time.monotonic()
        self._trials_before = self.trials

    @property
    def trials(self) -> int:
        """Candidates that were tried, over all tasks."""
        return sum(state.trials for state in self.progress)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def run(self) -> None:
        """Use up the trials, then decide between the leaders of every task.

        Raises
        ------
        LeanconvError
            If the board is lost for good or the log cannot be written; what was measured is kept.
        """
        while self.trials < self.options.trials:
            state = next_task(self.progress, self.options.early_stopping)
            if state is None:
                break
            self._learn()
            count = min(
                BATCH * max(self.measurer.runner.boards(), 1), self.options.trials - self.trials
            )
            candidates = self._search(state).propose(count)
            if not candidates:
                state.exhausted = True
                continue
            fresh = self.measure(state.task.workload, candidates)
            state.records += fresh
            self._search(state).update(fresh)
            self._tell("trials", state)
        for state in self.progress:
            finalists = self._finalists(state)
            if len(finalists) > 1:
                state.records += self.measure(state.task.workload, finalists, FINAL_SAMPLES)
                self._tell("play-off", state)

    def measure(
        self, workload: Workload, candidates: Sequence[Choice], repeat: int | None = None
    ) -> list[Record]:
        """Measure side by side, ``repeat`` samples of each, and append to the log."""
        settings = self.measurer.settings
        if repeat is not None:
            settings = replace(settings, repeat=repeat)
        records = []
        for outcome in self._outcomes(workload, candidates, settings):
            record = self.record(workload, outcome)
            self.log.append(record)
            records.append(record)
        self.records += records
        return records

    # One batch

    def _search(self, state: TaskProgress) -> Search:
        workload = state.task.workload
        if workload not in self._searches:
            space = self._spaces[workload]
            search = make_search(self.options.tuner, space, self.options.seed, self.model)
            search.update(state.records)
            self._searches[workload] = search
        return self._searches[workload]

    def _learn(self) -> None:
        if self.options.tuner == "xgb" and len(self.records) > (1 + NEW_SHARE) * self._learnt:
            self.model.fit(self.records)
            self._learnt = len(self.records)

    def _outcomes(
        self, workload: Workload, candidates: Sequence[Choice], settings: Settings
    ) -> Iterator[Measurement]:
        """Measured together; if a board was lost over them, one by one, to find the culprit."""
        try:
            yield from self.measurer.measure(workload, candidates, settings)
            return
        except BoardLost:
            if self.measurer.runner.boards() == 0:
                raise
        for candidate in candidates:
            try:
                yield from self.measurer.measure(workload, [candidate], settings)
            except BoardLost:
                if self.measurer.runner.boards() == 0:
                    raise
                yield Measurement(candidate, (), "the board stopped answering")

    def record(self, workload: Workload, outcome: Measurement) -> Record:
        """What is written down of an outcome, as of now."""
        samples = outcome.samples_s if outcome.error is None else ()
        costs = (min(samples), statistics.median(samples), max(samples)) if samples else ()
        return Record(
            workload=workload,
            candidate=outcome.candidate,
            costs_s=costs,
            samples=len(samples),
            error=outcome.error,
            target=tuning_target(self.simd),
            board=self.board,
            cost_kind=outcome.cost_kind,
            tvm=tvm.__version__,
            timestamp=int(time.time()),
        )

    # The play-off

    def _finalists(self, state: TaskProgress) -> list[Choice]:
        """The fastest candidates and the default, unless it was decided between them before."""
        by_cost = sorted(
            (record for record in state.records if record.error is None),
            key=lambda record: record.cost_s,
        )
        leaders = list(dict.fromkeys(record.candidate for record in by_cost))[:FINALISTS]
        decided = {
            record.candidate
            for record in state.records
            if record.samples >= FINAL_SAMPLES or record.cost_kind != MEASURED
        }
        if not leaders or set(leaders) <= decided:
            return []
        return list(dict.fromkeys([*leaders, self._spaces[state.task.workload].default]))

    # What is told

    def _tell(self, phase: str, state: TaskProgress) -> None:
        seconds = self.seconds
        done = self.trials - self._trials_before
        left = (self.options.trials - self.trials) * seconds / done if done else float("nan")
        layers = [other for other in self.progress if not other.task.is_block]
        results = [(o.task.count, self.tuned(o), self.untuned(o)) for o in layers]
        pairs = [(count, best, base) for count, best, base in results if best and base]
        self.notify(
            Status(
                phase=phase,
                workload=state.task.workload,
                best=self.tuned(state),
                untuned=self.untuned(state),
                trials=self.trials,
                of_trials=self.options.trials,
                errors=sum(other.errors for other in self.progress),
                tuned_s=sum(count * best.cost_s for count, best, _ in pairs),
                untuned_s=sum(count * base.cost_s for count, _, base in pairs),
                boards=self.measurer.runner.boards(),
                seconds=seconds,
                seconds_left=left if phase == "trials" else float("nan"),
            )
        )

    def untuned(self, state: TaskProgress) -> Record | None:
        """What is believed of the task's untuned default."""
        workload = state.task.workload
        default = self._spaces[workload].default
        own = ranked(state.records, workload)
        return next((record for record in own if record.candidate == default), None)

    def tuned(self, state: TaskProgress) -> Record | None:
        """The task's best record."""
        return next(iter(ranked(state.records, state.task.workload)), None)
