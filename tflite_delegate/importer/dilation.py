"""A convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND becomes a dilated one.

So converters write a dilated convolution of Keras; that of a row stands between EXPAND_DIMS and
RESHAPE besides. The image, padded by p, is cut into b x b images
of every b-th pixel, which are convolved without padding, put together again and cropped by c. That
is one convolution with dilation b over an image padded by p - c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import tflite
from numpy.typing import NDArray

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
    """Replace each such group of nodes in ``graph``, by one more if the padding needs a PAD."""
    producers = {tensor: node for node in graph.operators for tensor in node.outputs}
    for node in list(graph.operators):
        if node.name != "BATCH_TO_SPACE_ND":
            continue
        chain = [node]
        while len(chain) < 5 and (before := _producer(graph, producers, chain[0])) is not None:
            chain.insert(0, before)
            if before.name == "SPACE_TO_BATCH_ND":
                _merge(model, graph, chain)
                break


def _producer(
    graph: EditableGraph, producers: dict[int, EditableOperator], node: EditableOperator
) -> EditableOperator | None:
    """The node that computes the first operand, if for nobody else."""
    tensor = node.inputs[0] if node.inputs else -1
    readers = sum(other.inputs.count(tensor) for other in graph.operators)
    return producers.get(tensor) if readers == 1 and tensor not in graph.outputs else None


def _merge(model: EditableModel, graph: EditableGraph, chain: list[EditableOperator]) -> None:
    """Merge the nodes of ``chain``: the convolution's, or of a row that is made an image for it."""
    space_to_batch, *between, batch_to_space = chain
    is_row = len(between) == 3
    conv = between[len(between) // 2]
    if conv.name not in _OPTIONS or len(between) not in (1, 3) or len(conv.inputs) < 2:
        return
    image, weights = graph.tensors[space_to_batch.inputs[0]], graph.tensors[conv.inputs[1]]
    cut, joined = _numbers(graph, space_to_batch, 1), _numbers(graph, batch_to_space, 1)
    paddings, crops = _numbers(graph, space_to_batch, 2), _numbers(graph, batch_to_space, 2)
    if cut is None or joined is None or paddings is None or crops is None:
        return
    amounts = paddings - crops
    is_fit = (
        len(weights.shape) == 4
        and len(image.shape) == (3 if is_row else 4)
        and amounts.shape == (len(image.shape) - 2, 2)
        and amounts.min() >= 0
        and np.array_equal(cut, joined)
        and cut.size == len(amounts)
        and (not is_row or (weights.shape[1] == 1 and _is_row(graph, image, between)))
    )
    options = conv.options(_OPTIONS[conv.name])
    if not is_fit or options is None or not _is_plain(options, weights.shape[1:3]):
        return
    block = [1, *cut.tolist()][-2:]
    reach = np.multiply(np.subtract(weights.shape[1:3], 1), block)
    reach_of_axes = reach[-len(amounts) :]
    is_same = np.array_equal(
        amounts, np.stack([reach_of_axes // 2, reach_of_axes - reach_of_axes // 2], axis=1)
    )
    source = space_to_batch.inputs[0]
    if is_same or not amounts.any():
        graph.operators.remove(space_to_batch)
    elif image.quantization is None:
        source = _pad(model, graph, space_to_batch, amounts)
    else:
        return  # the importer pads numbers, not codes
    between[0].inputs[0], between[-1].outputs = source, batch_to_space.outputs
    graph.operators.remove(batch_to_space)
    padding = tflite.Padding.SAME if is_same else tflite.Padding.VALID
    conv.changed_options = _dilated(conv.name, options, padding, block)
    if is_row:
        length = image.shape[1] + int(amounts.sum()) - int(reach[1])
        _squeeze(model, graph, between, length)


def _is_plain(options: Any, kernel: Sequence[int]) -> bool:
    """Whether a convolution steps by one pixel and, unless it is 1x1, has no border."""
    steps = {options.StrideH(), options.StrideW()}
    steps |= {options.DilationHFactor(), options.DilationWFactor()}
    return steps == {1} and (options.Padding() == tflite.Padding.VALID or max(kernel) == 1)


def _is_row(graph: EditableGraph, image: EditableTensor, between: list[EditableOperator]) -> bool:
    """Whether the nodes around the convolution make an image of one row, and a row again."""
    expand, _, squeeze = between
    axis = _numbers(graph, expand, 1) if expand.name == "EXPAND_DIMS" else None
    if axis is None or axis.reshape(-1).tolist() not in ([1], [-3]) or 1 in image.open_axes:
        return False
    if squeeze.name == "RESHAPE":
        return _numbers(graph, squeeze, 1) is not None
    options = squeeze.options("SqueezeOptions") if squeeze.name == "SQUEEZE" else None
    dims = options.SqueezeDimsAsNumpy() if options and options.SqueezeDimsLength() else None
    return dims is not None and dims.tolist() in ([1], [-3])


def _squeeze(
    model: EditableModel, graph: EditableGraph, between: list[EditableOperator], length: int
) -> None:
    """Let the nodes around the convolution be of whole rows, and not of pieces."""
    expand, conv, squeeze = between
    for node in (expand, conv):
        graph.tensors[node.outputs[0]].shape = ()  # what the file says is of the pieces
    if squeeze.name == "RESHAPE":
        channels = graph.tensors[conv.inputs[1]].shape[0 if conv.name == "CONV_2D" else 3]
        squeeze.inputs = [squeeze.inputs[0], len(graph.tensors)]
        _append(graph, _constant(model, np.array([-1, length, channels], np.int32)))


def _numbers(
    graph: EditableGraph, node: EditableOperator, place: int
) -> NDArray[np.integer] | None:
    """An operand, if it is a constant."""
    if len(node.inputs) <= place or node.inputs[place] < 0:
        return None
    return graph.tensors[node.inputs[place]].data


def _constant(model: EditableModel, values: NDArray[np.int32]) -> EditableTensor:
    tensor = EditableTensor(values.shape, tflite.TensorType.INT32)
    model.set_constant(tensor, values)
    return tensor


def _append(graph: EditableGraph, tensor: EditableTensor) -> int:
    """Add a tensor; its index."""
    tensor.name = f"%dilated.{len(graph.tensors)}".encode()
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _pad(
    model: EditableModel, graph: EditableGraph, node: EditableOperator, amounts: NDArray[Any]
) -> int:
    """Turn ``node`` into a PAD of the image's sides; the padded tensor's index."""
    image = graph.tensors[node.inputs[0]]
    sides = np.vstack([[(0, 0)], amounts, [(0, 0)]]).astype(np.int32)
    operand = _append(graph, _constant(model, sides))
    shape = tuple(np.add(image.shape, sides.sum(axis=1)).tolist())
    padded = EditableTensor(shape, image.type)
    padded.signature = image.signature
    node.inputs, node.outputs = [node.inputs[0], operand], [_append(graph, padded)]
    node.name, node.code = "PAD", model.code_of(tflite.BuiltinOperator.PAD)
    return node.outputs[0]


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
