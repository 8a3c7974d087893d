"""``pooled_rows``: a layer strip by strip, each pooled at once, so that it is never stored whole.

In front of a pool, a network's tensors are largest: VGG16 holds 25.7 MB around its first one, of
which half is what the pool reads. Depth-first execution (Alwani, Chen, Ferdman and Milder,
"Fused-Layer CNN Accelerators", MICRO 2016) needs a few of its rows at a time.

A kernel of another algorithm computes ``rows`` rows of the layer, out of input rows that are there:
those beyond the image are zeros in a copy. The delegate (csrc/run/strips) calls it for one strip
after the other and pools the rows whose windows are complete. Rows that later windows need are
kept, so nothing is computed twice, unless the last strip overlaps the one before.

Workspace: the other algorithm's; beside it the strip, ``rows`` and less than a window's rows of
``W' M`` elements; and of a padded layer, the input's rows for one strip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tvm import s_tir

from schedules.algorithms.base import (
    FLOAT32,
    INT8,
    Algorithm,
    LayerAlgorithm,
    Unsupported,
    index_limit,
)
from schedules.algorithms.depthwise import Depthwise
from schedules.algorithms.indirect import Indirect
from schedules.algorithms.winograd.winograd import Winograd
from schedules.kernel.costs import Work
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name
from schedules.kernel.loop_nests import LoopNest
from schedules.kernel.packing import PackedWeights
from schedules.kernel.sharing import Share
from schedules.kernel.tiles import Product
from schedules.layer.pooled import PooledWorkload
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import align
from schedules.target.simd import Simd

#: What may compute a strip.
_KERNELS: Mapping[str, LayerAlgorithm] = {
    algorithm.name: algorithm for algorithm in (Indirect(), Winograd(), Depthwise())
}
#: Rows of a strip that are tried: Winograd's tiles have two to six.
_ROWS = (2, 4, 6, 8, 12, 16, 24, 32, 48)


class PooledRows(Algorithm[Conv2dWorkload]):
    """Depth-first execution of a layer and a pool."""

    name = "pooled_rows"
    source = "Alwani et al., Fused-Layer CNN Accelerators, MICRO 2016, of a layer and a pool"
    workspace = "a few rows of the layer's output"
    good_for = "layers in front of a pool, where memory is to be small"
    types = FLOAT32 | INT8 | {("uint8", "uint8")}
    kind = "pooled"

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        del simd
        if not isinstance(workload, PooledWorkload):
            return "nothing pools its output"
        if workload.groups > 1 and not workload.is_depthwise:
            return "its groups are computed one by one"
        if workload.domain:
            return "its weights are in Winograd's domain"
        return index_limit(workload)

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        """Every form of each kernel, for every height of the strip that has a meaning."""
        assert isinstance(workload, PooledWorkload)
        strip = _strip(workload, 1)
        return [
            {"kernel": name, "rows": rows, **form}
            for name, kernel in _KERNELS.items()
            if (name == Depthwise.name) == workload.is_depthwise
            for form in kernel.forms(strip)
            for rows in _heights(workload)
        ]

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        """``kernel``, ``rows``, and those of the default kernel."""
        return self._knobs(workload, simd, NO_KNOBS)

    def _knobs(self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs) -> dict[str, Knob]:
        assert isinstance(workload, PooledWorkload)
        default = Depthwise.name if workload.is_depthwise else Indirect.name
        heights = _heights(workload)
        own = by_name(
            Knob("kernel", tuple(_KERNELS), default), Knob("rows", heights, min(8, heights[-1]))
        )
        chosen = self.choose(workload, own, {n: v for n, v in fixed.items() if n in own})
        kernel, strip = _KERNELS[chosen["kernel"]], _strip(workload, chosen["rows"])
        reason = kernel.supports(strip, simd)
        if reason is not None:
            raise Unsupported(reason)
        return {**own, **kernel.knobs(strip, simd)}

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        knobs = self._knobs(workload, simd, fixed)
        own = {name: fixed.get(name, knobs[name].default) for name in ("kernel", "rows")}
        kernel, strip = _applied(workload, own)
        others = {name: value for name, value in fixed.items() if name not in own}
        return own | kernel.applied_to(strip).default_knobs(strip, simd, others)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        kernel, strip = _applied(workload, knobs)
        return kernel.workspace_bytes(strip, knobs)

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        kernel, strip = _applied(workload, knobs)
        return kernel.thread_bytes(strip, knobs)

    def host_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> tuple[int, int]:
        """The strip, and the input's rows at a border."""
        assert isinstance(workload, PooledWorkload)
        _, strip = _applied(workload, knobs)
        row = workload.out_width * workload.out_channels * workload.element_bytes
        is_padded = workload.pad_top or workload.pad_bottom
        held = align(workload.most_rows(knobs["rows"]) * row)
        return held, align(strip.input_bytes) if is_padded else 0

    def packed_parts(self, workload: Conv2dWorkload, knobs: Knobs) -> tuple[PackedWeights, ...]:
        kernel, strip = _applied(workload, knobs)
        return kernel.packed_parts(strip, knobs)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        """That of a strip."""
        kernel, strip = _applied(workload, knobs)
        return kernel.schedule(strip, simd, knobs)

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        kernel, strip = _applied(workload, knobs)
        return _strips(workload, knobs) * kernel.macs(strip, knobs)

    def stages(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        kernel, strip = _applied(workload, knobs)
        return [*kernel.stages(strip, simd, knobs)] * _strips(workload, knobs)

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        kernel, strip = _applied(workload, knobs)
        return [*kernel.shares(strip, simd, knobs)] * _strips(workload, knobs)

    def expected_error(self, workload: Conv2dWorkload, knobs: Knobs) -> float:
        kernel, strip = _applied(workload, knobs)
        return kernel.expected_error(strip, knobs)

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product | None:
        assert isinstance(workload, PooledWorkload)
        return Indirect().product(_strip(workload, _heights(workload)[-1]), simd)

    def loop_nests(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        kernel, strip = _applied(workload, knobs)
        return kernel.loop_nests(strip, simd, knobs)


def _applied(workload: Conv2dWorkload, knobs: Knobs) -> tuple[Algorithm[Any], Conv2dWorkload]:
    """What computes a strip, and the strip."""
    assert isinstance(workload, PooledWorkload)
    strip = _strip(workload, knobs["rows"])
    return _KERNELS[knobs["kernel"]].applied_to(strip), strip


@lru_cache(maxsize=1024)
def _strip(workload: PooledWorkload, rows: int) -> Conv2dWorkload:
    return workload.strip(rows)


def _heights(workload: PooledWorkload) -> tuple[int, ...]:
    return tuple(rows for rows in _ROWS if rows < workload.out_height) or (workload.out_height,)


def _strips(workload: Conv2dWorkload, knobs: Knobs) -> int:
    return -(-workload.out_height // knobs["rows"])
