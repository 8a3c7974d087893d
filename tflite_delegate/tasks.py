"""What there is to tune in models: each of their distinct layers and blocks, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from schedules.algorithms import REGISTRY
from schedules.layer.block import Workload
from schedules.layer.network import block_of, of_one_kernel
from schedules.target.simd import Simd
from schedules.tuning.measure.bytes import is_measured
from schedules.tuning.records.task import Task
from tflite_delegate.read.model import Model


def tasks(models: Sequence[Model], simd: Simd) -> list[Task]:
    """Layers that some algorithm serves, then blocks that one kernel can compute.

    In the models' order. What is counted are calls of a kernel for one inference of every model:
    one for each image of a batch, and for each group of a layer.
    """
    layers: Counter[Workload] = Counter()
    blocks: Counter[Workload] = Counter()
    for model in (graph for whole in models for graph in whole.graphs):
        for layer in model.layers:
            if layer.workload is not None:
                workload = of_one_kernel(layer.workload)
                layers[workload] += layer.workload.batch * workload.calls
        for chain in model.chains:
            first = model.layers[chain[0]].workload
            assert first is not None
            blocks[block_of(model, chain)] += first.batch
    counts = [*layers.items(), *blocks.items()]
    return [Task(workload, count) for workload, count in counts if _is_served(workload, simd)]


def _is_served(workload: Workload, simd: Simd) -> bool:
    """Whether its outputs are known when it is measured, and some algorithm has a kernel."""
    layers = workload.layers
    has_bytes = any(w.weight_dtype == "int8" and w.dtype == "float32" for w in layers)
    if has_bytes and (len(layers) > 1 or not is_measured(layers[0])):
        return False
    algorithms = REGISTRY.made_for(workload)
    return any(algorithm.supports(workload, simd) is None for algorithm in algorithms)
