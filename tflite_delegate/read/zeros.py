"""How many weights and filters of a layer are zero."""

from __future__ import annotations

import math

import numpy as np

from schedules.layer.sparsity import zeros_of
from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.read.graph import Graph

#: Types of input and weights whose zeros are told.
FLOATS = (("float32", "float32"), ("float32", "float16"))


def zeros_of_layer(graph: Graph, weights: int, workload: Conv2dWorkload) -> tuple[int, int]:
    """Percent of zeros, sparse constants or not, and zero filters of those that are not sparse.

    As far as they matter: of layers of floats without groups. ``weights`` are a whole constant,
    behind DEQUANTIZE and DENSIFY or not.
    """
    if workload.groups > 1 or workload.types not in FLOATS:
        return 0, 0
    index = graph.stored_behind(weights)
    dtype = np.dtype(graph.tensor(index).type).newbyteorder("<")
    stored, elements = graph.content_of(index), math.prod(workload.weight_shape)
    count = min(stored.size // dtype.itemsize, elements)
    values = stored[: count * dtype.itemsize].view(dtype)
    filters = 0
    if count == elements and graph.tensor(index).sparsity is None:
        filters = int(np.sum(~values.reshape(workload.out_channels, -1).any(axis=1)))
    return zeros_of(values, elements), filters
