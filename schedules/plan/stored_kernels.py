"""Compiled kernels in the store, named by their plans, the target and what lowers them.

The name is found without scheduling anything. Everything that a schedule depends on has to be in
it: the sources of :mod:`schedules`, without those that :data:`APART` names; TVM, which holds LLVM;
and the plan. An algorithm from elsewhere may depend on anything: its kernels are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from schedules.algorithms import REGISTRY
from schedules.lower import c_abi
from schedules.lower.kernel import CKernel, KernelObject, PlannedBuffer, Stage
from schedules.plan.plan import Plan
from schedules.store import Store, digest
from schedules.target.simd import Simd

#: What no kernel depends on: folders and files below ``schedules/``.
APART = ("tuning/**/*.py", "relax/*", "select/*", "target/toolchain.py")
#: What compiles kernels, and numpy, with which algorithms compute constants.
PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy")


def compile_plans(plans: Mapping[str, Plan], simd: Simd) -> KernelObject:
    """Compile one kernel a plan, named by a C identifier, into one object; or get it as it was."""
    compiled = find_kernels(plans, simd)
    if compiled is None:
        schedules = {
            name + end: schedule
            for name, plan in plans.items()
            for end, schedule in plan.schedules(simd).items()
        }
        compiled = c_abi.compile_schedules(schedules, simd)
        kernels = {name: _kernel(name, plan, compiled) for name, plan in plans.items()}
        compiled = KernelObject(compiled.data, kernels)
        keep_kernels(plans, simd, compiled)
    return compiled


def _kernel(name: str, plan: Plan, compiled: KernelObject) -> CKernel:
    """What was compiled of one plan: a kernel, or those of the rows of a chain."""
    if name in compiled.kernels:
        return compiled.kernels[name]
    members = tuple(
        kernel for symbol, kernel in compiled.kernels.items() if symbol.startswith(f"{name}_row")
    )
    rows = PlannedBuffer("rows", 0, plan.thread_bytes, per_thread=True)
    return CKernel(name, (), (rows,), members)


def find_kernels(plans: Mapping[str, Plan], simd: Simd) -> KernelObject | None:
    """What :func:`keep_kernels` kept."""
    data = _store(plans).get(kernel_key(plans, simd))
    if data is None:
        return None
    header, _, code = data.partition(b"\n")
    kernels = {name: _from_json(*kernel) for name, kernel in json.loads(header).items()}
    return KernelObject(code, kernels)


def keep_kernels(plans: Mapping[str, Plan], simd: Simd, compiled: KernelObject) -> None:
    """Keep the kernels of ``plans`` that were compiled into one object."""
    header = {name: astuple(kernel) for name, kernel in compiled.kernels.items()}
    data = json.dumps(header).encode() + b"\n" + compiled.data
    _store(plans).put(kernel_key(plans, simd), data)


def _from_json(name: str, stages: list[Any], buffers: list[Any], members: list[Any]) -> CKernel:
    return CKernel(
        name,
        tuple(Stage(*stage) for stage in stages),
        tuple(PlannedBuffer(*buffer) for buffer in buffers),
        tuple(_from_json(*member) for member in members),
    )


def _store(plans: Mapping[str, Plan]) -> Store:
    return Store.default() if all(map(_is_own, plans.values())) else Store(None)


def kernel_key(plans: Mapping[str, Plan], simd: Simd) -> str:
    """The hash of everything that the object of ``plans`` depends on."""
    parts = [_environment()]
    for name, plan in plans.items():
        knobs = sorted(plan.knobs.items())
        parts += [name, repr(plan.workload), plan.algorithm, repr(knobs)]
    target = {field.name: getattr(simd, field.name) for field in fields(simd)}
    target["features"] = sorted(simd.features)
    return digest(*parts, repr(sorted(target.items())))


@cache
def _environment() -> str:
    versions = [version(package) for package in PACKAGES]
    return digest(*versions, sources_digest(Path(__file__).parents[1]))


def sources_digest(folder: Path) -> str:
    """The hash of the sources in ``folder`` that kernels depend on, and of their names."""
    apart = {path for pattern in APART for path in folder.glob(pattern)}
    parts: list[str | bytes] = []
    for path in sorted(set(folder.rglob("*.py")) - apart):
        parts += [str(path.relative_to(folder)), path.read_bytes()]
    return digest(*parts)


def _is_own(plan: Plan) -> bool:
    def is_own(maker: object) -> bool:
        return type(maker).__module__.startswith("schedules.")

    return is_own(plan) and is_own(REGISTRY.get(plan.algorithm))
