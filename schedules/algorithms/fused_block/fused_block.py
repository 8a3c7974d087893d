"""``fused_block``: a chain of layers strip by strip, with nothing between them stored whole.

[Producer, pointwise or any other dense convolution ->] depthwise -> pointwise, in one kernel. What
lies between the layers of such chains is their largest tensor: in MobileNetV2's inverted residuals
(Sandler et al., arXiv 1801.04381), six times their input and output. Depth-first execution (Alwani,
Chen, Ferdman and Milder, "Fused-Layer CNN Accelerators", MICRO 2016) needs but a few rows of it at
a time, and section 5 of the former but a few of its channels, as every channel of the expanded
tensor goes through the depthwise layer by itself.

Threads share strips of ``strip_rows`` output rows, or, if all channels are one block, ``row_block``
rows of them. In a strip, for each block of ``c_block`` channels, ``row_block`` rows at a time::

    E: the producer's rows that the depthwise layer reads, but for those that are there already
    D: the depthwise layer's rows
    Y: the product with the last layer's weights; of several blocks of channels, summed in place

Rows of E between two strips, or two threads, are computed for both. Above and below the image they
are zeros: the depthwise layer pads its input, the activated one, with zeros.

Weights of a narrower type are brought into panels once, before the first strip.

Workspace: these panels; for each thread E, ``((row_block - 1) S + (K - 1) dilation + 1) W c_block``
elements for K kernel rows at stride S, and from the next cache line on D, ``row_block W' c_block``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tvm import s_tir, te

from schedules.algorithms.base import FLOAT, INT8, Algorithm, index_limit, weights_knob
from schedules.algorithms.fused_block import knobs as fused_knobs
from schedules.algorithms.fused_block.schedule import schedule_strips
from schedules.algorithms.fused_block.strips import Strips, convolve_depthwise, expand, project
from schedules.algorithms.shared import weight_panels
from schedules.kernel import accuracy, microkernel, packing
from schedules.kernel.costs import Work, moves
from schedules.kernel.depthwise_tiles import PAIRED, SINGLE
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name
from schedules.kernel.loop_nests import LoopNest
from schedules.kernel.packing import NARROW, PACKED, PackedWeights
from schedules.kernel.quantised import constants as quantised_constants
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.sharing import Share
from schedules.kernel.tiles import Tile
from schedules.layer.block import Block
from schedules.layer.words import WORD
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.initial_sums import start_with_bias
from schedules.lower.memory import join
from schedules.target.simd import Simd


class FusedBlock(Algorithm[Block]):
    """Depth-first execution of a block."""

    name = "fused_block"
    source = "Alwani et al., Fused-Layer CNN Accelerators, MICRO 2016; MobileNetV2, section 5"
    workspace = "a few rows of what lies between"
    good_for = "MobileNets' blocks: nothing between is stored"
    types = FLOAT | INT8
    kind = "block"

    def supports(self, block: Block, simd: Simd) -> str | None:
        del simd
        *producers, depthwise, projection = block.layers
        if len(producers) > 1:
            return "it has more than one layer before the depthwise one"
        if not depthwise.is_depthwise or depthwise.out_channels != depthwise.in_channels:
            return f"{depthwise.describe()} is not depthwise with as many outputs as inputs"
        if not projection.is_pointwise or projection.groups > 1:
            return f"{projection.describe()} is not pointwise"
        if any(layer.groups > 1 for layer in producers):
            return f"{producers[0].describe()} is grouped"
        if producers and leaves_out(depthwise):
            return f"{depthwise.describe()} leaves out rows or columns, which need no producer"
        if depthwise.is_quantised and depthwise.out_channels % WORD:
            return f"{depthwise.describe()} has channels that fill up no words"
        for layer in block.layers:
            reason = quantised_constants.unsupported(layer) or index_limit(layer)
            if reason is not None:
                return f"{layer.describe()}: {reason}"
        return None

    def knobs(self, block: Block, simd: Simd) -> Mapping[str, Knob]:
        """Those of strips and tiles; and ``weights``, where the model's are of another type."""
        return self._knobs(block, simd, NO_KNOBS)

    def _knobs(self, block: Block, simd: Simd, fixed: Knobs) -> Mapping[str, Knob]:
        narrow = [layer for layer in block.layers if packing.has_narrow_weights(layer)]
        strips = fused_knobs.strips_for(block, simd, fixed)
        choices = fused_knobs.knobs(block, simd, strips, fixed.get("products"))
        if not narrow:
            return choices
        # Scales of int8 weights would be one more constant of each layer.
        has_scales = any(layer.weight_dtype == "int8" for layer in narrow)
        sources = (PACKED,) if has_scales else (PACKED, NARROW)
        return {**choices, **by_name(weights_knob(narrow[0], simd, sources))}

    def forms(self, block: Block) -> Sequence[Knobs]:
        if block.layers[-2].is_quantised:
            return ({"products": PAIRED}, {"products": SINGLE})
        return ({},)

    def trades(self, block: Block, simd: Simd) -> Sequence[Knobs]:
        """The fastest strips of each size of the workspace."""
        return fused_knobs.trades(block, simd)

    def default_knobs(self, block: Block, simd: Simd, fixed: Knobs = NO_KNOBS) -> dict[str, Any]:
        # The best tiles depend on the strips.
        return self.choose(block, self._knobs(block, simd, fixed), fixed)

    def misfit(self, block: Block, knobs: Knobs) -> str | None:
        return fused_knobs.misfit(block, knobs)

    def workspace_bytes(self, block: Block, knobs: Knobs) -> int:
        """Bytes of the panels that the kernel makes, and behind them of E and D for one thread."""
        return join(*self.made_bytes(block, knobs), self.thread_bytes(block, knobs))

    def thread_bytes(self, block: Block, knobs: Knobs) -> int:
        return Strips.of(block, knobs).workspace_bytes

    def made_bytes(self, block: Block, knobs: Knobs) -> Sequence[int]:
        """Bytes of the panels that the kernel makes for each matrix product."""
        return [
            weight_panels.made_bytes(layer, part, tile, at_once=True)
            for layer, part, tile in self.products(block, knobs).values()
        ]

    def products(
        self, block: Block, knobs: Knobs
    ) -> dict[int, tuple[Conv2dWorkload, PackedWeights, Tile]]:
        """Matrix products, by their layer's place: layer, weights, register tile."""
        parts = self.packed_parts(block, knobs)
        places = {"expand": 0, "project": len(parts) - 1}
        return {
            places[name]: (block.layers[places[name]], parts[places[name]], tile)
            for name, tile in fused_knobs.product_tiles(block, knobs).items()
        }

    def macs(self, block: Block, knobs: Knobs) -> int:
        return Strips.of(block, knobs).macs

    def moved_elements(self, block: Block, knobs: Knobs) -> int:
        """Sums that are read and written again, and weights that are brought into panels."""
        made = sum(self.made_bytes(block, knobs)) // block.element_bytes
        return Strips.of(block, knobs).moved_elements + made

    def stages(self, block: Block, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        size = block.element_bytes
        made = sum(self.made_bytes(block, knobs))
        panels = moves(made // size, simd, size, made)
        return [panels, *fused_knobs.stages(Strips.of(block, knobs), simd)]

    def shares(self, block: Block, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        strips = Strips.of(block, knobs)
        made = self.products(block, knobs).values()
        panels = [
            Share(-(-layer.out_channels // tile.panel), part.weight_bytes)
            for layer, part, tile in made
            if weight_panels.are_made(layer, part)
        ]
        row_blocks = strips.strip_rows // strips.row_block if strips.c_blocks == 1 else 1
        return [*panels, Share(strips.count * row_blocks)]

    def expected_error(self, block: Block, knobs: Knobs) -> float:
        strips = Strips.of(block, knobs)
        terms = [layer.reduction for layer in block.layers[:-1]]
        # A running sum over a block of channels, and one over the blocks.
        terms.append(strips.c_block + (strips.c_blocks if strips.c_blocks > 1 else 0))
        unit = accuracy.UNIT_ROUNDOFFS.get(block.dtype, accuracy.UNIT_ROUNDOFF)
        return math.hypot(*(accuracy.relative_error(n, unit_roundoff=unit) for n in terms))

    def loop_nests(self, block: Block, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        return fused_knobs.loop_nests(block, simd, knobs)

    def packed_parts(self, block: Block, knobs: Knobs) -> tuple[PackedWeights, ...]:
        tiles = fused_knobs.product_tiles(block, knobs)
        *producers, depthwise, projection = block.layers
        pack = packing.words if projection.is_quantised else packing.panels
        parts = (
            *(pack(layer, tiles["expand"].panel) for layer in producers),
            packing.taps(depthwise, knobs.get("products") == PAIRED),
            pack(projection, tiles["project"].panel),
        )
        if projection.is_quantised:
            return parts
        if knobs.get("weights") == NARROW:
            return parts
        return tuple(replace(part, dtype=block.dtype) for part in parts)

    def schedule(self, block: Block, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        """The scheduled kernel: buffers X, R (with a residual), W0, …, B0, …, Y, and views of Y."""
        strips, tiles = Strips.of(block, knobs), fused_knobs.product_tiles(block, knobs)
        image, weights, constants = placeholders(block, self.packed_parts(block, knobs))
        products = self.products(block, knobs)
        panels = {
            place: weight_panels.make_panels(layer, part, weights[place], tile, str(place))
            for place, (layer, part, tile) in products.items()
        }
        # Depthwise sums always begin with the bias, those of the products where that is faster.
        begun = microkernel.begins_with_bias(block.layers[-1], simd)
        source = image
        if strips.producer is not None:
            source = expand(strips, simd, tiles["expand"], image, panels[0], constants, begun)
        paired = knobs.get("products") == PAIRED
        stored = convolve_depthwise(strips, source, weights[-2], constants[-2], paired)
        last = panels[len(weights) - 1]
        added, outputs = project(strips, tiles["project"], stored, last, constants[-1], begun)
        read = [tensor for layer in constants for tensor in layer.tensors]
        arguments = [image, *added, *weights, *read, *outputs]
        function = te.create_prim_func(arguments)
        sums = ("ACC0", "ACC1", "ACC" if strips.c_blocks == 1 else "S")[-len(constants) :]
        for name, layer in zip(sums, constants, strict=True):
            if begun or name == "ACC1":
                function = start_with_bias(function, name, arguments.index(layer.bias))
        rows = knobs["depthwise_rows"]
        schedule, stage = s_tir.Schedule(function), 0
        for place, product in products.items():
            stage = weight_panels.make_at_once(schedule, *product, simd, stage, str(place))
        return schedule_strips(schedule, strips, simd, tiles, rows, stage, paired)


def leaves_out(layer: Conv2dWorkload) -> bool:
    """Whether strides leave out rows of a layer's input, or its last columns."""
    rows = (layer.kernel_height - 1) * layer.dilation_height + 1
    last = (layer.out_width - 1) * layer.stride_width - layer.pad_left
    last += (layer.kernel_width - 1) * layer.dilation_width
    return layer.stride_height > rows or last < layer.in_width - 1


def placeholders(
    block: Block, parts: tuple[PackedWeights, ...]
) -> tuple[te.Tensor, list[te.Tensor], list[Constants]]:
    """The kernel's arguments X, of shape (N, H, W C), W0, … and the constants of each layer."""
    batch, height, width, channels = block.input_shape
    weights = [te.placeholder(part.shape, part.dtype, name=f"W{i}") for i, part in enumerate(parts)]
    constants = [
        Constants.of(layer, part, str(i))
        for i, (part, layer) in enumerate(zip(parts, block.layers, strict=True))
    ]
    return (
        te.placeholder((batch, height, width * channels), block.dtype, name="X"),
        weights,
        constants,
    )
