"""What there is to tune in models: each of their distinct layers and blocks, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from schedules.algorithms import REGISTRY
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import FUSED_BLOCK
from schedules.select.selection import block_of, of_one_kernel
from schedules.target.simd import Simd
from schedules.tuning.records.task import Task
from tflite_delegate.read.model import Model


def tasks(models: Sequence[Model], simd: Simd) -> list[Task]:
    """Layers that some algorithm serves, then blocks that one kernel can compute.

    In the models' order. What is counted are calls of a kernel for one inference of every model:
    one for each image of a batch, and for each group of a layer.
    """
    layers: Counter[Conv2dWorkload] = Counter()
    blocks: Counter[Block] = Counter()
    for model in (graph for whole in models for graph in whole.graphs):
        for layer in model.layers:
            if layer.workload is not None:
                workload = of_one_kernel(layer.workload)
                layers[workload] += layer.workload.batch * workload.group_of
        for chain in model.chains:
            first = model.layers[chain[0]].workload
            assert first is not None
            blocks[block_of(model, chain)] += first.batch
    return [
        *(Task(layer, count) for layer, count in layers.items() if _is_served(layer, simd)),
        *(
            Task(block, count)
            for block, count in blocks.items()
            if FUSED_BLOCK.supports(block, simd) is None
        ),
    ]


def _is_served(workload: Conv2dWorkload, simd: Simd) -> bool:
    names = REGISTRY.names()
    return any(REGISTRY.get(name).supports(workload, simd) is None for name in names)
