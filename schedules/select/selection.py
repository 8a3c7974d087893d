"""Choose the kernels of a network: one for each layer, or for a block of layers that lie between.

Layers of equal shape share their kernels. A block of layers (see :mod:`schedules.layer.chains`) is
computed by one kernel if that saves time, as measured where there are records of it and of its
layers, by the planner's model otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from schedules.algorithms import REGISTRY, Unsupported
from schedules.budget.arena import units
from schedules.errors import LeanconvError
from schedules.layer.block import Workload
from schedules.layer.network import Chain, Layer, Network, block_of, of_one_kernel
from schedules.layer.row_chain import find_row_chains
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.kernel import CKernel
from schedules.plan.batches import MIN_SAVING, image_cost, shared_plan
from schedules.plan.choice import AUTO, Choice
from schedules.plan.filters import narrower, serves_narrower, spread_seconds
from schedules.plan.plan import Plan
from schedules.plan.planner import Limits, block_gain, plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.advice import DEFAULT, Advice, Advisor
from schedules.tuning.records.records import Record

#: Part of the time of its layers that a block has to save, or to cost, so that measured times
#: decide about it. By themselves, kernels find in the caches what a network leaves there or does
#: not: MobileNetV2's blocks measured 5 to 8 % slower than their layers, and save 3 % of its time.
DECISIVE = 0.1


@dataclass(frozen=True)
class Kernel:
    """A plan under its C name; once compiled, with its object.

    ``untuned`` is what would be compiled without records. It, ``tuning`` and ``seconds`` are as in
    :class:`schedules.tuning.advice.Advice`. ``shared`` is what several threads run instead, which
    reads the same packed weights.
    """

    name: str
    plan: Plan
    compiled: CKernel | None = None
    data: bytes = b""
    untuned: Plan | None = None
    tuning: str | None = None
    seconds: float | None = None
    shared: Kernel | None = None

    def on(self, threads: int) -> Kernel:
        """What so many threads run."""
        return self.shared if self.shared and threads > 1 else self


@dataclass(frozen=True)
class Selected:
    """A layer of the network and its kernels, the default first, or the reason why it has none.

    Behind a kernel for several images of a batch is that for what is left of one.
    """

    layer: Layer
    kernels: tuple[Kernel, ...]
    reason: str | None


@dataclass(frozen=True)
class Selection:
    """What to compile for a network.

    Parameters
    ----------
    layers : tuple of Selected
        Every layer of the network, in its order.
    blocks : mapping of Chain to Kernel
        Positions of the layers that one kernel computes.
    advisor : Advisor or None
        What was asked, if there are records.
    threads : int
        Whose workspace counts.
    embedded : frozenset of Chain
        Those of the units whose packed weights are data of the library.
    """

    network: Network
    simd: Simd
    objective: str
    layers: tuple[Selected, ...]
    blocks: Mapping[Chain, Kernel] = field(default_factory=dict)
    advisor: Advisor | None = None
    threads: int = 1
    embedded: frozenset[Chain] = frozenset()

    @property
    def units(self) -> dict[Chain, Kernel]:
        """The default kernel of each block, and of each layer that is in none and has one."""
        defaults = {i: layer.kernels[0] for i, layer in enumerate(self.layers) if layer.kernels}
        return units(self.blocks, defaults)

    @property
    def kernels(self) -> list[Kernel]:
        """Every kernel once: longer chains first, then the defaults of all layers.

        Last those that several threads run instead of others.
        """
        longest = max((len(selected.kernels) for selected in self.layers), default=0)
        ranked = [
            selected.kernels[rank]
            for rank in range(longest)
            for selected in self.layers
            if rank < len(selected.kernels)
        ]
        ranked += [kernel.shared for kernel in ranked if kernel.shared]
        ranked.sort(key=lambda kernel: -len(kernel.plan.layers))
        return list({kernel.name: kernel for kernel in ranked}.values())


def select_all(
    networks: Sequence[Network],
    simd: Simd,
    algorithms: Sequence[str],
    limits: Limits,
    records: Sequence[Record] = (),
) -> tuple[Selection, ...]:
    """Plan every layer of some networks that can be taken; equal layers share their kernels.

    With records, knobs, algorithms and blocks are those found best.

    Raises
    ------
    LeanconvError
        If an option makes no sense.
    """
    choices = Choice.parse_all(algorithms)
    names = [choice.algorithm for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise LeanconvError(f"{name} is named twice: a delegate holds one form of it")
    advisor = Advisor(records, simd, limits) if records else None
    first = _Planner(networks[0], simd, choices, limits, advisor)
    planners = [replace(first, network=network) for network in networks]
    for choice in choices:
        _check_knobs(choice, planners)
    return tuple(planner.select() for planner in planners)


def _check_knobs(choice: Choice, planners: Sequence[_Planner]) -> None:
    """Refuse a choice whose knobs nothing has: a mistake, even if another choice serves all.

    A layer that offers less than others, as a 1x1 convolution does, is left out of that choice.
    """
    error = None
    for planner in planners if choice.knobs else ():
        for workload in planner.candidates(choice):
            try:
                Plan.of(choice, workload, planner.simd)
                return
            except Unsupported as reason:
                error = reason
    if error is not None:
        raise LeanconvError(f"no layer can be compiled with {choice}: {error}")


def all_kernels(selections: Sequence[Selection]) -> list[Kernel]:
    """Every kernel once: longer chains first, then as in each selection."""
    kernels = [kernel for selection in selections for kernel in selection.kernels]
    kernels.sort(key=lambda kernel: -len(kernel.plan.layers))
    return list({kernel.name: kernel for kernel in kernels}.values())


@dataclass
class _Planner:
    """Plans of a network's layers and blocks, each made once.

    Planners of several networks share what is ``planned`` and the names of blocks.
    """

    network: Network
    simd: Simd
    choices: Sequence[Choice]
    limits: Limits
    advisor: Advisor | None
    planned: dict[tuple[Conv2dWorkload, int, bool], Selected] = field(default_factory=dict)
    block_names: dict[Workload, str] = field(default_factory=dict)

    def select(self) -> Selection:
        """Everything that is to be compiled."""
        layers = [self._layer(layer) for layer in self.network.layers]
        blocks = self._blocks(layers)
        for chain, kernel in blocks.items():
            for position in chain:
                selected = layers[position]
                # What was chosen to minimise something has been outdone by the block.
                named = (k for k in selected.kernels if not self._is_automatic(k))
                layers[position] = replace(selected, kernels=(kernel, *named))
        return Selection(self.network, self.simd, "time", tuple(layers), blocks, self.advisor)

    def candidates(self, choice: Choice) -> Sequence[Workload]:
        """What a choice may be made for."""
        if _of_blocks(choice):
            return list(self._chains(choice).values())
        layers = self.network.layers
        return [of_one_kernel(la.workload) for la in layers if la.workload is not None]

    def _layer(self, layer: Layer) -> Selected:
        """One kernel for each choice that can serve the layer, or why none can."""
        if layer.workload is None:
            return Selected(layer, (), layer.reason)
        limit = self.limits.workspace_bytes
        if limit is not None and layer.staged_bytes > limit:
            reason = f"{layer.staged_bytes} bytes of workspace for its sub-pixel image"
            return Selected(layer, (), f"{reason}: more than --workspace-limit")
        workload = of_one_kernel(layer.workload)
        # What is spread over the output is computed image by image.
        batch = 1 if layer.staged_bytes else layer.workload.batch
        key = (workload, batch, layer.overflows_pairs)
        if key not in self.planned:
            self.planned[key] = self._plan(layer, workload, batch)
        return self._narrower(layer, replace(self.planned[key], layer=layer))

    def _narrower(self, layer: Layer, whole: Selected) -> Selected:
        """The kernels of the layer without its zero filters, where these take less time.

        What several algorithms are compiled for is told from all others by its shape alone.
        """
        workload = narrower(layer)
        if workload is None or not whole.kernels or len(self.choices) > 1:
            return whole
        found = self._layer(replace(layer, workload=workload, zero_filters=0))
        if not found.kernels or not serves_narrower(found.kernels[0].plan):
            return whole
        alone, few = (selected.kernels[0].plan for selected in (whole, found))
        seconds = image_cost(few) + spread_seconds(alone.layer, self.simd)
        return replace(found, layer=layer) if seconds < image_cost(alone) else whole

    def _plan(self, layer: Layer, workload: Conv2dWorkload, batch: int) -> Selected:
        kernels: dict[str, tuple[Kernel, ...]] = {}
        reasons, limits = [], self.limits.of_layers([layer])
        for choice in self.choices:
            try:
                plan = plan_kernel(workload, self.simd, choice, limits)
            except Unsupported as error:
                reasons.append(str(error) if choice.algorithm == AUTO else f"{choice}: {error}")
                continue
            advice = self._advise(plan, choice, limits)
            found = self._for_batch(advice, choice, batch, limits) or [advice]
            algorithm = found[0].plan.algorithm
            name = f"lc_k{len(self.planned)}_{algorithm}"
            names = (name, f"{name}_rest")
            # What auto has chosen may be named as well.
            simd = self.simd if choice.algorithm == AUTO else None  # what was named is run
            named = map(partial(kernel_of, simd=simd), names, found)
            kernels.setdefault(algorithm, tuple(named))
        reason = None if kernels else "; ".join(reasons)
        return Selected(layer, tuple(itertools.chain(*kernels.values())), reason)

    def _for_batch(
        self, advice: Advice, choice: Choice, batch: int, limits: Limits
    ) -> list[Advice]:
        """What computes several images of a batch, and the rest of one.

        Nothing if one image at a time is best.
        """
        if batch == 1 or advice.default.calls > 1:
            return []

        def plan_of(workload: Conv2dWorkload) -> Plan:
            return plan_kernel(workload, self.simd, choice, limits)

        saving = MIN_SAVING if advice.seconds is None else DECISIVE
        shared = shared_plan(advice.default, batch, plan_of, saving)
        if shared is None:
            return []
        why = f"{shared.images} images of a batch share weights; {shared.why}"
        plans = [replace(shared, why=why), shared.of_one_image(self.simd)]
        source = advice.source and DEFAULT
        return [Advice(plan, plan, source) for plan in plans]

    def _is_automatic(self, kernel: Kernel) -> bool:
        return all(choice.algorithm != kernel.plan.algorithm for choice in self.choices)

    # Records

    def _advise(self, default: Plan, choice: Choice, limits: Limits) -> Advice:
        """``default``, or what the records have better that is still what ``choice`` names."""
        if self.advisor is None:
            return Advice(default, default)

        def accept(plan: Plan) -> bool:
            adds_pairs = any(part.adds_pairs for part in plan.parts)
            return _is_choice(plan, choice) and (limits.adds_pairs or not adds_pairs)

        return self.advisor.advise(default, accept)

    # Blocks

    def _blocks(self, layers: Sequence[Selected]) -> dict[Chain, Kernel]:
        """The chains that one kernel shall compute; no layer is in two of them."""
        asked = next(filter(_of_blocks, self.choices), None)
        automatic = any(choice.algorithm == AUTO for choice in self.choices)
        if asked is None and not automatic:
            return {}
        candidates = self._block_plans(asked or Choice(AUTO))
        if asked is not None:
            chosen = _without_overlap(candidates)
        else:
            chosen = self._saving_time(candidates, layers)
        return {
            chain: kernel_of(self._block_name(advice.plan), advice)
            for chain, advice in chosen.items()
        }

    def _block_name(self, plan: Plan) -> str:
        name = self.block_names.setdefault(plan.workload, f"lc_b{len(self.block_names)}")
        return f"{name}_{plan.algorithm}"

    def _chains(self, choice: Choice) -> dict[Chain, Workload]:
        """What one kernel may compute; of chains that are walked row by row the longest first."""
        if choice.algorithm == AUTO or REGISTRY.get(choice.algorithm).kind == "block":
            return {chain: block_of(self.network, chain) for chain in self.network.chains}
        found = sorted(find_row_chains(self.network), key=lambda item: -len(item[0]))
        return dict(found)

    def _block_plans(self, choice: Choice) -> dict[Chain, Advice]:
        """A plan for each chain that one kernel can compute; equal blocks share theirs."""
        blocks = self._chains(choice)
        layers: dict[Workload, list[Layer]] = {}
        for chain, block in blocks.items():
            layers.setdefault(block, []).extend(self.network.layers[i] for i in chain)
        plans: dict[Workload, Advice] = {}
        for block, computed in layers.items():
            limits = self.limits.of_layers(computed)
            try:
                plan = plan_kernel(block, self.simd, choice, limits)
            except Unsupported:
                continue  # its layers are computed one by one
            plans[block] = self._advise(plan, choice, limits)
        return {chain: plans[block] for chain, block in blocks.items() if block in plans}

    def _saving_time(
        self, candidates: Mapping[Chain, Advice], layers: Sequence[Selected]
    ) -> dict[Chain, Advice]:
        """The blocks that save time: where measuring is clear, and then those by the model.

        Of each, those that save most first.
        """
        measured, modelled = {}, {}
        for chain, advice in candidates.items():
            alone = [kernels[0] for i in chain if (kernels := layers[i].kernels)]
            seconds = [kernel.seconds for kernel in alone if kernel.seconds is not None]
            known = advice.seconds is not None and len(seconds) == len(chain)
            gain = sum(seconds) - (advice.seconds or 0.0)
            if known and abs(gain) > DECISIVE * sum(seconds):
                measured[chain] = gain
            elif len(alone) == len(chain):
                plans = [kernel.untuned or kernel.plan for kernel in alone]
                modelled[chain] = block_gain(advice.default, plans, self.simd, self.limits.threads)
            else:
                modelled[chain] = 1
        chosen = {}
        for gains, why in (
            (measured, "faster than its layers one by one"),
            (modelled, "saves time and the memory of what lies between"),
        ):
            for chain in sorted(gains, key=lambda chain: -gains[chain]):
                if gains[chain] > 0:
                    chosen[chain] = candidates[chain].because(why)
        return _without_overlap(chosen)


def _is_choice(plan: Plan, choice: Choice) -> bool:
    if choice.algorithm == AUTO:
        return True
    same = plan.algorithm == choice.algorithm
    return same and choice.knobs.items() <= plan.knobs.items()


def _of_blocks(choice: Choice) -> bool:
    several = ("block", "rows")
    return choice.algorithm != AUTO and REGISTRY.get(choice.algorithm).kind in several


def _overlaps(chain: Chain, others: Iterable[Chain]) -> bool:
    return any(set(chain) & set(other) for other in others)


def _without_overlap(chains: Mapping[Chain, Advice]) -> dict[Chain, Advice]:
    """Without those that share a layer with one before."""
    kept: dict[Chain, Advice] = {}
    for chain, advice in chains.items():
        if not _overlaps(chain, kept):
            kept[chain] = advice
    return kept


def kernel_of(name: str, advice: Advice, simd: Simd | None = None) -> Kernel:
    """What was advised, under its C name; with ``simd`` also what several threads run."""
    shared = advice.plan.shared(simd) if simd else None
    return Kernel(
        name,
        advice.plan,
        untuned=advice.default,
        tuning=advice.source,
        seconds=advice.seconds,
        shared=Kernel(f"{name}_shared", shared) if shared else None,
    )
