"""``tvmc plan``: every plan worth having, from the fewest bytes to the least time, as a table."""

from __future__ import annotations

import argparse
import gc
import itertools
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.errors import LeanconvError, OverLimit
from schedules.files import write_json
from schedules.put_off import put_tvm_off
from tvmc.command import (
    add_weight_options,
    at_least_one,
    byte_count,
    check_output,
    embedding,
    thread_count,
)
from tvmc.compiling.compile_command import PRECISIONS
from tvmc.planning.page import choice_name, write_page
from tvmc.tables import format_table
from tvmc.target_options import add_target_options, chosen_target
from tvmc.tuning.host_figures import host_figures

if TYPE_CHECKING:
    from schedules.budget.exact import Solver
    from schedules.budget.problem import Form, Problem, Solution
    from schedules.layer.network import Network
    from schedules.plan.planner import Limits
    from schedules.target.simd import Simd
    from schedules.tuning.records.calibration import Calibration

#: Rows of the table, where there are more plans.
POINTS = 20
#: And dots of the page's curve.
POINTS_OF_PAGE = 60


@dataclass(frozen=True)
class Curve:
    """The plans of a network that no other beats in bytes and time, the fewest bytes first."""

    network: Network
    simd: Simd
    limits: Limits
    problem: Problem
    solver: Solver
    solutions: Sequence[Solution]

    @property
    def target(self) -> str:
        """What it is for."""
        return self.simd.name

    @property
    def threads(self) -> int:
        """As many as it is for."""
        return self.limits.threads

    def refusal(self, limit: int) -> str:
        """Why nothing is within a limit."""
        from schedules.select.within import refusal  # as below

        limits = replace(self.limits, held_bytes=limit)
        return refusal(self.network, self.simd, self.problem, self.solutions, limits)

    def time(self, solution: Solution) -> float:
        """Modelled time, as a multiple of the fastest plan's."""
        return solution.cost / self.solutions[-1].cost if self.solutions[-1].cost else 1.0

    def within(self, limit: int) -> Solution | None:
        """The plan that ``tvmc compile --memory-limit`` takes."""
        from schedules.budget.promise import fastest_within  # imports TVM, which takes a second

        return fastest_within(self.network, self.solver, limit)

    @property
    def least_bytes(self) -> int:
        """The least that can be kept."""
        return self.solutions[0].bytes

    def up_to(self, size: float) -> Solution:
        """The fastest that needs at most so many bytes, no fewer than the least."""
        return [s for s in self.solutions if s.bytes <= max(size, self.solutions[0].bytes)][-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        from schedules.budget.recorded import plan_values  # as above

        return {
            "model": self.network.name,
            "target": self.target,
            "threads": self.threads,
            "plans": [plan_values(each, self.solutions[-1].cost) for each in self.solutions],
        }


def add_parser(commands: Any) -> None:
    """Add the command to those of ``tvmc``."""
    command = commands.add_parser(
        "plan",
        help="list what a model may hold in memory, and what that costs",
        usage="tvmc plan MODEL [options]",
        description="List the plans of a .tflite model that no other beats in bytes and time: "
        "tensors and workspace at once, packed weights, the delegate's own data, modelled time. "
        "Nothing is compiled.",
    )
    command.set_defaults(run=_plan)
    add = command.add_argument
    add("model", metavar="MODEL", type=Path, help="the .tflite file")
    add("--memory-limit", metavar="BYTES", type=byte_count,
        help="mark the plan that `tvmc compile --memory-limit BYTES` takes")  # fmt: skip
    add("--threads", metavar="N", type=thread_count, default=1,
        help="threads whose time and workspace count [%(default)s]")  # fmt: skip
    add_weight_options(command)
    add("--points", metavar="N", type=at_least_one, default=POINTS,
        help="rows of the table, where there are more plans [%(default)s]")  # fmt: skip
    add("--html", metavar="FILE", type=Path,
        help="write a page that shows them: curve, arena over time, every kernel")  # fmt: skip
    add("--json", metavar="FILE", type=Path, help="write every plan, with its kernels, as JSON")
    add("--precision", choices=PRECISIONS, help="as of `tvmc compile`")
    add_target_options(command)


def _plan(options: argparse.Namespace) -> None:
    put_tvm_off()
    gc.disable()  # half a million objects in a second, none of them garbage: a tenth of the time
    for path in filter(None, (options.json, options.html)):
        check_output(path, [options.model])
    if options.json is not None and options.json == options.html:
        raise LeanconvError(f"{options.json} cannot be both the page and the JSON")
    curve = plan(
        options.model,
        chosen_target(options),
        options.precision,
        options.threads,
        embeds=embedding(options.weights, options.memory_limit),
        file_limit=options.file_limit,
        memory_limit=options.memory_limit,
        figures=host_figures(),
    )
    if options.json is not None:
        write_json(options.json, curve.to_dict())
    limit = options.memory_limit
    kept = None if limit is None else curve.within(limit)
    if options.html is not None:
        shown = _spread(curve, max(options.points, POINTS_OF_PAGE), kept)
        chosen = kept or shown[-1 if limit is None else 0]
        fastest = curve.solutions[-1].cost
        write_page(
            options.html,
            curve.network,
            curve.target,
            shown,
            fastest,
            chosen,
            curve.threads,
            _compile_options(options),
        )
    print(table(curve, _spread(curve, options.points, kept), kept))
    if limit is not None and kept is None:
        raise OverLimit(curve.refusal(limit))


def _compile_options(options: argparse.Namespace) -> str:
    """Those of ``tvmc compile`` that make the plans the same."""
    given = {
        "--target": options.target,
        "--threads": options.threads if options.threads > 1 else None,
        "--weights": options.weights,
        "--file-limit": options.file_limit,
        "--precision": options.precision,
    }
    words = [(name, str(value)) for name, value in given.items() if value is not None]
    return shlex.join(itertools.chain(*words))


def plan(
    model: str | Path,
    target: str = "host",
    precision: str | None = None,
    threads: int = 1,
    *,
    embeds: bool | None = False,
    file_limit: int | None = None,
    memory_limit: int | None = None,
    figures: Callable[[Simd], Calibration | None] | None = None,
) -> Curve:
    """The plans of a .tflite model that no other beats, with the workspace of so many threads.

    ``precision`` is as of :func:`tvmc.compile`, ``figures`` as its ``host_figures``. Packed weights
    are data of the library if it ``embeds`` them, or if that is ``None`` and what is compiled for
    the ``memory_limit`` has them there; ``file_limit`` is one on bytes that are read from files.

    Raises
    ------
    LeanconvError
        If there are none.
    """
    from schedules.budget.forms import problem_of  # imports TVM, which takes a second
    from schedules.budget.promise import RESOLUTION, plans
    from schedules.plan.planner import Limits
    from schedules.select.within import fastest_of, file_refusal, solvers_of
    from schedules.target.simd import Simd
    from schedules.tuning.records.board_info import calibrated
    from tflite_delegate.targeted import OF_ONE_GRAPH, read_for

    simd = calibrated(Simd.named(target), [], figures)
    network = read_for(model, simd, precision=precision)
    if network.others:
        raise LeanconvError(f"{network.name} has {len(network.graphs)} graphs: {OF_ONE_GRAPH}")
    limits = Limits(threads=threads, embeds=embeds, file_bytes=file_limit)
    problem = problem_of(network, simd, limits)
    solvers = solvers_of(problem, limits)
    solver = solvers[0] if memory_limit is None else fastest_of(network, solvers, memory_limit)[0]
    solutions = plans(network, solver.curve(RESOLUTION))
    if not solutions and file_limit is not None:
        raise OverLimit(file_refusal(network, problem, file_limit))
    if not any(form.plan for solution in solutions for _, form in solution.chosen):
        raise LeanconvError(f"{network.name} has no convolution that leanconv can take")
    return Curve(network, simd, limits, problem, solver, solutions)


def table(curve: Curve, shown: Sequence[Solution], kept: Solution | None = None) -> str:
    """A row for each of the plans ``shown``; ``kept`` is the one within the user's limit."""
    rows: list[list[str]] = []
    for before, solution in zip([None, *shown], shown, strict=False):
        change = "the fewest bytes" if before is None else _change(before, solution)
        rows.append(
            [
                f"{solution.bytes:,}",
                f"{solution.arena:,}",
                f"{solution.weights:,}",
                f"{solution.own:,}",
                f"{solution.file:,}",
                f"{curve.time(solution):.3f}",
                change + ("  <- --memory-limit" if solution is kept else ""),
            ]
        )
    header = ("bytes", "arena", "packed weights", "own", "in files", "time", "what changes")
    return format_table(header, rows)


def _spread(curve: Curve, points: int, kept: Solution | None) -> list[Solution]:
    """The fewest bytes, the least time, equal factors of bytes between them, and ``kept``."""
    solutions = curve.solutions
    if len(solutions) > points:
        least, most = solutions[0].bytes, solutions[-1].bytes
        shares = (step / (points - 1) for step in range(1, points - 1))
        between = [curve.up_to(least * (most / least) ** share) for share in shares]
        solutions = [solutions[0], *between, solutions[-1]]
    found = {solution.bytes: solution for solution in solutions}
    if kept is not None:
        found[kept.bytes] = kept
    return sorted(found.values(), key=lambda solution: solution.bytes)


def _change(before: Solution, after: Solution) -> str:
    """What is computed otherwise from one plan to the next: the most frequent first."""
    same = {(unit.chain, choice_name(form)) for unit, form in before.chosen}
    changed = [form for unit, form in after.chosen if (unit.chain, choice_name(form)) not in same]
    kinds = Counter(map(_kind, changed))
    text = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
    return text + (", …" if len(kinds) > 3 else "")


def _kind(form: Form) -> str:
    """Algorithm and where its weights are, of a form."""
    if form.plan is None:
        return "left to TFLite"
    held = form.plan.knobs.get("weights")
    return form.plan.algorithm + (f":weights={held}" if held else "")
