"""A convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND becomes a dilated one.

So converters write a dilated convolution of Keras. The image, padded by p, is cut into b x b images
of every b-th pixel, which are convolved without padding, put together again and cropped by c. That
is one convolution with dilation b over an image padded by p - c.
"""

from __future__ import annotations

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import tflite

from tflite_delegate.importer.editable import (
    EditableGraph,
    EditableModel,
    EditableOperator,
    EditableTensor,
)

_OPTIONS = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}
#: The fields of both tables of options.
_FIELDS = ("Padding", "StrideW", "StrideH", "FusedActivationFunction")


def merge_dilations(model: EditableModel, graph: EditableGraph) -> None:
    """Replace each such group of three nodes in ``graph``, by two if the padding needs a PAD."""
    producers = {tensor: node for node in graph.operators for tensor in node.outputs}
    for batch_to_space in list(graph.operators):
        if batch_to_space.name != "BATCH_TO_SPACE_ND":
            continue
        conv = _producer(graph, producers, batch_to_space)
        space_to_batch = None if conv is None else _producer(graph, producers, conv)
        if (
            conv is not None
            and space_to_batch is not None
            and conv.name in _OPTIONS
            and space_to_batch.name == "SPACE_TO_BATCH_ND"
        ):
            _merge(model, graph, space_to_batch, conv, batch_to_space)


def _producer(
    graph: EditableGraph, producers: dict[int, EditableOperator], node: EditableOperator
) -> EditableOperator | None:
    """The node that computes the first operand, if for nobody else."""
    tensor = node.inputs[0] if node.inputs else -1
    readers = sum(other.inputs.count(tensor) for other in graph.operators)
    return producers.get(tensor) if readers == 1 and tensor not in graph.outputs else None


def _merge(
    model: EditableModel,
    graph: EditableGraph,
    space_to_batch: EditableOperator,
    conv: EditableOperator,
    batch_to_space: EditableOperator,
) -> None:
    options = conv.options(_OPTIONS[conv.name])
    blocks = [_pairs(graph, node, 1) for node in (space_to_batch, batch_to_space)]
    paddings, crops = _pairs(graph, space_to_batch, 2), _pairs(graph, batch_to_space, 2)
    if options is None or paddings is None or crops is None or blocks[0] is None:
        return
    strides = (options.StrideH(), options.StrideW())
    dilations = (options.DilationHFactor(), options.DilationWFactor())
    amounts = np.array(paddings) - np.array(crops)
    image, weights = graph.tensors[space_to_batch.inputs[0]], graph.tensors[conv.inputs[1]]
    if (
        blocks[0] != blocks[1]
        or len(image.shape) != 4
        or len(weights.shape) != 4
        or amounts.shape != (2, 2)
        or amounts.min() < 0
        or strides != (1, 1)
        or dilations != (1, 1)
    ):
        return
    block = blocks[0]
    reach = [(size - 1) * factor for size, factor in zip(weights.shape[1:3], block, strict=True)]
    kernel_is_one = max(weights.shape[1:3]) == 1
    if options.Padding() != tflite.Padding.VALID and not kernel_is_one:
        return  # each of the small images has a border of its own
    is_same = [[total // 2, total - total // 2] for total in reach] == amounts.tolist()
    source = space_to_batch.inputs[0]
    if is_same or not amounts.any():
        graph.operators.remove(space_to_batch)
    elif image.quantization is None:
        source = _pad(model, graph, space_to_batch, amounts)
    else:
        return  # the importer pads numbers, not codes
    conv.inputs[0], conv.outputs = source, batch_to_space.outputs
    graph.operators.remove(batch_to_space)
    padding = tflite.Padding.SAME if is_same else tflite.Padding.VALID
    conv.changed_options = _dilated(conv.name, options, padding, block)


def _pairs(graph: EditableGraph, node: EditableOperator, place: int) -> Any:
    """A constant operand as nested lists, or ``None``."""
    if len(node.inputs) != 3 or node.inputs[place] < 0:
        return None
    data = graph.tensors[node.inputs[place]].data
    return None if data is None else data.tolist()


def _pad(
    model: EditableModel, graph: EditableGraph, node: EditableOperator, amounts: np.ndarray
) -> int:
    """Turn ``node`` into a PAD of the image's sides; the padded tensor's index."""
    image = graph.tensors[node.inputs[0]]
    operand = EditableTensor((4, 2), tflite.TensorType.INT32)
    model.set_constant(operand, np.vstack([[(0, 0)], amounts, [(0, 0)]]).astype(np.int32))
    padded = EditableTensor(image.shape, image.type)
    sides = [0, *amounts.sum(axis=1).tolist(), 0]
    padded.shape = tuple(size + side for size, side in zip(image.shape, sides, strict=True))
    padded.signature = image.signature
    for tensor in (operand, padded):
        tensor.name = f"%pad.{len(graph.tensors)}".encode()
        graph.tensors.append(tensor)
    count = len(graph.tensors)
    node.inputs, node.outputs = [node.inputs[0], count - 2], [count - 1]
    node.name, node.code = "PAD", model.code_of(tflite.BuiltinOperator.PAD)
    return count - 1


def _dilated(name: str, options: Any, padding: int, block: list[int]) -> Any:
    """The table ``options`` with another padding and dilation."""
    kind = _OPTIONS[name]
    values = {field: getattr(options, field)() for field in _FIELDS}
    values |= {"Padding": padding, "DilationHFactor": block[0], "DilationWFactor": block[1]}
    if name == "DEPTHWISE_CONV_2D":
        values["DepthMultiplier"] = options.DepthMultiplier()
    builder = flatbuffers.Builder(64)
    getattr(tflite, f"{kind}Start")(builder)
    for field, value in values.items():
        getattr(tflite, f"{kind}Add{field}")(builder, value)
    builder.Finish(getattr(tflite, f"{kind}End")(builder))
    return getattr(tflite, kind).GetRootAs(builder.Output(), 0)._tab
