"""Pick an algorithm and its knobs for a layer, and say why and what the choice costs.

``auto`` ranks every form of every algorithm by its modelled cost, in multiply-accumulates:

- those that the kernel does, the last panel of output channels counted as if full;
- ``MOVE_COST`` for each element that it copies, transforms or stores on the way;
- ``WEIGHT_COST`` for each packed weight, if they are more than the L2 cache holds;

and takes the cheapest within the user's limits; or, where memory is the objective, the one that
holds the fewest bytes, of those that are hardly slower or of all. The model is static: it knows no
processor but by its L2 cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import s_tir

from schedules.algorithms import REGISTRY, Unsupported
from schedules.algorithms.base import MAX_ELEMENTS
from schedules.algorithms.fused_block.fused_block import FusedBlock
from schedules.errors import LeanconvError
from schedules.kernel.accuracy import relative_error
from schedules.kernel.costs import MOVE_COST, SPILL_COST, WEIGHT_COST
from schedules.kernel.knobs import NO_KNOBS, Knobs
from schedules.kernel.loop_nests import LoopNest
from schedules.kernel.packing import PackedWeights
from schedules.kernel.tiles import ORDERS
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.plan.stored_kernels import find_kernels, keep_kernels
from schedules.target.simd import Simd

#: The name under which the planner chooses.
AUTO = "auto"
#: What computes several layers in one kernel.
FUSED_BLOCK = FusedBlock()
#: Without a limit, how many times the expected error of the definition an algorithm's may be.
ERROR_FACTOR = 3.0


@dataclass(frozen=True)
class Limits:
    """What a layer may cost.

    Parameters
    ----------
    workspace_bytes : int, optional
        For one thread.
    error : float, optional
        Expected relative error (see :mod:`schedules.kernel.accuracy`) of algorithms that multiply
        transformed operands, and not those of the definition; by default :data:`ERROR_FACTOR` times
        the definition's.
    """

    workspace_bytes: int | None = None
    error: float | None = None


#: What to minimise: modelled time; the bytes held (see :attr:`Plan.held_bytes`), where that costs
#: hardly any time; or the bytes held whatever it costs.
OBJECTIVES = ("time", "memory", "least-memory")
#: For "memory", how many times as long as the fastest form a form may take, by the model. Of those
#: that multiply as the definition does: what transforms saves too much time to be measured by.
MEMORY_FACTOR = 1.04

#: The words of loop orders.
_LOOPS = frozenset(",".join(ORDERS).split(","))

#: Whatever the layer takes.
NO_LIMITS = Limits()


@dataclass(frozen=True)
class Choice:
    """An algorithm by name, with the knobs that the user has set."""

    algorithm: str
    knobs: Knobs = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Choice:
        """``NAME`` or ``NAME:KNOB=VALUE:KNOB=VALUE``, e.g. ``winograd:outputs=2``.

        Raises
        ------
        LeanconvError
            If that is not what ``text`` is, or no algorithm has that name.
        """
        name, *settings = text.split(":")
        known = [AUTO, *REGISTRY.names(), FUSED_BLOCK.name]
        if name not in known:
            raise LeanconvError(f"unknown algorithm {name!r}: one of {', '.join(known)}")
        knobs: dict[str, Any] = {}
        for setting in settings:
            knob, equals, value = setting.partition("=")
            if not (knob and equals and value) or name == AUTO:
                raise LeanconvError(f"{text!r} is not NAME or NAME:KNOB=VALUE")
            if knob in knobs:
                raise LeanconvError(f"{text!r}: {knob} is there twice")
            knobs[knob] = int(value) if value.isdecimal() else value
        return cls(name, knobs)

    @classmethod
    def parse_all(cls, texts: str | Sequence[str]) -> list[Choice]:
        """Choices, each once; several may be in one text, with commas between them.

        A loop order, ``indirect:order=rows,columns,panels``, has commas of its own.
        """
        found: list[str] = []
        for part in ",".join([texts] if isinstance(texts, str) else texts).split(","):
            if found and "=" in found[-1] and part.partition(":")[0] in _LOOPS:
                found[-1] += f",{part}"
            else:
                found.append(part)
        return [cls.parse(text) for text in dict.fromkeys(found)]

    def __str__(self) -> str:
        return ":".join(
            [self.algorithm, *(f"{name}={value}" for name, value in self.knobs.items())]
        )


@dataclass(frozen=True)
class Plan:
    """How one kernel computes a layer, or a block of layers.

    Parameters
    ----------
    workload, algorithm, knobs
        What is computed, and how.
    workspace_bytes : int
        For one thread.
    parts : tuple of PackedWeights
        How the kernel expects the weights of each layer that it computes.
    macs : int
        Multiply-accumulates that it does, borders and tails counted as if full.
    cost : int
        Modelled time, in multiply-accumulates.
    expected_error : float
        Relative (see :mod:`schedules.kernel.accuracy`).
    why : str
        Why it was chosen, for people.
    rejected : tuple of str
        Forms of lower cost, and the limits that each exceeds.
    """

    workload: Conv2dWorkload | Block
    algorithm: str
    knobs: Knobs
    workspace_bytes: int
    parts: tuple[PackedWeights, ...]
    macs: int = 0
    cost: int = 0
    expected_error: float = 0.0
    why: str = ""
    rejected: tuple[str, ...] = ()

    @property
    def packed(self) -> PackedWeights:
        """How a kernel of one layer expects its weights."""
        (part,) = self.parts
        return part

    @property
    def layers(self) -> tuple[Conv2dWorkload, ...]:
        """The layers that the kernel computes, one after the other."""
        return self.workload.layers if isinstance(self.workload, Block) else (self.workload,)

    @property
    def layer(self) -> Conv2dWorkload:
        """The only one of these."""
        (layer,) = self.layers
        return layer

    @property
    def calls(self) -> int:
        """Calls that compute the layer: one a group, unless the kernel does all of them."""
        return self.layers[0].group_of

    @property
    def held_bytes(self) -> int:
        """Workspace, and packed weights that are not read where the model has them."""
        parts = zip(self.layers, self.parts, strict=True)
        held = (part.bytes(layer.element_bytes) for layer, part in parts if not part.in_place)
        return self.workspace_bytes + self.calls * sum(held)

    def describe(self) -> str:
        """What is computed, for tables and profiles."""
        if isinstance(self.workload, Block):
            return self.workload.describe()
        return self.workload.all_groups().describe()

    def loop_nests(self, simd: Simd) -> Sequence[LoopNest]:
        """The loops in which the kernel spends its time."""
        algorithm = algorithm_for(self.workload, self.algorithm)
        return algorithm.loop_nests(self.workload, simd, self.knobs)

    def schedule(self, simd: Simd) -> s_tir.Schedule:
        """The scheduled kernel."""
        if isinstance(self.workload, Block):
            return FUSED_BLOCK.schedule(self.workload, simd, self.knobs)
        algorithm = algorithm_for(self.workload, self.algorithm)
        schedule = algorithm.schedule(self.workload, simd, self.knobs)
        if self.workload.group_of > 1:
            c_abi.spread_output(schedule, self.workload.out_pitch)
        return schedule


def algorithm_for(workload: Conv2dWorkload | Block, name: str) -> Any:
    """The algorithm of that name, as it is applied to ``workload``."""
    if isinstance(workload, Block):
        return FUSED_BLOCK
    return REGISTRY.get(name).applied_to(workload)


def plan_layer(
    workload: Conv2dWorkload,
    simd: Simd,
    choice: str | Choice = AUTO,
    limits: Limits = NO_LIMITS,
    objective: str = "time",
) -> Plan:
    """The plan for ``workload``: what ``choice`` names, or what the ranking finds best.

    Raises
    ------
    Unsupported
        If nothing can serve the workload within the limits; the text is the reason.
    LeanconvError
        If no algorithm has that name.
    """
    if isinstance(choice, str):
        choice = Choice.parse(choice)
    if choice.algorithm == AUTO:
        return best_plan(workload, simd, limits, objective)
    plan = plan_form(choice, workload, simd)
    reason = exceeded(plan, limits)
    if reason is not None:
        raise Unsupported(reason)
    return replace(plan, why=f"{choice} was asked for")


def best_plan(
    workload: Conv2dWorkload, simd: Simd, limits: Limits, objective: str = "time"
) -> Plan:
    """The best plan within the limits by an objective of :data:`OBJECTIVES`.

    Of equals, the first registered.
    """
    limits = default_limits(workload, limits)
    plans, reasons = [], []
    for name in REGISTRY.names():
        for knobs in REGISTRY.get(name).forms(workload):
            try:
                plans.append(plan_form(Choice(name, knobs), workload, simd))
            except Unsupported as error:
                reasons.append(f"{Choice(name, knobs)}: {error}")
    within = [plan for plan in plans if exceeded(plan, limits) is None]
    if not within:
        reasons += [f"{plan.algorithm}: {exceeded(plan, limits)}" for plan in plans]
        raise Unsupported(reasons[0])
    if objective != "time":
        return _smallest(within, objective)
    best = min(within, key=lambda plan: plan.cost)
    cheaper = sorted((p for p in plans if p.cost < best.cost), key=lambda plan: plan.cost)
    return replace(
        best,
        why=_advantage(best, within),
        rejected=tuple(f"{plan.why}: {exceeded(plan, limits)}" for plan in cheaper),
    )


def default_limits(workload: Conv2dWorkload | Block, limits: Limits) -> Limits:
    """``limits`` with one on the error, whoever chooses: see :data:`ERROR_FACTOR`."""
    if limits.error is not None or isinstance(workload, Block):
        return limits
    return replace(limits, error=ERROR_FACTOR * relative_error(workload.reduction))


def plan_block(
    block: Block, simd: Simd, knobs: Knobs = NO_KNOBS, limits: Limits = NO_LIMITS
) -> Plan:
    """The plan for the layers of ``block`` in one kernel; raises as :func:`plan_layer`."""
    reason = FUSED_BLOCK.supports(block, simd)
    if reason is not None:
        raise Unsupported(reason)
    chosen = FUSED_BLOCK.default_knobs(block, simd, knobs)
    plan = Plan(
        block,
        FUSED_BLOCK.name,
        chosen,
        FUSED_BLOCK.workspace_bytes(block, chosen),
        FUSED_BLOCK.packed_parts(block, chosen),
        FUSED_BLOCK.macs(block, chosen),
        cost=FUSED_BLOCK.cost(block, simd, chosen),
        expected_error=FUSED_BLOCK.expected_error(block, chosen),
        why=f"{FUSED_BLOCK.name} was asked for",
    )
    reason = exceeded(plan, limits)
    if reason is not None:
        raise Unsupported(reason)
    return plan


def block_gain(block: Plan, layers: Sequence[Plan], simd: Simd) -> int:
    """Modelled time that one kernel for a block saves over one for each of its layers.

    These store what lies between them, and load it again.
    """
    between = [layer.output_shape for layer in block.layers[:-1]]
    elements = (math.prod(shape) for shape in between)
    spilled = sum(n for n in elements if n * block.layers[0].element_bytes > simd.l2_bytes)
    return sum(plan.cost for plan in layers) + SPILL_COST * spilled - block.cost


def plan_form(choice: Choice, workload: Conv2dWorkload, simd: Simd) -> Plan:
    """The plan for one form of an algorithm, whatever it costs; raises as :func:`plan_layer`."""
    if choice.algorithm == FUSED_BLOCK.name:
        raise Unsupported("it computes blocks of layers, and this layer is in none")
    algorithm = REGISTRY.get(choice.algorithm).applied_to(workload)
    reason = algorithm.supports(workload, simd)
    if reason is not None:
        raise Unsupported(reason)
    knobs = algorithm.default_knobs(workload, simd, choice.knobs)
    workspace = algorithm.workspace_bytes(workload, knobs)
    packed = algorithm.packed_weights(workload, knobs)
    for what, elements in (
        ("workspace", workspace // workload.element_bytes),
        ("packed weights", packed.elements),
    ):
        if elements > MAX_ELEMENTS:
            raise Unsupported(f"its {what} of {elements} elements needs 64-bit indices")
    macs = algorithm.macs(workload, knobs)
    cost = macs * packed.bias_elements // workload.out_channels
    cost += MOVE_COST * algorithm.moved_elements(workload, knobs)
    if packed.elements * workload.element_bytes > simd.l2_bytes:
        cost += WEIGHT_COST * packed.elements
    return Plan(
        workload,
        algorithm.name,
        knobs,
        workspace,
        (packed,),
        macs,
        cost=cost,
        expected_error=algorithm.expected_error(workload, knobs),
        why=str(choice),
    )


def _smallest(plans: Sequence[Plan], objective: str) -> Plan:
    """The plan that holds the fewest bytes; of equals, the fastest."""
    if objective == "memory":
        direct = [plan.cost for plan in plans if not REGISTRY.get(plan.algorithm).transforms]
        most = MEMORY_FACTOR * min(direct or [plan.cost for plan in plans])
        plans = [plan for plan in plans if plan.cost <= most]
    best = min(plans, key=lambda plan: (plan.held_bytes, plan.cost))
    return replace(best, why=f"holds the fewest bytes: {best.held_bytes}")


def _advantage(best: Plan, within: Sequence[Plan]) -> str:
    """What ``best`` has over the others."""
    others = [plan for plan in within if plan.algorithm != best.algorithm]
    if not others:
        return "nothing else serves it within the limits"
    second = min(others, key=lambda plan: plan.cost)
    if second.cost == best.cost:
        return "lowest modelled cost, as of others"
    return f"modelled cost {best.cost / second.cost:.2f} of {second.algorithm}'s"


def exceeded(plan: Plan, limits: Limits) -> str | None:
    """The limit that ``plan`` exceeds, or ``None``."""
    most = limits.workspace_bytes
    if most is not None and plan.workspace_bytes > most:
        return f"its workspace of {plan.workspace_bytes} bytes is over the limit of {most}"
    transforms = plan.algorithm in REGISTRY.names() and REGISTRY.get(plan.algorithm).transforms
    if transforms and limits.error is not None and plan.expected_error > limits.error:
        return (
            f"its expected error of {plan.expected_error:.2g} is over the limit of "
            f"{limits.error:.2g}"
        )
    return None


def compile_plans(plans: Mapping[str, Plan], simd: Simd) -> c_abi.KernelObject:
    """Compile one kernel a plan, named by a C identifier, into one object; or get it as it was."""
    compiled = find_kernels(plans, simd)
    if compiled is None:
        schedules = {name: plan.schedule(simd) for name, plan in plans.items()}
        compiled = c_abi.compile_schedules(schedules, simd)
        keep_kernels(plans, simd, compiled)
    return compiled
