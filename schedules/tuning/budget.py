"""Which task the next trials go to: the one by which the whole model can gain most time.

Tuning a task is worth as much as its share of the model's time and as it still improves. The gain
that a further trial promises is taken, as in Zheng et al., "Ansor" (OSDI 2020, section 6), to be
the mean of two guesses: that the task goes on improving as it did lately, and that what is left to
find is in proportion to one over the trials that it had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schedules.layer.block import Workload
from schedules.tuning.records.records import Record
from schedules.tuning.records.task import Task

#: Part of a task's time that its first trial is expected to save.
OPTIMISM = 0.2
#: Trials that count as late.
WINDOW = 16
#: A block that takes so many times as long as its layers is given up.
HOPELESS = 1.15


@dataclass
class TaskProgress:
    """What is known of one task.

    Parameters
    ----------
    task : Task
    importance : float
        In which order tasks without a trial come: the most important first.
    records : list of Record
        Of its trials, in their order; failed ones too.
    exhausted : bool
        Whether there is nothing left to try.
    """

    task: Task
    importance: float = 1.0
    records: list[Record] = field(default_factory=list)
    exhausted: bool = False

    @property
    def trials(self) -> int:
        """Candidates that were tried."""
        return len({record.candidate for record in self.records})

    @property
    def errors(self) -> int:
        """Trials that failed."""
        return sum(record.error is not None for record in self.records)

    @property
    def best_s(self) -> float:
        """Seconds of the fastest trial; infinite before there is one."""
        return min((record.cost_s for record in self.records), default=math.inf)

    def best_before(self, trials: int) -> float:
        """The same without the last ``trials``."""
        earlier = self.records[: max(len(self.records) - trials, 0)]
        return min((record.cost_s for record in earlier), default=math.inf)

    def trials_without_gain(self) -> int:
        """Trials since the fastest one."""
        costs = [record.cost_s for record in self.records]
        return len(costs) - 1 - costs.index(min(costs)) if costs else 0

    def promised_gain(self) -> float:
        """Seconds of the model that one more trial is expected to save."""
        trials, best = len(self.records), self.best_s
        if best == math.inf:
            return best if trials == 0 else 0.0
        before = self.best_before(WINDOW)
        slope = 0.0 if before == math.inf else (before - best) / WINDOW
        return self.task.count * (slope + OPTIMISM * best / trials) / 2


def next_task(progress: Sequence[TaskProgress], early_stopping: int) -> TaskProgress | None:
    """The task to go on with, or ``None`` if all are done.

    Those without a trial come first, by importance. A task is done when it is exhausted, when
    ``early_stopping`` trials brought nothing, or when it is a block that its layers outdo.
    """
    best = {state.task.workload: state.best_s for state in progress}
    open_tasks = [
        state
        for state in progress
        if not state.exhausted
        and state.trials_without_gain() < early_stopping
        and not _outdone(state, best)
    ]
    new = [state for state in open_tasks if not state.records]
    if new:
        return max(new, key=lambda state: state.importance)
    return max(open_tasks, key=TaskProgress.promised_gain, default=None)


def _outdone(state: TaskProgress, best: Mapping[Workload, float]) -> bool:
    """Whether a block is far slower than one kernel for each of its layers."""
    if not state.task.is_block or not state.records:
        return False
    layers = sum(best.get(layer, math.inf) for layer in state.task.workload.layers)
    return state.best_s > HOPELESS * layers
