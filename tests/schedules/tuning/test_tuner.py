"""The tuner against a board whose costs are known: budget, records, resuming, lost boards."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schedules.layer.block import Workload, workload_from_text
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.tuning.boards.base import BoardLost
from schedules.tuning.measure.measure import Measurement
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.records import Log, best, load
from schedules.tuning.records.task import Task
from schedules.tuning.tuner import FINAL_SAMPLES, Options, Status, Tuner

SIMD = Simd.named("x86-64-v4")
LAYER = workload_from_text("14x14x16->32 k3x3 p1,1,1,1 relu")
OTHER = workload_from_text("7x7x32->64 k1x1")
TASKS = [Task(LAYER, 3), Task(OTHER, 1)]


class FakeRunner:
    """One board, which can be away."""

    def __init__(self) -> None:
        self.answers = 1

    def boards(self) -> int:
        return self.answers


class FakeMeasurer:
    """Costs that follow from the candidate alone, with a spread that does not change the order."""

    def __init__(self) -> None:
        self.runner = FakeRunner()
        self.settings = Settings(repeat=3)
        self.measured: list[tuple[Workload, Choice]] = []

    @staticmethod
    def cost(workload: Workload, candidate: Choice) -> float:
        """Between half of the planner's model and one and a half times it, in nanoseconds."""
        digest = hashlib.sha256(f"{workload.to_text()} {candidate}".encode()).digest()
        return Plan.of(candidate, workload, SIMD).cost * 1e-9 * (0.5 + digest[0] / 255)

    def measure(
        self, workload: Workload, candidates: Sequence[Choice], settings: Settings | None = None
    ) -> list[Measurement]:
        outcomes = []
        for candidate in candidates:
            self.measured.append((workload, candidate))
            cost = self.cost(workload, candidate)
            samples = tuple(
                cost * (1 + i / 1000) for i in range((settings or self.settings).repeat)
            )
            outcomes.append(Measurement(candidate, samples, None))
        return outcomes


def tune(folder: Path, measurer: FakeMeasurer, **options):  # type: ignore[no-untyped-def]
    log = Log(folder, "float32")
    known = load(folder) if (folder / "float32.jsonl").exists() else []
    statuses: list[Status] = []
    machine: Any = measurer
    tuner = Tuner(
        TASKS,
        SIMD,
        machine,
        log,
        "fake",
        known,
        Options(**options),
        statuses.append,
    )
    tuner.run()
    return tuner, statuses


@pytest.mark.parametrize("name", ["xgb", "ga", "random", "gridsearch"])
def test_uses_up_the_trials_and_finds_something_faster(tmp_path: Path, name: str) -> None:
    measurer = FakeMeasurer()
    tuner, statuses = tune(tmp_path, measurer, trials=60, tuner=name)
    records = load(tmp_path)
    trials = [r for r in records if r.samples < FINAL_SAMPLES]
    assert len(trials) == len({(r.workload, r.candidate) for r in trials}) == 60 == tuner.trials
    for state in tuner.progress:
        chosen, untuned = tuner.tuned(state), tuner.untuned(state)
        assert chosen is not None and untuned is not None
        assert chosen.samples == FINAL_SAMPLES
        assert chosen == best(records)[state.task.workload]
        assert chosen.cost_s <= untuned.cost_s
        own = [r for r in trials if r.workload == state.task.workload]
        assert chosen.candidate == min(own, key=lambda r: r.cost_s).candidate
    assert statuses[-1].phase == "play-off"
    assert statuses[-1].tuned_s < statuses[-1].untuned_s
    assert all(s.trials <= s.of_trials == 60 for s in statuses)


def test_the_same_seed_repeats(tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        measurer = FakeMeasurer()
        tune(tmp_path / name, measurer, trials=40, seed=seed)
        runs.append(measurer.measured)
    assert runs[0] == runs[1] != runs[2]


def test_resumes_without_repeating(tmp_path: Path) -> None:
    tune(tmp_path, FakeMeasurer(), trials=30)
    before = len(load(tmp_path))
    # As a process that was killed leaves it: the last line is torn.
    path = tmp_path / "float32.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = FakeMeasurer()
    tuner, _ = tune(tmp_path, again, trials=50)
    assert tuner.trials == 50
    records = load(tmp_path)
    trials = [(r.workload, r.candidate) for r in records if r.samples < FINAL_SAMPLES]
    assert len(trials) == len(set(trials)) == 50
    assert len(records) >= before
    finished = FakeMeasurer()
    tune(tmp_path, finished, trials=50)
    assert not finished.measured  # and what is decided is not measured again


def test_a_lost_board_ends_tuning_and_nothing_is_lost(tmp_path: Path) -> None:
    class Dying(FakeMeasurer):
        def measure(self, *arguments, **options):  # type: ignore[no-untyped-def]
            if len(self.measured) >= 16:
                self.runner.answers = 0
                raise BoardLost("no board answers")
            return super().measure(*arguments, **options)

    with pytest.raises(BoardLost, match="no board answers"):
        tune(tmp_path, Dying(), trials=60)
    assert len(load(tmp_path)) == 16


def test_a_candidate_that_takes_the_board_down_is_found(tmp_path: Path) -> None:
    culprits: list[Choice] = []

    class Fragile(FakeMeasurer):
        def measure(self, workload, candidates, settings=None):  # type: ignore[no-untyped-def]
            bad = [c for c in candidates if c.knobs.get("columns") == 5]
            if bad:
                culprits.extend(bad if len(candidates) == 1 else [])
                raise BoardLost("the board rebooted")
            return super().measure(workload, candidates, settings)

    tune(tmp_path, Fragile(), trials=40, tuner="random")
    records = load(tmp_path)
    failed = [r for r in records if r.error]
    assert failed and {r.candidate for r in failed} == set(culprits)
    assert {r.error for r in failed} == {"the board stopped answering"}
    assert all(r.candidate.knobs.get("columns") == 5 and math.isinf(r.cost_s) for r in failed)


def test_a_budget_below_the_number_of_tasks(tmp_path: Path) -> None:
    tuner, _ = tune(tmp_path, FakeMeasurer(), trials=1)
    assert [state.trials for state in tuner.progress] == [1, 0]  # the important one
    assert tuner.tuned(tuner.progress[1]) is None
