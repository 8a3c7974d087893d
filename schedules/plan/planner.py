"""Pick an algorithm and its knobs for a layer, and say why and what the choice costs.

``auto`` ranks every form of every algorithm by its modelled time (:mod:`schedules.kernel.costs`):
what it multiplies, the last panel of output channels counted as if full; what it copies, transforms
or stores on the way; and the bytes of weights that it reads from memory and from the third cache,
as often as its loops do. It takes the fastest within the user's limits. Weights that a model holds
in a narrower type stay so where that is hardly slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from schedules.algorithms import REGISTRY, Algorithm, Unsupported
from schedules.errors import LeanconvError
from schedules.kernel.accuracy import definition_error
from schedules.kernel.costs import spill_seconds
from schedules.kernel.packing import ONE_BY_ONE, SPREAD_OUT, has_narrow_weights
from schedules.layer.block import Workload
from schedules.layer.network import Layer
from schedules.plan.choice import AUTO, Choice
from schedules.plan.plan import Plan
from schedules.target.byte_products import spreads
from schedules.target.simd import MAX_THREADS, Simd

#: Without a limit, how many times the expected error of the definition an algorithm's may be.
ERROR_FACTOR = 3.0


@dataclass(frozen=True)
class Limits:
    """What a layer may cost, and a network.

    Parameters
    ----------
    workspace_bytes : int, optional
        For one thread.
    error : float, optional
        Expected relative error (see :mod:`schedules.kernel.accuracy`) of algorithms that multiply
        transformed operands, and not those of the definition; by default :data:`ERROR_FACTOR` times
        the definition's.
    held_bytes : int, optional
        For a whole network: tensors that are alive at once with workspace, and all packed weights.
    threads : int
        How many threads' time and workspace count.
    embeds : bool or None
        Whether packed weights are to be data of the library, wherever they can; ``None``: where a
        limit on what a network holds makes it slower otherwise.
    file_bytes : int, optional
        For a whole network: weights that are read where files have them, the model's or the
        library's.
    adds_pairs : bool
        Whether kernels may add products of int8 in pairs in 16 bits, which pass these if all four
        factors are -128: that is for those to say who know the weights.
    leaves_to_xnnpack : bool
        Whether XNNPACK computes what gets no kernel, and gets the layers that it is as fast at.

    Raises
    ------
    LeanconvError
        If there are no such threads.
    """

    workspace_bytes: int | None = None
    error: float | None = None
    held_bytes: int | None = None
    threads: int = 1
    embeds: bool | None = False
    file_bytes: int | None = None
    adds_pairs: bool = True
    leaves_to_xnnpack: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= MAX_THREADS:
            raise LeanconvError(f"{self.threads} threads: 1 to {MAX_THREADS} are possible")

    @property
    def of_network(self) -> bool:
        """Whether there is one that only a whole network can keep."""
        return bool(self.embeds) or self.held_bytes is not None or self.file_bytes is not None

    def of_layers(self, layers: Iterable[Layer]) -> Limits:
        """These limits, and those of what the layers' weights are."""
        return replace(self, adds_pairs=not any(layer.overflows_pairs for layer in layers))


#: How many times as long as the fastest form, by the model, one may take that leaves
#: weights of a narrower type as they are. Trained networks of float16 weights then hold half the
#: bytes, or less, and run as fast: what comes from memory counts for more than the model knows.
NARROW_FACTOR = 1.1

#: Likewise, one that reads weights of int8 where the model has them, for a single pixel and for
#: others. In MobileNetV2 that takes a twentieth of the time, and saves a quarter of all bytes.
IN_PLACE_FACTORS = (1.6, 1.2)

#: How many times as long as the fastest form another one of its algorithm may take that
#: reads the model's weights, not more than so many bytes of transformed ones: on x86-64, where
#: kernels ask for weights ahead, and on Arm. VGG16's layers of 512 channels measured alike, and
#: ResNet50's too: they hold 33 MiB, not 340, and 27, not 48.
LIGHT_FACTOR, LIGHT_BYTES = 1.2, {False: 8 << 20, True: 17 << 20}

#: Why TFLite keeps what kernels of words would compute.
_BETTER_LEFT = (
    "uint8 products need dotprod or channels in sixteens: not faster than XNNPACK on this processor"
)

