"""Choose the kernels of a model: one for each layer, or for a block of layers that lie between.

Layers of equal shape share their kernels. A block of layers (see :mod:`tflite_delegate.chains`) is
computed by one kernel if that saves time by the planner's model; or, where memory is the objective,
if it lowers the most that the network holds at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from schedules.algorithms import Unsupported
from schedules.block import Block
from schedules.c_abi import CKernel
from schedules.errors import LeanconvError
from schedules.knobs import NO_KNOBS, Knobs
from schedules.planner import (
    AUTO,
    FUSED_BLOCK,
    OBJECTIVES,
    Choice,
    Limits,
    Plan,
    block_gain,
    plan_block,
    plan_form,
    plan_layer,
)
from schedules.simd import Simd
from schedules.workload import Conv2dWorkload
from tflite_delegate import model as tflite_model
from tflite_delegate.arena import held_bytes
from tflite_delegate.chains import Chain
from tflite_delegate.model import Layer, Model


@dataclass(frozen=True)
class Kernel:
    """A plan under its C name; once compiled, with its object."""

    name: str
    plan: Plan
    compiled: CKernel | None = None
    data: bytes = b""


@dataclass(frozen=True)
class Selected:
    """A layer of the model and its kernels, the default first, or the reason why it has none."""

    layer: Layer
    kernels: tuple[Kernel, ...]
    reason: str | None


@dataclass(frozen=True)
class Selection:
    """What to compile for a model.

    Parameters
    ----------
    layers : tuple of Selected
        Every layer of the model, in its order.
    blocks : mapping of Chain to Kernel
        Positions of the layers that one kernel computes.
    """

    model: Model
    simd: Simd
    objective: str
    layers: tuple[Selected, ...]
    blocks: Mapping[Chain, Kernel] = field(default_factory=dict)

    @property
    def kernels(self) -> list[Kernel]:
        """Every kernel once: longer chains first, then the defaults of all layers."""
        longest = max((len(selected.kernels) for selected in self.layers), default=0)
        ranked = [
            selected.kernels[rank]
            for rank in range(longest)
            for selected in self.layers
            if rank < len(selected.kernels)
        ]
        ranked.sort(key=lambda kernel: -len(kernel.plan.layers))
        return list({kernel.name: kernel for kernel in ranked}.values())


def select(
    model_path: str | Path,
    simd: Simd,
    algorithms: Sequence[str],
    limits: Limits,
    objective: str = "time",
) -> Selection:
    """Plan every layer that can be taken.

    Raises
    ------
    LeanconvError
        If the model cannot be read, an option makes no sense, or there is nothing to compile.
    """
    if objective not in OBJECTIVES:
        raise LeanconvError(f"unknown objective {objective!r}: one of {', '.join(OBJECTIVES)}")
    choices = [Choice.parse(text) for text in dict.fromkeys(algorithms)]
    names = [choice.algorithm for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise LeanconvError(f"{name} is named twice: a delegate holds one form of it")
    planner = _Planner(tflite_model.read(model_path), simd, choices, limits, objective)
    planner.check_knobs()
    selection = planner.select()
    if not selection.kernels:
        raise LeanconvError(_nothing_to_compile(selection))
    return selection


@dataclass
class _Planner:
    """Plans of a model's layers and blocks, each made once."""

    model: Model
    simd: Simd
    choices: Sequence[Choice]
    limits: Limits
    objective: str
    planned: dict[Conv2dWorkload, Selected] = field(default_factory=dict)

    def select(self) -> Selection:
        """Everything that is to be compiled."""
        layers = [self._layer(layer) for layer in self.model.layers]
        blocks = self._blocks(layers)
        for chain, kernel in blocks.items():
            for position in chain:
                selected = layers[position]
                # What was chosen to minimise something has been outdone by the block.
                named = (k for k in selected.kernels if not self._is_automatic(k))
                layers[position] = replace(selected, kernels=(kernel, *named))
        return Selection(self.model, self.simd, self.objective, tuple(layers), blocks)

    def check_knobs(self) -> None:
        """Refuse a choice whose knobs nothing has: a mistake, even if another choice serves all.

        A layer that offers less than others, as a 1x1 convolution does, is left out of that choice.
        """
        for choice in self.choices:
            error = None
            for workload in self._candidates(choice) if choice.knobs else ():
                try:
                    if isinstance(workload, Block):
                        plan_block(workload, self.simd, choice.knobs)
                    else:
                        plan_form(choice, workload, self.simd)
                    break
                except Unsupported as reason:
                    error = reason
            else:
                if error is not None:
                    raise LeanconvError(f"no layer can be compiled with {choice}: {error}")

    def _candidates(self, choice: Choice) -> list[Conv2dWorkload | Block]:
        if choice.algorithm == FUSED_BLOCK.name:
            return [self._block(chain) for chain in self.model.chains]
        layers = self.model.layers
        return [of_one_kernel(la.workload) for la in layers if la.workload is not None]

    def _layer(self, layer: Layer) -> Selected:
        """One kernel for each choice that can serve the layer, or why none can."""
        if layer.workload is None:
            return Selected(layer, (), layer.reason)
        workload = of_one_kernel(layer.workload)
        if workload not in self.planned:
            self.planned[workload] = self._plan(layer, workload)
        return replace(self.planned[workload], layer=layer)

    def _plan(self, layer: Layer, workload: Conv2dWorkload) -> Selected:
        kernels: dict[str, Kernel] = {}
        reasons = []
        for choice in self.choices:
            try:
                plan = plan_layer(workload, self.simd, choice, self.limits, self.objective)
            except Unsupported as error:
                reasons.append(str(error) if choice.algorithm == AUTO else f"{choice}: {error}")
                continue
            # What auto has chosen may be named as well.
            name = f"lc_k{len(self.planned)}_{plan.algorithm}"
            kernels.setdefault(plan.algorithm, Kernel(name, plan))
        reason = None if kernels else "; ".join(reasons)
        return Selected(layer, tuple(kernels.values()), reason)

    def _is_automatic(self, kernel: Kernel) -> bool:
        return all(choice.algorithm != kernel.plan.algorithm for choice in self.choices)

    # Blocks

    def _blocks(self, layers: Sequence[Selected]) -> dict[Chain, Kernel]:
        """The chains that one kernel shall compute; no layer is in two of them."""
        asked = next((c for c in self.choices if c.algorithm == FUSED_BLOCK.name), None)
        automatic = any(choice.algorithm == AUTO for choice in self.choices)
        if asked is None and not automatic:
            return {}
        candidates = self._block_plans(asked.knobs if asked else NO_KNOBS)
        if asked is not None:
            chosen = _without_overlap(candidates)
        elif self.objective == "time":
            chosen = self._saving_time(candidates, layers)
        else:
            chosen = self._lowering_peak(candidates, layers)
        names = {plan.workload: f"lc_b{index}" for index, plan in enumerate(chosen.values())}
        return {
            chain: Kernel(f"{names[plan.workload]}_{plan.algorithm}", plan)
            for chain, plan in chosen.items()
        }

    def _block_plans(self, knobs: Knobs) -> dict[Chain, Plan]:
        """A plan for each chain that one kernel can compute; equal blocks share theirs."""
        blocks = {chain: self._block(chain) for chain in self.model.chains}
        plans: dict[Block, Plan] = {}
        for block in dict.fromkeys(blocks.values()):
            try:
                plans[block] = plan_block(block, self.simd, knobs, self.limits)
            except Unsupported:
                continue  # its layers are computed one by one
        return {chain: plans[block] for chain, block in blocks.items() if block in plans}

    def _block(self, chain: Chain) -> Block:
        workloads = [self.model.layers[position].workload for position in chain]
        return Block(tuple(workload.with_batch(1) for workload in workloads if workload))

    def _saving_time(
        self, candidates: Mapping[Chain, Plan], layers: Sequence[Selected]
    ) -> dict[Chain, Plan]:
        """The blocks that save modelled time, those that save most first."""
        gains = {}
        for chain, plan in candidates.items():
            plans = [kernels[0].plan for i in chain if (kernels := layers[i].kernels)]
            gain = block_gain(plan, plans, self.simd) if len(plans) == len(chain) else 1
            if gain > 0:
                why = "saves time and the memory of what lies between"
                gains[chain] = gain, replace(plan, why=why)
        ranked = sorted(gains, key=lambda chain: -gains[chain][0])
        return _without_overlap({chain: gains[chain][1] for chain in ranked})

    def _lowering_peak(
        self, candidates: Mapping[Chain, Plan], layers: Sequence[Selected]
    ) -> dict[Chain, Plan]:
        """The blocks without which the network would hold more at once than it has to."""
        alone = {i: s.kernels[0].plan for i, s in enumerate(layers) if s.kernels}

        def held(chains: Iterable[Chain]) -> list[int]:
            """Bytes while each step runs, the most first."""
            blocks = {chain: candidates[chain] for chain in chains}
            return sorted(held_bytes(self.model, alone, blocks), reverse=True)

        # Steps that hold equally much are lowered one after another.
        chosen: list[Chain] = []
        while True:
            free = [chain for chain in candidates if not _overlaps(chain, chosen)]
            best = min(free, key=lambda chain: held([*chosen, chain]), default=None)
            if best is None or held([*chosen, best]) >= held(chosen):
                break
            chosen.append(best)
        # Then those that lowered something else than the most are given up again.
        peak = held(chosen)[0]
        for chain in list(chosen):
            others = [other for other in chosen if other != chain]
            if held(others)[0] <= peak:
                chosen = others
        why = f"without it, the network holds more than {peak} bytes at once"
        return {chain: replace(candidates[chain], why=why) for chain in chosen}


def _overlaps(chain: Chain, others: Iterable[Chain]) -> bool:
    return any(set(chain) & set(other) for other in others)


def _without_overlap(plans: Mapping[Chain, Plan]) -> dict[Chain, Plan]:
    """Without those that share a layer with one before."""
    kept: dict[Chain, Plan] = {}
    for chain, plan in plans.items():
        if not _overlaps(chain, kept):
            kept[chain] = plan
    return kept


def of_one_kernel(workload: Conv2dWorkload) -> Conv2dWorkload:
    """What a kernel computes; the delegate loops over the batch, and over most groups."""
    return workload.with_batch(1).of_one_kernel()


def _nothing_to_compile(selection: Selection) -> str:
    name = selection.model.path.name
    if not selection.layers:
        return f"{name} has no convolutions: there is nothing to compile"
    first = next((s for s in selection.layers if s.layer.op == "CONV_2D"), selection.layers[0])
    return (
        f"{name} has no float32 convolution that leanconv can take: "
        f"node {first.layer.index}, {first.layer.op} {first.layer.geometry}: {first.reason}"
    )
