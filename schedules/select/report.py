"""What became of each layer of a network, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedules.budget.arena import held_bytes, node_workspace
from schedules.budget.forms import packed_bytes
from schedules.layer.network import Layer
from schedules.lower.kernel import CKernel
from schedules.plan.plan import Plan
from schedules.select.selection import Kernel, Selection
from schedules.tuning.advice import Advisor

#: Of algorithms that transform: their sums mix all that an output tile reads.
NAN_SPREADS = "NaN or infinities in the image make NaN of whole tiles"


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    ``workspace_bytes`` counts one thread, and each further one needs ``thread_bytes`` more, unless
    several run another kernel, of which ``why`` tells; groups use it one after another.
    ``algorithm``, ``knobs`` and the byte counts are those of the default kernel where several
    algorithms are compiled for the layer. ``nodes`` are the node ``index`` and the neighbours that
    the kernel does as well; ``block`` the indices of all layers that it computes, if they are
    several. ``embedded`` says that packed weights are data of the library, and not on the heap.
    """

    index: int
    nodes: Sequence[int]
    op: str
    geometry: str
    claimed: bool
    algorithm: str | None
    block: Sequence[int]
    knobs: Mapping[str, Any] | None
    workspace_bytes: int
    thread_bytes: int
    weight_bytes: int
    packed_bytes: int
    embedded: bool
    macs: int
    kernel_macs: int
    precision: str | None
    expected_error: float | None
    why: str | None
    rejected: Sequence[str]
    reason: str | None
    tuning: str | None
    seconds: float | None


@dataclass(frozen=True)
class TuningReport:
    """The records that were used: of which board, and whether it was measured or modelled.

    ``warnings`` are about records that could not be.
    """

    board: str
    cost_kind: str
    warnings: tuple[str, ...]


def tuning_report(advisor: Advisor | None) -> TuningReport | None:
    """The records that ``advisor`` was made of."""
    if advisor is None:
        return None
    return TuningReport(advisor.board, advisor.cost_kind, tuple(advisor.warnings))


def peak_bytes(selection: Selection) -> int:
    """The most that tensors and workspace take at once."""
    threads = selection.threads
    plans = {chain: kernel.on(threads).plan for chain, kernel in selection.units.items()}
    return max(held_bytes(selection.network, plans, threads), default=0)


def layer_reports(selection: Selection, compiled: Mapping[str, CKernel]) -> tuple[LayerReport, ...]:
    """One for each layer of the network; ``compiled`` has its kernels by name."""
    positions = range(len(selection.layers))
    return tuple(_layer_report(selection, compiled, position) for position in positions)


def _layer_report(
    selection: Selection, compiled: Mapping[str, CKernel], position: int
) -> LayerReport:
    selected = selection.layers[position]
    layer = selected.layer
    kernel = selected.kernels[0] if selected.kernels else None
    plan = kernel.plan if kernel else None
    chain = next((chain for chain in selection.blocks if position in chain), (position,))
    computed = [selection.layers[i].layer for i in chain]
    place = chain.index(position) if plan and len(plan.layers) > 1 else 0
    return LayerReport(
        index=layer.index,
        nodes=list(layer.nodes),
        op=layer.op,
        geometry=layer.geometry,
        claimed=plan is not None,
        algorithm=plan.algorithm if plan else None,
        block=[selection.layers[i].layer.index for i in chain] if len(chain) > 1 else [],
        knobs=dict(plan.knobs) if plan else None,
        workspace_bytes=node_workspace(plan, computed) if plan else 0,
        thread_bytes=compiled[kernel.name].thread_bytes if kernel else 0,
        weight_bytes=layer.weight_bytes,
        packed_bytes=packed_bytes(layer, plan, place) if plan else 0,
        embedded=chain in selection.embedded,
        macs=layer.macs,
        kernel_macs=_kernel_macs(plan, place) if plan else 0,
        precision=plan.layers[place].dtype if plan else None,
        expected_error=plan.expected_error if plan else None,
        why=_why(kernel) if kernel else None,
        rejected=list(plan.rejected) if plan else [],
        reason=selected.reason,
        tuning=kernel.tuning if kernel else None,
        seconds=_seconds(layer, kernel) if kernel and place == 0 else None,
    )


def _why(kernel: Kernel) -> str:
    """Why this algorithm, what it does that others do not, and what several threads run."""
    plan, shared = kernel.plan, kernel.shared
    spreads = plan.transforms and not plan.layers[0].is_quantised
    text = f"{plan.why}; {NAN_SPREADS}" if spreads else plan.why
    return f"{text}; several threads run {shared.plan.algorithm}" if shared else text


def _seconds(layer: Layer, kernel: Kernel) -> float | None:
    """Of the layer, or of the block that begins with it, by the records."""
    assert layer.workload is not None
    return None if kernel.seconds is None else layer.workload.batch * kernel.seconds


def _kernel_macs(plan: Plan, place: int) -> int:
    """Multiply-accumulates of one layer and image; what is done twice, the first layer does."""
    later = sum(layer.macs for layer in plan.layers[1:])
    macs = plan.macs - later if place == 0 else plan.layers[place].macs
    return plan.calls * macs // plan.images
