"""Chains of pointwise layers in one kernel, and delegates for kernels that a test plans itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tvm import s_tir, te

from schedules.kernel import epilogue, packing
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.stages import mark_stage
from schedules.plan.plan import Plan
from schedules.plan.stored_kernels import compile_plans
from schedules.select.selection import Kernel
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from tflite_delegate import build as builder
from tflite_delegate.sources import copy_sources
from tflite_delegate.table import kernel_table


@dataclass(frozen=True)
class ChainPlan(Plan):
    """A naive kernel for pointwise layers: row by row, with one row of every intermediate."""

    chain: tuple[Conv2dWorkload, ...] = ()

    @classmethod
    def through(cls, *chain: Conv2dWorkload) -> ChainPlan:
        """For layers each of which reads the output of the one before; weights are read as rows."""
        assert all(layer.is_pointwise and layer.batch == 1 for layer in chain)
        parts = tuple(replace(packing.rows(layer), dtype=layer.dtype) for layer in chain)
        return cls(chain[0], "naive_chain", {}, 0, parts, chain=chain)

    @property
    def layers(self) -> tuple[Conv2dWorkload, ...]:
        return self.chain

    def describe(self) -> str:
        return " | ".join(layer.describe() for layer in self.chain)

    def schedule(self, simd: Simd) -> s_tir.Schedule:
        first, last = self.chain[0], self.chain[-1]
        x = te.placeholder(first.input_shape, name="X")
        residual = [te.placeholder(last.output_shape, name="R")] if last.residual else []
        weights, biases, value = [], [], x
        for number, layer in enumerate(self.chain):
            shape = (layer.out_channels, layer.in_channels)
            weights.append(te.placeholder(shape, name=f"W{number}"))
            biases.append(te.placeholder((layer.out_channels,), name=f"B{number}"))
            sums = _product(value, weights[-1], layer, number)
            name = "Y" if number == len(self.chain) - 1 else f"T{number}"
            value = _finished(sums, biases[-1], layer, residual if name == "Y" else [], name)
        arguments = [x, *residual, *weights, *biases, value]
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        rows = schedule.get_loops(schedule.get_sblock("Y"))[1]
        names = [f"{kind}{n}" for n in range(len(self.chain)) for kind in ("SUM", "T")][:-1]
        for name in reversed(names):
            schedule.compute_at(schedule.get_sblock(name), rows)
        mark_stage(schedule, rows)
        return schedule


def _product(x: te.Tensor, weights: te.Tensor, layer: Conv2dWorkload, number: int) -> te.Tensor:
    c = te.reduce_axis((0, layer.in_channels), "c")
    return te.compute(
        layer.output_shape,
        lambda n, h, w, m: te.sum(x[n, h, w, c] * weights[m, c], axis=c),
        name=f"SUM{number}",
    )


def _finished(
    sums: te.Tensor, bias: te.Tensor, layer: Conv2dWorkload, residual: list[te.Tensor], name: str
) -> te.Tensor:
    def element(n: object, h: object, w: object, m: object) -> object:
        added = residual[0][n, h, w, m] if residual else None
        return epilogue.finish(sums[n, h, w, m], bias[m], layer, added)

    return te.compute(layer.output_shape, element, name=name)


def build_kernels(plans: Mapping[str, Plan], library: Path, simd: Simd) -> None:
    """A delegate with exactly these kernels, in this order."""
    compiled = compile_plans(plans, simd)
    kernels = [Kernel(n, plan, compiled.kernels[n]) for n, plan in plans.items()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "compiled.o").write_bytes(compiled.data)
        sources = copy_sources(folder)
        (folder / builder.TABLE).write_text(kernel_table(kernels, "test", simd))
        sources.append(builder.TABLE)
        Toolchain.default().link_library(folder, sources, ["compiled.o"], library, simd)
