"""A network as the planner sees it: its layers, and the tensors between all of its operators.

Whoever reads networks, from a .tflite file or a Relax function, makes one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload

#: Positions of layers in the network's order of execution.
Chain = tuple[int, ...]

#: What a layer is, whatever its operator is called.
CONV, DEPTHWISE, DENSE, TRANSPOSED = "conv", "depthwise", "dense", "transposed"
#: Likewise, a convolution of volumes.
VOLUME = "volume"


@dataclass(frozen=True)
class Layer:
    """One convolution of whatever kind or fully-connected layer, and what goes with it.

    Parameters
    ----------
    index : int
        Index of the node in the network's graph, which is its place in the order of execution.
    op : str
        Its operator's name, such as ``CONV_2D`` or ``relax.nn.conv2d``.
    kind : {"conv", "depthwise", "dense", "transposed", "volume"}
        What that operator is.
    geometry : str
        A short description for tables, e.g. ``conv3x3 s2 224x224x3->32 relu6``.
    workload : Conv2dWorkload or None
        What to compile; ``None`` if leanconv does not take the layer. Of a transposed convolution,
        the sub-pixel one.
    reason : str or None
        Why it does not.
    weight_bytes : int
        Bytes of the weights in the network, without the bias.
    macs : int
        Multiply-accumulates of one inference; 0 if the shape is not known.
    nodes : tuple of int
        The node itself, and the neighbours whose work the layer does as well.
    input, output : int or None
        Tensors in front of and behind all of these.
    residual : int or None
        The tensor that is added, of a workload with a residual.
    overflows_pairs : bool
        Whether products of its int8 weights that a kernel may add in pairs pass 16 bits.
    weight_order : str or None
        The layout (see :mod:`schedules.kernel.packing`) that the network's weights are in already;
        ``None`` if there is none.
    is_float_biased : bool
        Whether the network has a bias of float32, which can be read where it is.
    staged_bytes : int
        Bytes of workspace for one image of the kernel's result, where it is not yet the layer's
        output: a sub-pixel convolution's.
    copied_bytes : tuple of int
        Of input, residual and output, those that are of another type than what the layer computes
        with: bytes of workspace for a copy of one image.
    zero_filters : int
        Filters that are zero, of a layer of floats without groups.
    """

    index: int
    op: str
    kind: str
    geometry: str
    workload: Conv2dWorkload | None
    reason: str | None
    weight_bytes: int
    macs: int
    nodes: tuple[int, ...] = ()
    input: int | None = None
    output: int | None = None
    weight_order: str | None = None
    is_float_biased: bool = False
    staged_bytes: int = 0
    residual: int | None = None
    overflows_pairs: bool = False
    copied_bytes: tuple[int, ...] = ()
    zero_filters: int = 0


@dataclass(frozen=True)
class Step:
    """A node: its place in the order of execution, and the tensors that it reads and writes.

    ``shared`` are those inputs whose memory the first output may have, if nobody else needs it;
    ``is_view`` says that its elements are those of the input, so that it does not matter who does.
    """

    index: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shared: tuple[int, ...] = field(default=(), kw_only=True)
    is_view: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Network:
    """Layers and everything between them.

    Parameters
    ----------
    name : str
        For messages and reports.
    layers : tuple of Layer
        One for every convolution, depthwise, transposed and fully-connected node.
    chains : tuple of tuple of int
        Positions of layers that one kernel could compute (see :mod:`schedules.layer.chains`).
    steps : sequence of Step
        Every node in the order of execution.
    inputs, outputs : tuple of int
        Tensors that a caller writes and reads.
    sizes : mapping of int to int
        Bytes of each tensor that is computed or an input; for a batch of one where it is not known.
    pooled : mapping of int to Layer
        Positions of layers, and these with the pool of their output, which their kernels may do
        as well (see :mod:`schedules.layer.pooled`).
    walks_rows : bool
        Whether there is a loop that walks the rows of a chain's kernels (see
        :mod:`schedules.layer.row_chain`).
    own_bytes : int
        What whoever runs it keeps on the heap beside packed weights, at most.
    """

    name: str
    layers: tuple[Layer, ...]
    chains: tuple[Chain, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    sizes: Mapping[int, int]
    pooled: Mapping[int, Layer] = field(default_factory=dict, kw_only=True)
    walks_rows: bool = field(default=True, kw_only=True)
    own_bytes: int = field(default=0, kw_only=True)


AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def for_batch(network: AnyNetwork, images: int) -> AnyNetwork:
    """A network for so many images, of one for a single image."""
    layers = [
        replace(
            layer,
            workload=layer.workload and layer.workload.with_batch(images),
            macs=images * layer.macs,
        )
        for layer in network.layers
    ]
    sizes = {tensor: images * size for tensor, size in network.sizes.items()}
    return replace(network, layers=tuple(layers), sizes=sizes)


def describe(kind: str, workload: Conv2dWorkload) -> str:
    """A short description for tables; a fully-connected layer is ``dense [ROWSx]C->M``."""
    if kind != DENSE:
        return workload.describe()
    text = workload.describe().removeprefix("conv1x1 1x")
    return f"dense {text.removeprefix('1x')}"


def of_one_kernel(workload: Conv2dWorkload) -> Conv2dWorkload:
    """What a kernel computes of one image; the delegate loops over most groups."""
    return workload.with_batch(1).of_one_kernel()


def block_of(network: Network, chain: Chain) -> Block:
    """What one kernel computes of the layers at these positions, which all have a workload."""
    workloads = [network.layers[position].workload for position in chain]
    return Block(tuple(workload.with_batch(1) for workload in workloads if workload))
