"""Choose the kernels of a .tflite model's delegate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schedules.budget.recorded import RecordedPlan
from schedules.errors import LeanconvError
from schedules.plan.choice import AUTO
from schedules.plan.planner import Limits
from schedules.select.objective import select_by
from schedules.select.selection import Selection
from schedules.select.within import select_within, selection_as_recorded
from schedules.target.simd import Simd
from schedules.tuning.records.records import Record
from tflite_delegate.read.model import Model
from tflite_delegate.targeted import OF_ONE_GRAPH, read_for


def select(
    model: Model | str | Path,
    simd: Simd,
    algorithms: Sequence[str],
    limits: Limits,
    objective: str = "time",
    records: Sequence[Record] = (),
    plan: RecordedPlan | None = None,
    smaller: Sequence[int] = (),
) -> tuple[Selection, ...]:
    """As :func:`schedules.select.objective.select_by`, for the graphs of a model or of its file.

    Or the kernels of a ``plan`` of its only graph; or, behind those within its limit, those within
    each ``smaller`` one.

    Raises
    ------
    LeanconvError
        If the model cannot be read, an option makes no sense, or there is nothing to compile.
    """
    if not isinstance(model, Model):
        model = read_for(model, simd)
    if plan is not None:
        if model.others:
            raise LeanconvError(f"--plan with a model of several graphs: {OF_ONE_GRAPH}")
        found: tuple[Selection, ...] = (selection_as_recorded(model, simd, plan),)
    elif not limits.of_network:
        found = select_by(model.graphs, simd, algorithms, limits, objective, records)
    else:
        _check_alone(model, limits, algorithms, objective, records)
        found = select_within(model, simd, limits, smaller)
    if not any(selection.kernels for selection in found):
        raise LeanconvError(_nothing_to_compile(model, found))
    return found


def _check_alone(
    model: Model,
    limits: Limits,
    algorithms: Sequence[str],
    objective: str,
    records: Sequence[Record],
) -> None:
    """Refuse what does not go together with a limit on all that a network holds."""
    option = "--memory-limit" if limits.held_bytes is not None else "--weights embedded"
    if option != "--memory-limit" and not limits.embeds:
        option = "--file-limit"
    if model.others:
        raise LeanconvError(f"{option} with a model of several graphs: {OF_ONE_GRAPH}")
    for given, what in (
        (tuple(algorithms) != (AUTO,), "--algorithm"),
        (objective != "time", "--objective"),
        (records, "--tuning-records"),
    ):
        if given:
            raise LeanconvError(f"{option} does not go with {what} yet")


def _nothing_to_compile(model: Model, selections: Sequence[Selection]) -> str:
    name = model.name
    layers = [layer for selection in selections for layer in selection.layers]
    if not layers:
        return f"{name} has no convolutions: there is nothing to compile"
    first = next((s for s in layers if s.layer.op == "CONV_2D"), layers[0])
    return (
        f"{name} has no convolution that leanconv can take: "
        f"node {first.layer.index}, {first.layer.op} {first.layer.geometry}: {first.reason}"
    )
