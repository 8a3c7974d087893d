"""How many weights of a layer are zero."""

from __future__ import annotations

import math

import numpy as np

from schedules.layer.sparsity import zeros_of
from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.read.graph import Graph

#: Types of input and weights whose zeros are told.
FLOATS = (("float32", "float32"), ("float32", "float16"))


def percent_of_zeros(graph: Graph, weights: int, workload: Conv2dWorkload) -> int:
    """As far as it matters: of layers of floats without groups, sparse constants or not.

    ``weights`` are a whole constant, behind DEQUANTIZE and DENSIFY or not.
    """
    if workload.groups > 1 or workload.types not in FLOATS:
        return 0
    index = graph.stored_behind(weights)
    dtype = np.dtype(graph.tensor(index).type).newbyteorder("<")
    stored, elements = graph.content_of(index), math.prod(workload.weight_shape)
    count = min(stored.size // dtype.itemsize, elements)
    return zeros_of(stored[: count * dtype.itemsize].view(dtype), elements)
