"""How far two implementations of a network in float32 may be apart.

Each layer's rounding errors are bounded as in tvmc/rounding.py. The networks' weights are scaled
such that a layer passes on a disturbance as it passes on its input (models/random_weights.py),
neither amplified nor damped relative to the values, so the disturbances of all layers add:

    max |got - expected| <= 2 sqrt(2 ln(2 / d)) u (sum over layers of sqrt(K)) max |expected|,

where a final softmax p multiplies relative disturbances of its input z by at most twice the
largest |z|, which is at most ln(max p / min p).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.algorithms.winograd.domain import Domain
from schedules.kernel.accuracy import UNIT_ROUNDOFF
from schedules.layer.workload import Conv2dWorkload
from schedules.transforms.cook_toom import Filtering
from tflite_delegate.read import model as tflite_model
from tvmc.comparing.rounding import SPREAD, root_of_terms, winograd_outputs
from tvmc.running.interpreter import Session


def network_bound(
    graph: Path, report: Mapping[str, Any], built_in: Session, expected: Sequence[NDArray[Any]]
) -> float:
    """The bound at the top of this file, the largest over all outputs.

    Parameters
    ----------
    graph, report : path, mapping
        The .tflite file, and ``to_dict()`` of the report on what was compiled for it: the
        ``layers`` of a delegate or of a module for TVM are the file's, in the same order.
    built_in : Session
        The same file without delegates.
    expected : sequence of arrays
        Its outputs.
    """
    depth = sum(_sums(graph, report, built_in))
    relative = 2 * SPREAD * UNIT_ROUNDOFF * depth
    bound = 0.0
    for output in expected:
        is_softmax = bool(output.min() >= 0 and abs(float(output.sum()) - 1) < 1e-3)
        tiny = np.finfo(np.float32).tiny
        logits = math.log(output.max() / max(output.min(), tiny)) if is_softmax else 0.5
        bound = max(bound, relative * 2 * logits * float(np.abs(output).max()))
    return bound


def winograd_transforms(
    entry: Mapping[str, Any], workload: Conv2dWorkload | None
) -> tuple[Filtering, Filtering] | None:
    """The F(m, r) of a layer, down and across, if its report says that it is Winograd's."""
    if entry["algorithm"] != "winograd":
        return None
    assert workload is not None
    domain = Domain.of(workload, entry["knobs"])
    return domain.rows, domain.columns


def _sums(graph: Path, report: Mapping[str, Any], built_in: Session) -> list[float]:
    """What every layer with weights adds to the sum over layers.

    Also those that no delegate claims: XNNPACK rounds otherwise than the built-in kernels.
    """
    shapes = {
        details["index"]: details["shape"].tolist()
        for details in built_in.interpreter.get_tensor_details()
    }
    # Of a layer that cannot be compiled, only TFLite knows the weights.
    weights = {
        node["index"]: shapes[node["inputs"][1]]
        for node in built_in.interpreter._get_ops_details()
        if node["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    }
    sums = []
    for layer, entry in zip(tflite_model.read(graph).layers, report["layers"], strict=True):
        if layer.workload is not None:
            kernel = [layer.workload.kernel_height, layer.workload.kernel_width]
            channels = layer.workload.weight_shape[-1]
        elif layer.index in weights:
            # The last axis of depthwise weights is the output's channels, the first one is 1.
            shape = weights[layer.index]
            kernel = shape[1:3] if len(shape) == 4 else [1, 1]
            channels = 1 if layer.op == "DEPTHWISE_CONV_2D" else shape[-1]
        else:
            continue
        is_strassen = entry["algorithm"] == "strassen"
        sums.append(root_of_terms(kernel, channels, winograd_outputs(entry), is_strassen))
    return sums
