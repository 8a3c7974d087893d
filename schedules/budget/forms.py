"""The budget's problem for a network: every form of every layer and chain that leanconv knows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence, Set

from schedules.algorithms import REGISTRY, Unsupported
from schedules.algorithms.base import INPUT
from schedules.algorithms.row_chain.bands import fewest
from schedules.budget.arena import Timeline, node_workspace, nodes_of, overwritten_by
from schedules.budget.pools import pool_nodes, pooled_layers, with_layers
from schedules.budget.problem import Form, Problem, Unit, undominated
from schedules.kernel.costs import spill_seconds
from schedules.kernel.packing import PackedWeights
from schedules.layer.block import Workload
from schedules.layer.network import (
    CONV,
    DENSE,
    DEPTHWISE,
    Chain,
    Layer,
    Network,
    block_of,
    of_one_kernel,
)
from schedules.layer.row_chain import find_row_chains
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import align
from schedules.plan.choice import Choice
from schedules.plan.filters import narrower, serves_narrower, spread_seconds
from schedules.plan.plan import Plan
from schedules.plan.planner import NO_LIMITS, Limits, default_limits, exceeded, light, plans_within
from schedules.target.simd import Simd

PICOSECONDS = 1e12
#: Layouts of weights that a library may have in it: of floats, and of int8 or uint8.
EMBEDDED = ("panels", "channels", "winograd", "rows", "taps")
EMBEDDED_CODES = ("words", "panels", "channels", "rows", "taps")


def problem_of(network: Network, simd: Simd, limits: Limits = NO_LIMITS) -> Problem:
    """What a budget chooses from: workspace and time of as many threads as ``limits`` say.

    A layer that leanconv does not take is left to the runtime, at no cost that is known. A chain
    whose layers do not run one right after the other is computed layer by layer: what it holds
    would depend on what else is chosen. That costs nothing where a file has its branches one after
    the other, as converters write them: all 19 chains of GoogLeNet and 44 of InceptionV3 qualify.
    """
    plans = functools.lru_cache(None)(functools.partial(_plans, simd=simd))
    alone = [(position,) for position in range(len(network.layers))]
    one_by_one = Timeline(network, _alone(network))
    units: list[Unit] = []

    def add(
        chain: Chain,
        network: Network,
        workload: Workload | None,
        around: int = 0,
        is_pooled: bool = False,
    ) -> None:
        layers = [network.layers[position] for position in chain]
        if _stages_too_much(layers, limits):
            workload = None
        own_limits = limits.of_layers(layers)
        forms = _forms(layers, plans(workload, limits=own_limits), simd, limits)
        few = narrower(layers[0]) if len(chain) == 1 and workload and not is_pooled else None
        if few is not None:
            narrow = filter(serves_narrower, plans(of_one_kernel(few), limits=own_limits))
            forms += _forms(layers, list(narrow), simd, limits)
        if not forms and len(chain) == 1 and not is_pooled:
            forms = [Form(0, 0, 0)]
        by_live: dict[int, list[Form]] = {}
        for what in dict.fromkeys(form.overwrites for form in forms):
            own = [form for form in forms if form.overwrites == what]
            by_live.setdefault(_live(network, chain, what), []).extend(own)
        for live, own in by_live.items():
            units.append(Unit(chain[0], chain[-1], live, undominated(own), around, is_pooled))

    pooled = pooled_layers(network)
    pools = {position: pool_nodes(network, position, layer) for position, layer in pooled.items()}
    around = {position: _most(one_by_one, nodes) for position, nodes in pools.items()}
    for chain in (*alone, *filter(functools.partial(_is_run, network, one_by_one), network.chains)):
        most = max(around.get(position, 0) for position in chain)
        add(chain, network, workload_of(network, chain), most)
    for position, layer in pooled.items():
        other = with_layers(network, {position: layer})
        add((position,), other, workload_of(other, (position,)), is_pooled=True)
    # Longer ones last: they have to be worth more than shorter ones.
    for chain, rows in sorted(find_row_chains(network), key=lambda found: len(found[0])):
        live = _live(network, chain, INPUT if rows.fits_in_place else None)
        most = max(live + fewest(rows), around.get(chain[-1], 0))
        if _is_run(network, one_by_one, chain) and most < _least_arena(units, chain):
            add(chain, network, rows, around.get(chain[-1], 0))
    in_pools = {node for nodes in pools.values() for node in nodes}
    return Problem(len(network.layers), tuple(units), _floor(network, one_by_one, in_pools))


def _least_arena(units: Sequence[Unit], chain: Chain) -> float:
    """The fewest bytes in which these layers can be computed one unit after the other."""
    least = {chain[0]: 0.0}
    for last in chain:
        reached = (
            max(least[unit.first], unit.need(min(unit.forms, key=lambda form: form.workspace)))
            for unit in units
            if unit.last == last and unit.first in least
        )
        least[last + 1] = min(reached, default=math.inf)
    return least[chain[-1] + 1]


def packed_bytes(layer: Layer, plan: Plan, place: int) -> int:
    """Bytes of one layer's packed weights and biases, to whole cache lines of each group.

    ``place`` is the layer's among those that ``plan`` computes. A kernel of a single layer reads
    weights where they are, if they are in its order and type, and then the bias too.
    """
    part = plan.parts[place]
    if _reads_in_place(layer, plan):
        return 0 if layer.is_float_biased else align(part.constant_bytes)
    return plan.calls * align(part.bytes)


def _reads_in_place(layer: Layer, plan: Plan) -> bool:
    part = plan.parts[0]
    is_single = len(plan.parts) == 1 and plan.calls == 1
    return is_single and part.is_in_place(plan.layer) and layer.weight_order == part.layout


def workload_of(network: Network, chain: Chain) -> Workload | None:
    """What one kernel computes of one image; ``None`` if leanconv does not take it."""
    if len(chain) > 1:
        return block_of(network, chain)
    workload = network.layers[chain[0]].workload
    return None if workload is None else of_one_kernel(workload)


def _plans(workload: Workload | None, simd: Simd, limits: Limits) -> list[Plan]:
    """Every form, and those of blocks that trade time for workspace."""
    if workload is None:
        return []
    plans = plans_within(workload, simd, limits)
    limits = default_limits(workload, limits)
    for algorithm in REGISTRY.made_for(workload):
        for knobs in algorithm.trades(workload, simd):
            try:
                form = Choice.of(algorithm.name, knobs)
                plan = Plan.of(form, workload, simd, limits.threads)
            except Unsupported:
                continue
            if exceeded(plan, limits) is None:
                plans.append(plan)
    return plans


def _forms(
    layers: Sequence[Layer], plans: Sequence[Plan], simd: Simd, limits: Limits
) -> list[Form]:
    """Those of some plans, with packed weights on the heap or in the library, or each of both."""
    places = {False: (False,), True: (True,), None: (False, True)}[limits.embeds]
    if limits.embeds is not False:
        # Transformed weights are several times as large in a file, and come from there.
        plans = [plan for plan in plans if light(plan, plans, simd) is plan]
    threads = limits.threads
    return [_form(layers, plan, simd, threads, place) for place in places for plan in plans]


def _form(layers: Sequence[Layer], plan: Plan, simd: Simd, threads: int, is_embedded: bool) -> Form:
    """What a plan costs and holds: its output is stored, and loaded again, too."""
    last = layers[-1].workload
    assert last is not None, "a plan computes layers that have a workload"
    size = last.output_bytes // last.batch
    stored = spill_seconds(size, simd, last.dtype, threads)
    seconds = last.batch * (plan.calls * plan.cost / plan.images + stored)
    is_narrow = plan.layers[-1].out_channels < of_one_kernel(last).out_channels
    if is_narrow:
        seconds += last.batch * spread_seconds(last, simd)
    packed = sum(packed_bytes(layer, plan, place) for place, layer in enumerate(layers))
    reads_in_place = _reads_in_place(layers[0], plan)
    in_place = layers[0].weight_bytes if reads_in_place else 0
    is_embedded = is_embedded and not reads_in_place and _may_embed(layers, plan)
    return Form(
        round(seconds * PICOSECONDS),
        align(node_workspace(plan, layers, threads)),
        0 if is_embedded else packed,
        packed if is_embedded else in_place,
        is_embedded,
        plan,
        is_narrow,
    )


def _may_embed(layers: Sequence[Layer], plan: Plan) -> bool:
    """Whether the library can have what ``plan`` packs: of dense weights."""
    return all(
        layer.weight_order is not None
        and layer.kind in (CONV, DEPTHWISE, DENSE)
        and _may_embed_part(workload, part)
        for layer, workload, part in zip(layers, plan.layers, plan.parts, strict=True)
    )


def _may_embed_part(workload: Conv2dWorkload, part: PackedWeights) -> bool:
    """Of floats, or of codes as they are."""
    if part.dtype.startswith("float"):
        return workload.dtype == "float32" and part.layout in EMBEDDED
    return part.layout in EMBEDDED_CODES


def _stages_too_much(layers: Sequence[Layer], limits: Limits) -> bool:
    most = limits.workspace_bytes
    return most is not None and any(layer.staged_bytes > most for layer in layers)


def _is_run(network: Network, one_by_one: Timeline, chain: Chain) -> bool:
    """Whether the layers run one right after the other, whatever else is chosen."""
    if chain != tuple(range(chain[0], chain[-1] + 1)):
        return False
    own = {one_by_one.time_of(node) for node in nodes_of(network, chain)}
    return all(time in own for time in one_by_one.times if min(own) <= time <= max(own))


def _alone(network: Network) -> list[Chain]:
    return [(position,) for position, layer in enumerate(network.layers) if layer.nodes]


def _live(network: Network, chain: Chain, what: str | None) -> int:
    """Bytes of tensors while the layers of ``chain`` run in one kernel, and others alone.

    ``what`` that kernel overwrites is of no other's concern: it lives until it runs, and what it
    writes from then on.
    """
    others = [other for other in _alone(network) if other[0] not in chain]
    nodes = nodes_of(network, chain)
    chains = [*others, chain] if nodes else others
    kernels = {chain: what} if nodes else {}
    timeline = Timeline(network, chains, overwritten_by(network, kernels))
    core = network.layers[chain[0]].index
    return align(timeline.held_bytes(timeline.time_of(nodes[0] if nodes else core)))


def _floor(network: Network, one_by_one: Timeline, in_pools: Set[int]) -> int:
    """The most bytes of tensors while something runs that is no layer and may be no part of one."""
    layers = {node for layer in network.layers for node in layer.nodes}
    others = {step.index for step in network.steps} - layers - in_pools
    return _most(one_by_one, others)


def _most(one_by_one: Timeline, nodes: Set[int]) -> int:
    """The most bytes of tensors while one of these nodes runs, which are in no layer."""
    return max((align(one_by_one.held_bytes(node)) for node in nodes), default=0)
