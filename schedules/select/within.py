"""Choose the kernels of a network so that all it holds stays within a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from schedules.algorithms import REGISTRY, Unsupported
from schedules.budget.exact import Solver
from schedules.budget.forms import problem_of, workload_of
from schedules.budget.pools import with_pools
from schedules.budget.problem import Form, Problem, Solution, Unit
from schedules.budget.promise import RESOLUTION, fastest_within, plans
from schedules.budget.recorded import LEFT, RecordedPlan, RecordedUnit
from schedules.errors import LeanconvError, OverLimit
from schedules.layer.block import Workload
from schedules.layer.network import Chain, Layer, Network
from schedules.layer.row_chain import find_row_chains
from schedules.plan.choice import Choice
from schedules.plan.filters import narrower
from schedules.plan.plan import Plan
from schedules.plan.planner import Limits
from schedules.select.selection import Kernel, Selected, Selection, kernel_of
from schedules.target.simd import Simd
from schedules.tuning.advice import Advice

#: Of kernels, by what they compute and how.
Names = dict[tuple[object, ...], str]
#: More bytes than there are.
UNLIMITED = 2**62
#: How many times as long as the fastest plan within a limit one may take that has all packed
#: weights on the heap, and the library none of them: what hardly can be measured.
HEAP_FACTOR = 1.005


def select_within(
    network: Network, simd: Simd, limits: Limits, smaller: Sequence[int] = ()
) -> tuple[Selection, ...]:
    """The fastest kernels with which a whole network keeps the limits; and each ``smaller`` one.

    Workspace of as many threads as ``limits`` say, time of one, as modelled; see
    :mod:`schedules.budget.exact`. Where they leave it open, each plan has its packed weights on the
    heap if it is about as fast (:data:`HEAP_FACTOR`) as one that may have them in the library.

    Raises
    ------
    OverLimit
        If there are none.
    """
    problem = problem_of(network, simd, limits)
    solvers = solvers_of(problem, limits)
    limit = UNLIMITED if limits.held_bytes is None else limits.held_bytes
    found, names = [], Names()
    for bytes_held in (limit, *smaller):
        _, solution = fastest_of(network, solvers, bytes_held)
        if solution is None:
            curve = solvers[-1].curve(RESOLUTION)
            if not curve and limits.file_bytes is not None:
                raise OverLimit(file_refusal(network, problem, limits.file_bytes))
            within = replace(limits, held_bytes=bytes_held)
            raise OverLimit(refusal(network, simd, problem, plans(network, curve), within))
        found.append(selection_of(network, simd, solution, limits.threads, names))
    return tuple(found)


def solvers_of(problem: Problem, limits: Limits) -> list[Solver]:
    """What to ask for plans, the first of them first: see :func:`fastest_of`."""
    problems = [problem.on_heap(), problem] if limits.embeds is None else [problem]
    return [Solver(each, limits.file_bytes) for each in problems]


def fastest_of(
    network: Network, solvers: Sequence[Solver], limit: int
) -> tuple[Solver, Solution | None]:
    """The fastest plan within a limit, and whose it is: the first's, if that is about as fast."""
    found = [(solver, fastest_within(network, solver, limit)) for solver in solvers]
    most = HEAP_FACTOR * min((plan.cost for _, plan in found if plan), default=0)
    return next((each for each in found if each[1] and each[1].cost <= most), found[-1])


def as_planned(plan: Plan, _layers: Sequence[Layer]) -> Advice:
    """What is compiled without records."""
    return Advice(plan, plan)


def selection_of(
    network: Network,
    simd: Simd,
    solution: Solution,
    threads: int = 1,
    names: Names | None = None,
    advise: Callable[[Plan, Sequence[Layer]], Advice] = as_planned,
) -> Selection:
    """The kernels that a solution names; equal ones, of all that share ``names``, are one.

    What is compiled is what to ``advise`` of a plan for some layers.
    """
    names = Names() if names is None else names
    network = with_pools(network, solution.chosen)
    layers = [Selected(layer, (), layer.reason) for layer in network.layers]
    blocks: dict[Chain, Kernel] = {}
    for unit, form in solution.chosen:
        if form.plan is None:
            continue
        advice = advise(form.plan, [network.layers[position] for position in unit.chain])
        plan = advice.plan
        key = (plan.workload, plan.algorithm, tuple(plan.knobs.items()))
        name = names.setdefault(key, f"lc_k{len(names)}_{plan.algorithm}")
        kernel = kernel_of(name, advice, simd)
        for position in unit.chain:
            layers[position] = Selected(network.layers[position], (kernel,), None)
        if len(unit.chain) > 1:
            blocks[unit.chain] = kernel
    embedded = frozenset(unit.chain for unit, form in solution.chosen if form.is_embedded)
    return Selection(
        network, simd, "time", tuple(layers), blocks, threads=threads, embedded=embedded
    )