#: Whatever the layer takes.
NO_LIMITS = Limits()


def plan_kernel(
    workload: Workload,
    simd: Simd,
    choice: str | Choice = AUTO,
    limits: Limits = NO_LIMITS,
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
        return best_plan(workload, simd, limits)
    plan = _named(choice, workload, simd, limits)
    reason = exceeded(plan, limits)
    if reason is not None:
        raise Unsupported(reason)
    return replace(plan, why=f"{choice} was asked for")


def _named(choice: Choice, workload: Workload, simd: Simd, limits: Limits) -> Plan:
    """What ``choice`` names; of an algorithm on codes without knobs, the fastest form of it.

    Which one a core needs is a matter of its instructions, not of the algorithm.
    """
    algorithm = REGISTRY.get(choice.algorithm)
    has_codes = all(layer.is_quantised for layer in workload.layers)
    if has_codes and not choice.settings and algorithm in REGISTRY.made_for(workload):
        plans, _ = _forms(algorithm, workload, simd, limits.threads)
        within = [plan for plan in plans if exceeded(plan, limits) is None]
        within = [plan for plan in within if not _is_better_left(plan, simd)] or within
        if within:
            return min(within, key=lambda plan: plan.cost)
    return Plan.of(choice, workload, simd, limits.threads)


def best_plan(workload: Workload, simd: Simd, limits: Limits) -> Plan:
    """The fastest plan within the limits; of equals, the first registered."""
    limits = default_limits(workload, limits)
    plans, reasons = _every_form(workload, simd, limits.threads)
    if limits.leaves_to_xnnpack:
        if plans and all(_is_better_left(plan, simd) for plan in plans):
            raise Unsupported(_BETTER_LEFT)
        plans = [plan for plan in plans if not _is_better_left(plan, simd)]
    within = [plan for plan in plans if exceeded(plan, limits) is None]
    if not within:
        refusals = [f"{plan.algorithm}: {exceeded(plan, limits)}" for plan in plans]
        raise Unsupported([*refusals, *reasons][0])
    best = min(within, key=lambda plan: plan.cost)
    if any(map(has_narrow_weights, workload.layers)):
        best = _narrowest(within, NARROW_FACTOR * best.cost)
    if all(layer.is_quantised for layer in workload.layers):
        best = _in_place(within, best)
    elif all(layer.dtype == layer.weight_dtype for layer in workload.layers):
        best = light(best, within, simd)
    refused = [plan for plan in plans if exceeded(plan, limits) is not None]
    cheaper = sorted((p for p in refused if p.cost < best.cost), key=lambda plan: plan.cost)
    return replace(
        best,
        why=_advantage(best, within),
        rejected=tuple(f"{plan.why}: {exceeded(plan, limits)}" for plan in cheaper),
    )


def plans_within(workload: Workload, simd: Simd, limits: Limits = NO_LIMITS) -> list[Plan]:
    """Every form of every algorithm that can compute ``workload`` within the limits."""
    limits = default_limits(workload, limits)
    plans, _ = _every_form(workload, simd, limits.threads)
    return [
        plan
        for plan in plans
        if exceeded(plan, limits) is None
        and not (limits.leaves_to_xnnpack and _is_better_left(plan, simd))
    ]


def _every_form(workload: Workload, simd: Simd, threads: int) -> tuple[list[Plan], list[str]]:
    """Plans of all forms that can compute ``workload``, and why the others cannot."""
    plans, reasons = [], []
    for algorithm in REGISTRY.made_for(workload):
        of_algorithm = _forms(algorithm, workload, simd, threads)
        plans += of_algorithm[0]
        reasons += of_algorithm[1]
    return plans, reasons


def _forms(
    algorithm: Algorithm, workload: Workload, simd: Simd, threads: int
) -> tuple[list[Plan], list[str]]:
    """The same of one algorithm."""
    plans, reasons = [], []
    for knobs in algorithm.forms(workload):
        form = Choice.of(algorithm.name, knobs)
        try:
            plans.append(Plan.of(form, workload, simd, threads))
        except Unsupported as error:
            reasons.append(f"{form}: {error}")
    return plans, reasons


def _is_better_left(plan: Plan, simd: Simd) -> bool:
    """Whether XNNPACK is as fast, so that only who names an algorithm gets a kernel.

    Without dot products of int8 on Arm, kernels take 1.7 times as many instructions as its, unless
    their sums are spread, or their elements are multiplied one by one or in Winograd's domain.
    """
    if any(part.transform for part in plan.parts):
        return False
    sums = any(layer.is_quantised and not layer.is_depthwise for layer in plan.layers)
    return sums and spreads(simd) and plan.knobs.get("weights") not in (SPREAD_OUT, ONE_BY_ONE)


def default_limits(workload: Workload, limits: Limits) -> Limits:
    """``limits`` with one on the error, whoever chooses: see :data:`ERROR_FACTOR`."""
    if limits.error is not None or any(layer.domain for layer in workload.layers):
        return limits  # what has its weights in Winograd's domain is defined there
    definition = math.hypot(*map(definition_error, workload.layers))
    return replace(limits, error=ERROR_FACTOR * definition)


def block_gain(block: Plan, layers: Sequence[Plan], simd: Simd, threads: int = 1) -> float:
    """Modelled time that one kernel for a block saves over one for each of its layers.

    These store what lies between them, and load it again.
    """
    between = block.layers[:-1]
    stored = sum(spill_seconds(own.output_bytes, simd, own.dtype, threads) for own in between)
    return sum(plan.cost / plan.images for plan in layers) + stored - block.cost


def _narrowest(plans: Sequence[Plan], most: float) -> Plan:
    """Of the plans that cost at most so much, the one with the fewest bytes of weights to read."""
    plans = [plan for plan in plans if plan.cost <= most]
    return min(plans, key=lambda plan: (_weight_bytes(plan), plan.cost))


def light(best: Plan, plans: Sequence[Plan], simd: Simd) -> Plan:
    """``best``, or one of ``plans`` that does the same and transforms weights itself.

    See :data:`LIGHT_FACTOR`.
    """
    transformed = any(part.transform for part in best.parts)
    if not transformed or _weight_bytes(best) <= LIGHT_BYTES[simd.fma_by_element]:
        return best
    others = [plan for plan in plans if plan.algorithm == best.algorithm]
    light = [plan for plan in others if not any(part.transform for part in plan.parts)]
    within = [plan for plan in light if plan.cost <= LIGHT_FACTOR * best.cost]
    return min(within, key=lambda plan: plan.cost, default=best)


def _weight_bytes(plan: Plan) -> int:
    return sum(part.weight_bytes for part in plan.parts)


def _in_place(plans: Sequence[Plan], best: Plan) -> Plan:
    """Of the plans that pack no weights, the fastest if it is fast enough, else the best."""
    single, several = IN_PLACE_FACTORS
    most = best.cost * (single if all(layer.pixels == 1 for layer in best.layers) else several)
    found = [plan for plan in plans if plan.held_bytes == 0 and plan.cost <= most]
    return min(found, key=lambda plan: plan.cost, default=best)


def _advantage(best: Plan, within: Sequence[Plan]) -> str:
    """What ``best`` has over the others."""
    others = [plan for plan in within if plan.algorithm != best.algorithm]
    if not others:
        return "nothing else serves it within the limits"
    second = min(others, key=lambda plan: plan.cost)
    if second.cost < best.cost:
        kept = "where the model has them" if best.held_bytes == 0 else "in the model's type"
        return f"its weights stay {kept}"
    if second.cost == best.cost:
        return "lowest modelled cost, as of others"
    return f"modelled cost {best.cost / second.cost:.2f} of {second.algorithm}'s"


def exceeded(plan: Plan, limits: Limits) -> str | None:
    """The limit that ``plan`` exceeds, or ``None``."""
    most = limits.workspace_bytes
    if most is not None and plan.workspace_bytes > most:
        return f"its workspace of {plan.workspace_bytes} bytes is over the limit of {most}"
    if plan.transforms and limits.error is not None and plan.expected_error > limits.error:
        return (
            f"its expected error of {plan.expected_error:.2g} is over the limit of "
            f"{limits.error:.2g}"
        )
    if not limits.adds_pairs and any(part.adds_pairs for part in plan.parts):
        return "sums of pairs of products with its weights of -128 pass 16 bits"
    return None
