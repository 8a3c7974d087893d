"""Trials go where the whole model gains most."""

from __future__ import annotations

from dataclasses import replace

from schedules.layer.block import workload_from_text
from schedules.plan.choice import Choice
from schedules.tuning.budget import TaskProgress, next_task
from schedules.tuning.records.records import MEASURED, Record
from schedules.tuning.records.task import Task

LAYERS = [workload_from_text(f"{size}x{size}x8->8 k1x1") for size in (7, 14, 28)]
BLOCK = workload_from_text("7x7x8->8 k3x3 p1,1,1,1 g8 | 7x7x8->8 k1x1")


def state(workload, costs, count=1, importance=1.0):  # type: ignore[no-untyped-def]
    """A task with one record of each of these costs."""
    record = Record(
        workload, Choice("indirect", ()), (1, 1, 1), 5, None, "t", "b", MEASURED, "0", 0
    )
    records = [
        replace(record, candidate=Choice("indirect", (("columns", i),)), costs_s=(c, c, c))
        for i, c in enumerate(costs)
    ]
    return TaskProgress(Task(workload, count), importance, records)


def pick(*states, early_stopping=64):  # type: ignore[no-untyped-def]
    return next_task(states, early_stopping)


def test_every_task_has_a_turn_the_important_first() -> None:
    first, second = state(LAYERS[0], [], importance=1.0), state(LAYERS[1], [1.0], importance=9.0)
    third = state(LAYERS[2], [], importance=2.0)
    assert pick(first, second, third) is third


def test_time_that_is_left_decides() -> None:
    short, long = state(LAYERS[0], [1.0] * 8), state(LAYERS[1], [5.0] * 8)
    assert pick(short, long) is long
    often = state(LAYERS[0], [1.0] * 8, count=10)
    assert pick(often, long) is often


def test_what_improves_is_gone_on_with() -> None:
    flat = state(LAYERS[0], [1.0] * 32)
    falling = state(LAYERS[1], [2.0] * 16 + [2.0 - 0.06 * i for i in range(16)])
    assert falling.best_s > flat.best_s
    assert pick(flat, falling) is falling
    # Each batch promises less than the one before.
    assert state(LAYERS[0], [1.0] * 64).promised_gain() < flat.promised_gain()


def test_done_tasks_are_left_alone() -> None:
    stuck = state(LAYERS[0], [1.0] + [2.0] * 20)
    assert pick(stuck, early_stopping=64) is stuck
    assert pick(stuck, early_stopping=20) is None
    exhausted = replace(state(LAYERS[1], [1.0]), exhausted=True)
    assert pick(exhausted) is None
    failed = state(LAYERS[0], [])
    failed.records = [replace(r, costs_s=(), error="crashed") for r in stuck.records]
    assert pick(failed, stuck) is stuck


def test_blocks_that_their_layers_outdo_are_given_up() -> None:
    layers = [state(layer, [1.0] * 8) for layer in BLOCK.layers]
    assert pick(state(BLOCK, [20.0]), *layers) is not None
    slow, fast = state(BLOCK, [3.0]), state(BLOCK, [2.2])
    assert pick(slow, *layers) in layers
    assert pick(fast, *layers) is fast
