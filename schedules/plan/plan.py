"""How one kernel computes a layer, or a block of layers, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tvm import s_tir

from schedules.algorithms import REGISTRY, Algorithm, Unsupported
from schedules.algorithms.base import KINDS, MAX_ELEMENTS
from schedules.kernel.knobs import Knobs
from schedules.kernel.loop_nests import LoopNest
from schedules.kernel.packing import PACKED, PackedWeights
from schedules.layer.block import Workload
from schedules.layer.row_chain import RowChain
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import align
from schedules.lower.passes import spread_output
from schedules.plan.choice import Choice
from schedules.target.simd import Simd


@dataclass(frozen=True)
class Plan:
    """How one kernel computes a layer, or a block of layers.

    Parameters
    ----------
    workload, algorithm, knobs
        What is computed, and how.
    workspace_bytes : int
        For one thread.
    thread_bytes : int
        Those of them that each further thread needs too.
    parts : tuple of PackedWeights
        How the kernel expects the weights of each layer that it computes.
    macs : int
        Multiply-accumulates that it does, borders and tails counted as if full.
    cost : float
        Modelled time, in seconds: of one thread, or of those for which it was planned.
    expected_error : float
        Relative (see :mod:`schedules.kernel.accuracy`).
    host_bytes : tuple of int
        As of :meth:`schedules.algorithms.Algorithm.host_bytes`; no part of the workspace above.
    overwrites : str or None
        What the output may lie in the place of: :meth:`schedules.algorithms.Algorithm.overwrites`.
    why : str
        Why it was chosen, for people.
    rejected : tuple of str
        Forms of lower cost, and the limits that each exceeds.
    """

    workload: Workload
    algorithm: str
    knobs: Knobs
    workspace_bytes: int
    parts: tuple[PackedWeights, ...]
    macs: int = 0
    cost: float = 0.0
    expected_error: float = 0.0
    thread_bytes: int = 0
    host_bytes: tuple[int, int] = (0, 0)
    overwrites: str | None = None
    why: str = ""
    rejected: tuple[str, ...] = ()

    @classmethod
    def of(cls, choice: Choice, workload: Workload, simd: Simd, threads: int = 1) -> Plan:
        """How ``choice``, with the untuned values of other knobs, computes it, whatever it costs.

        Its cost is that of so many ``threads``.

        Raises
        ------
        Unsupported
            If it cannot.
        """
        algorithm = REGISTRY.get(choice.algorithm)
        if algorithm not in REGISTRY.made_for(workload):
            raise Unsupported(f"it computes {KINDS[algorithm.kind]}")
        for layer in workload.layers:
            if layer.types not in algorithm.types:
                raise Unsupported("it does not compute {} with {} weights".format(*layer.types))
            if layer.dtype == "float16" and not simd.computes_float16:
                raise Unsupported(f"{simd.name} has no arithmetic of float16")
        reason = algorithm.supports(workload, simd)
        if reason is not None:
            raise Unsupported(reason)
        knobs = algorithm.applied_to(workload).default_knobs(workload, simd, choice.knobs)
        return cls._with_knobs(algorithm, workload, simd, knobs, str(choice), threads)

    @classmethod
    def _with_knobs(
        cls,
        algorithm: Algorithm,
        workload: Workload,
        simd: Simd,
        knobs: Knobs,
        why: str,
        threads: int = 1,
    ) -> Plan:
        algorithm = algorithm.applied_to(workload)
        workspace = algorithm.workspace_bytes(workload, knobs)
        parts = algorithm.packed_parts(workload, knobs)
        for what, elements in (
            ("workspace", workspace // workload.element_bytes),
            ("packed weights", max(part.elements for part in parts)),
        ):
            if elements > MAX_ELEMENTS:
                raise Unsupported(f"its {what} of {elements} elements needs 64-bit indices")
        return cls(
            workload,
            algorithm.name,
            knobs,
            workspace,
            parts,
            algorithm.macs(workload, knobs),
            algorithm.cost(workload, simd, knobs, threads),
            algorithm.expected_error(workload, knobs),
            algorithm.thread_bytes(workload, knobs),
            algorithm.host_bytes(workload, knobs),
            algorithm.overwrites(workload, knobs),
            why=why,
        )

    def of_one_image(self, simd: Simd) -> Plan:
        """A kernel for a single image that reads the weights of this one for several.

        It has all of its knobs: these say how weights are packed.
        """
        algorithm, single = REGISTRY.get(self.algorithm), self.layer.with_batch(1)
        return self._with_knobs(algorithm, single, simd, self.knobs, "for what is left of a batch")

    def shared(self, simd: Simd) -> Plan | None:
        """What several threads had better compute it by, with this one's packed weights.

        ``None`` if that is this plan.
        """
        name = REGISTRY.get(self.algorithm).shared_as
        if name is None:
            return None
        choice = Choice.of(name, {"weights": PACKED, "panel": self.knobs["panel"]})
        try:
            plan = Plan.of(choice, self.workload, simd)
        except Unsupported:
            return None
        is_alike = (plan.parts, plan.overwrites) == (self.parts, self.overwrites)
        return replace(plan, why="for several threads") if is_alike else None

    @property
    def choice(self) -> Choice:
        """The algorithm with all of its knobs."""
        return Choice.of(self.algorithm, self.knobs)

    @property
    def transforms(self) -> bool:
        """Whether the kernel multiplies transformed operands."""
        return REGISTRY.get(self.algorithm).transforms

    @property
    def _applied(self) -> Algorithm:
        return REGISTRY.get(self.algorithm).applied_to(self.workload)

    @property
    def packed(self) -> PackedWeights:
        """How a kernel of one layer expects its weights."""
        (part,) = self.parts
        return part

    @property
    def layers(self) -> tuple[Conv2dWorkload, ...]:
        """The layers that the kernel computes, one after the other."""
        return self.workload.layers

    @property
    def layer(self) -> Conv2dWorkload:
        """The only one of these."""
        (layer,) = self.layers
        return layer

    @property
    def images(self) -> int:
        """Images that one call computes."""
        return self.layers[0].batch

    @property
    def calls(self) -> int:
        """Calls that compute the layer: one a group, unless the kernel does all of them."""
        return self.workload.calls

    @property
    def held_bytes(self) -> int:
        """Workspace, and packed weights that are not read where the model has them."""
        parts = zip(self.layers, self.parts, strict=True)
        held = (part.bytes for layer, part in parts if not part.is_in_place(layer))
        return self.workspace_bytes + self.calls * sum(held)

    def workspace_of(self, threads: int) -> int:
        """Bytes of workspace for so many threads."""
        return self.workspace_bytes + (threads - 1) * align(self.thread_bytes)

    def describe(self) -> str:
        """What is computed, for tables and profiles."""
        return self.workload.all_groups().describe()

    def loop_nests(self, simd: Simd) -> Sequence[LoopNest]:
        """The loops in which the kernel spends its time."""
        return self._applied.loop_nests(self.workload, simd, self.knobs)

    def schedule(self, simd: Simd) -> s_tir.Schedule:
        """The scheduled kernel."""
        schedule = self._applied.schedule(self.workload, simd, self.knobs)
        if self.calls > 1:
            spread_output(schedule, self.layer.out_pitch)
        return schedule

    def schedules(self, simd: Simd) -> Mapping[str, s_tir.Schedule]:
        """Every function to compile, by the end of its name: the kernel, or one for each row."""
        if not isinstance(self.workload, RowChain):
            return {"": self.schedule(simd)}
        return self._applied.schedules(self.workload, simd, self.knobs)