def selection_as_recorded(network: Network, simd: Simd, recorded: RecordedPlan) -> Selection:
    """The kernels that a plan in a file names.

    Raises
    ------
    LeanconvError
        If it is none of this network and target.
    """
    covered = [i for unit in recorded.units for i in range(unit.first, unit.last + 1)]
    if covered != list(range(len(network.layers))) or recorded.target != simd.name:
        raise LeanconvError(
            f"the plan is of {recorded.model} on {recorded.target}: not of {network.name} on "
            f"{simd.name}, {len(network.layers)} layers"
        )
    try:
        chosen = tuple(_as_recorded(network, simd, unit) for unit in recorded.units)
    except Unsupported as error:
        raise LeanconvError(
            f"the plan of {recorded.model} does not fit {network.name}: {error}"
        ) from None
    return selection_of(network, simd, Solution(0, 0, 0, 0, chosen), recorded.threads)


def _as_recorded(network: Network, simd: Simd, recorded: RecordedUnit) -> tuple[Unit, Form]:
    unit = Unit(recorded.first, recorded.last, 0, (), is_pooled=recorded.is_pooled)
    if recorded.choice == LEFT:
        return unit, Form(0, 0, 0)
    if unit.is_pooled and unit.first not in network.pooled:
        raise LeanconvError(f"the plan pools layer {unit.first}, which has no pool behind it")
    choice = Choice.parse(recorded.choice)
    if REGISTRY.get(choice.algorithm).kind == "rows":
        workload: Workload | None = dict(find_row_chains(network)).get(unit.chain)
    else:
        workload = workload_of(with_pools(network, [(unit, Form(0, 0, 0))]), unit.chain)
        if recorded.is_narrow:
            workload = narrower(network.layers[unit.first])
    if workload is None:
        reason = network.layers[unit.first].reason or "there is no such chain"
        raise LeanconvError(f"the plan has a kernel for layer {unit.first}: {reason}")
    plan = replace(Plan.of(choice, workload, simd), why="the plan has it")
    return unit, Form(0, 0, 0, is_embedded=recorded.is_embedded, plan=plan)


def file_refusal(network: Network, problem: Problem, limit: int) -> str:
    """Why there is no plan: every one reads more bytes from files."""
    counted = [
        replace(
            unit,
            live=0,
            around=0,
            forms=tuple(replace(f, cost=f.file, workspace=0) for f in unit.forms),
        )
        for unit in problem.units
    ]
    curve = Solver(replace(problem, units=tuple(counted), floor=0)).curve()
    fewest = f"the least possible are {curve[-1].cost}" if curve else "some layer has no kernel"
    return f"{limit} bytes in files are too few for {network.name}: {fewest}"


def refusal(
    network: Network, simd: Simd, problem: Problem, found: Sequence[Solution], limits: Limits
) -> str:
    """Why there is no plan: what the first of those ``found`` holds, where, and what holds less."""
    limit = limits.held_bytes
    if not found:
        return f"{limit} bytes for {network.name}: some layer cannot be computed at all"
    plan = found[0]
    text = (
        f"{limit} bytes are too few for {network.name}: the least possible are {plan.bytes}, "
        f"{plan.weights} of them packed weights, {plan.own} the delegate's own"
    )
    most = max((unit.need(form) for unit, form in plan.chosen), default=0)
    if most < problem.floor or not plan.chosen:
        text += f"; most is held around what is no layer: tensors {problem.floor}"
    else:
        unit, form = next(choice for choice in plan.chosen if Unit.need(*choice) == most)
        layers = with_pools(network, plan.chosen).layers[unit.first : unit.last + 1]
        where = _joined([layer.geometry for layer in layers])
        text += f"; most is held by {where}: tensors {unit.live}, workspace {form.workspace}"
    less = _with_less(network, simd, limits, plan.bytes)
    return text + (f"; less is held with {', '.join(less)}" if less else "")


def _joined(names: Sequence[str]) -> str:
    """A chain in a line: of a long one its ends."""
    if len(names) <= 3:
        return " -> ".join(names)
    return f"{len(names)} layers together, {names[0]} -> … -> {names[-1]}"


def _with_less(network: Network, simd: Simd, limits: Limits, least: int) -> list[str]:
    """The options with which fewer bytes than the ``least`` would do, and how many."""
    others = {}
    if limits.threads > 1:
        others["--threads 1"] = replace(limits, threads=1)
    if limits.embeds is False:
        others["--weights embedded"] = replace(limits, embeds=True)
    found = []
    for option, other in others.items():
        solver = Solver(problem_of(network, simd, other), limits.file_bytes)
        curve = plans(network, solver.curve(RESOLUTION))
        if curve and curve[0].bytes < least:
            found.append(f"{option} ({curve[0].bytes})")
    return found
