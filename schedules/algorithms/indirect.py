"""``indirect``: patches are gathered straight into registers; nothing is ever copied.

The indirect convolution of Dukhan, "The Indirect Convolution Algorithm" (arXiv 1907.02129), reads
each patch where it lies in the input. There, a table of pointers says where, and points to a row of
zeros beyond the border. Here every shape is known when the kernel is compiled: addresses are
computed, border tiles are split from interior ones and skip what would multiply zeros. So there is
neither a table nor a padded copy.

Knob ``weights``: ``packed`` in panels; ``narrow``, panels of the model's own float16 or int8; or
``in_place``, where and as the model has them. Of the last two the kernel makes panels
(:mod:`schedules.algorithms.shared.weight_panels`). Of int8 and uint8 on Arm without dot products,
also ``spread``: words of 16, whose sums are spread over four lanes until the end. ``panel`` then
counts these lanes, and no two weights eight apart in a word may both be -128, or 0 of uint8, which
is multiplied as int8. Or, of int8, ``elements``: those are multiplied one by one, in 16 bits. With
``i8mm`` also ``matrices``: words of eight, two pixels by two output channels at once. ``columns``
then counts these pairs of pixels, and ``panel`` two lanes for each channel.

Workspace: 0; or the panels, or one of them a thread, ``K_h K_w C panel`` elements each; or what
hybrid layers take (:mod:`schedules.kernel.hybrid`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tvm import s_tir, te

from schedules.algorithms.base import FLOAT, FLOAT_OR_BYTES, HYBRID, LayerAlgorithm, weights_knob
from schedules.algorithms.shared import weight_panels
from schedules.kernel import microkernel, packing, tiles
from schedules.kernel.hybrid import Rule
from schedules.kernel.hybrid.constants import DynamicConstants, zeros_taken_off
from schedules.kernel.hybrid.image import dynamic_bytes, first_stages, with_quantised_image
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name
from schedules.kernel.packing import (
    IN_PLACE,
    MATRICES,
    NARROW,
    ONE_BY_ONE,
    PACKED,
    SPREAD_OUT,
    PackedWeights,
)
from schedules.kernel.pairs import channel_of, paired, paired_tile
from schedules.kernel.patches import ImagePatches, Patches, Taps, image_patches, placeholders
from schedules.kernel.quantised import register_tiles
from schedules.kernel.quantised.pixel_sums import TAKEN
from schedules.kernel.sharing import Share, tensor_bytes
from schedules.kernel.steps import TileLoops
from schedules.kernel.tiles import Product, Tile
from schedules.layer.words import (
    PAIR,
    SPREAD,
    fills_pairs,
    fills_vectors,
    in_elements,
    in_spread_words,
    in_words,
)
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.initial_sums import start_less, start_with, start_with_bias
from schedules.lower.integers import image_offset
from schedules.target.simd import Simd


class Indirect(LayerAlgorithm):
    """Dukhan, arXiv 1907.02129, with addresses computed at compile time."""

    name = "indirect"
    source = "Dukhan, The Indirect Convolution Algorithm, arXiv 1907.02129"
    workspace = "0"
    good_for = "all layers, the default where Winograd does not pay"
    types = FLOAT_OR_BYTES | HYBRID
    skips_borders = True
    writes_once = True
    #: The loop over tiles that threads share, if it is always the same one.
    shared_loop: str | None = None

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        return tuple({"weights": source} for source in self.weight_sources(workload))

    def weight_sources(self, workload: Conv2dWorkload) -> Sequence[str]:
        """Values of the knob ``weights``, where the target can convert the model's weights."""
        narrow = packing.has_narrow_weights(workload)
        in_place = workload.group_of == 1 and not workload.is_quantised
        spread = fills_vectors(workload)
        return (
            PACKED,
            *[NARROW] * narrow,
            *[IN_PLACE] * in_place,
            *[SPREAD_OUT] * spread,
            *[MATRICES] * fills_pairs(workload),
            *[ONE_BY_ONE] * (workload.is_quantised and workload.dtype == "int8"),
        )

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        """``weights``, and the register tile."""
        weights = weights_knob(workload, simd, self.weight_sources(workload))
        return {**by_name(weights), **tiles.knobs(self.product(workload, simd), simd)}

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        workload = as_rows(workload)
        return Product(in_words(workload), self.taps(workload, simd), workload.out_width)

    def taps(self, workload: Conv2dWorkload, simd: Simd) -> Taps:
        """The loops of the sums."""
        return Taps.in_image(workload, simd)

    def spread_product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        """:meth:`product` with weights ``spread``: each output channel is four lanes of sums."""
        product = self.product(workload, simd)
        taps = replace(product.taps, depth=product.taps.depth // SPREAD)
        return replace(product, workload=in_spread_words(as_rows(workload)), taps=taps)

    def element_product(self, workload: Conv2dWorkload) -> Product:
        """:meth:`product` with weights one by one."""
        layer = as_rows(workload)
        return Product(in_elements(layer), Taps.of_elements(layer), layer.out_width)

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        if knobs["weights"] == IN_PLACE:
            return packing.rows(workload)
        return super().packed_weights(workload, knobs)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return self.panel_bytes(workload, knobs) + dynamic_bytes(workload)

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # Panels are work items: who multiplies by one has made it.
        at_once = self.makes_at_once(workload, knobs)
        return 0 if at_once else self.panel_bytes(workload, knobs)

    def panel_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        """Bytes of the panels that the kernel makes of its weights."""
        packed, at_once = self.packed_weights(workload, knobs), self.makes_at_once(workload, knobs)
        return weight_panels.made_bytes(workload, packed, Tile.of(knobs), at_once)

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        if knobs["weights"] != IN_PLACE:  # the bias tells how many channels the panels have
            return workload.macs
        panels = -(-workload.out_channels // knobs["panel"])
        return workload.pixels * workload.reduction * panels * knobs["panel"]

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        packed = self.packed_weights(workload, knobs)
        made = weight_panels.made_bytes(workload, packed, Tile.of(knobs), at_once=True)
        return made // workload.element_bytes

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        # Panels that the kernel makes are few or used one after the other.
        knobs = dict(self.knobs(workload, simd))
        if fixed.get("weights") == SPREAD_OUT and fills_vectors(workload):
            product = self.spread_product(workload, simd)
            tile = register_tiles.spread_tile(product, simd)
            if workload.dtype == "uint8":
                tile = register_tiles.unsigned_tile(product, tile)
            knobs |= tiles.knobs(product, simd, tile)
            return self.choose(workload, knobs, fixed)
        if fixed.get("weights") == MATRICES and fills_pairs(workload):
            product = paired(self.product(workload, simd))
            knobs |= tiles.knobs(product, simd, paired_tile(product, simd))
            return self.choose(workload, knobs, fixed)
        if fixed.get("weights") == ONE_BY_ONE:
            elements = self.element_product(workload)
            knobs |= tiles.knobs(elements, simd, register_tiles.element_tile(elements, simd))
            return self.choose(workload, knobs, fixed)
        order = knobs["order"]
        if fixed.get("weights", knobs["weights"].default) != PACKED:
            default = weight_panels.default_order(workload, simd, order.default)
            if default in order.choices:
                knobs["order"] = replace(order, default=default)
        return self.choose(workload, knobs, fixed)

    def makes_at_once(self, workload: Conv2dWorkload, knobs: Knobs) -> bool:
        """Whether panels that the kernel makes are made all before it multiplies.

        Else one after the other, each used for the whole image.
        """
        tile = Tile.of(knobs)
        return not tile.order.startswith("panels") or workload.out_channels <= tile.panel

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        workload = as_rows(workload)
        found = [*[Share(workload.in_height)] * first_stages(workload), *self.lowered(workload)]
        made = weight_panels.are_made(workload, self.packed_weights(workload, knobs))
        if made and self.makes_at_once(workload, knobs):
            panels = -(-workload.out_channels // knobs["panel"])
            found.append(Share(panels, self.panel_bytes(workload, knobs)))
            made = False
        shared = "panels" if made else self.shared_loop
        return [*found, self.product_share(workload, simd, knobs, shared)]

    def lowered(self, workload: Conv2dWorkload) -> Sequence[Share]:
        """The stage that lowers the image, if there is one."""
        del workload
        return ()

    def product_share(
        self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs, shared: str | None
    ) -> Share:
        """That of the product, whose threads share the loop ``shared`` or those that cost least."""
        product = self.formed_product(workload, simd, knobs["weights"])
        rows = workload.pixels // (workload.batch * self.product(workload, simd).row_pixels)
        names, items = tiles.shared_items(product, simd, Tile.of(knobs), max(rows, 1), shared)
        return Share(items, tensor_bytes(workload) if names == ("panels",) else 0)

    def formed_product(self, workload: Conv2dWorkload, simd: Simd, form: str) -> Product:
        """:meth:`product`, as weights of a form are multiplied."""
        if form == SPREAD_OUT:
            return self.spread_product(workload, simd)
        if form == MATRICES:
            return paired(self.product(workload, simd))
        if form == ONE_BY_ONE:
            return self.element_product(workload)
        return self.product(workload, simd)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        workload = as_rows(workload)
        schedule, _ = self.convolve(workload, simd, knobs, first_stages(workload))
        return with_quantised_image(workload, simd, schedule)

    def patches(self, source: ImagePatches) -> Patches:
        """Where the patch matrix is read from: with most algorithms, all that tells them apart."""
        return source

    def convolve(
        self,
        workload: Conv2dWorkload,
        simd: Simd,
        knobs: Knobs,
        stage: int = 0,
    ) -> tuple[s_tir.Schedule, TileLoops]:
        """The whole kernel, with the product of :meth:`patches` scheduled, and its tile loops.

        ``stage`` as for :func:`microkernel.schedule_product`. What stores the patches, if anything,
        is left to be scheduled.
        """
        tile, product = Tile.of(knobs), self.product(workload, simd)
        form, columns = knobs["weights"], tile.columns
        one_by_one = form == ONE_BY_ONE
        if form == MATRICES:
            columns *= PAIR
        if one_by_one:
            product = self.element_product(workload)
        packed = self.packed_weights(workload, knobs)
        image, weights, constants = placeholders(workload, packed)
        constants = constants.with_offset(image_offset(simd))
        panels = weight_panels.make_panels(workload, packed, weights, tile, scale=constants.scale)
        source = image_patches(workload, image, product.taps, constants, columns, one_by_one)
        begun = microkernel.begins_with_bias(workload, simd) and form != SPREAD_OUT
        is_less = workload.is_dynamic and form not in microkernel.STAGED
        patches = self.patches(source)
        results = microkernel.product(
            workload, patches, panels, constants, tile, begun or is_less, form
        )
        arguments = [image, weights, *constants.tensors, *results]
        function = te.create_prim_func(arguments)
        if begun:
            channel = {"channel": channel_of} if form == MATRICES else {}
            place = arguments.index(constants.bias)
            function = start_with_bias(function, "ACC", place, **channel)
        if is_less:
            assert isinstance(constants, DynamicConstants)
            pixels, whole = patches.shape[2], patches.columns
            start = zeros_taken_off(function, constants, pixels, whole)
            function = start_with(function, "ACC", start)
        if workload.dtype == "uint8":
            function = start_less(function, "ACC", TAKEN)
        schedule, made = s_tir.Schedule(function), panels is not weights
        if made and self.makes_at_once(workload, knobs):
            stage = weight_panels.make_at_once(schedule, workload, packed, tile, simd, stage)
            made = False
        shared = "panels" if made else self.shared_loop  # each by one thread, for all pixels
        product = self.formed_product(workload, simd, form)
        loops = microkernel.schedule_product(
            schedule,
            product.workload,
            simd,
            tile,
            product.taps,
            stage,
            shared,
            form=form,
            has_taken=workload.dtype == "uint8",
        )
        if made:
            weight_panels.make_each(schedule, workload, packed, tile, simd, loops.panels)
        return schedule, loops


class Lowering(Indirect):
    """An algorithm that lowers the image or shifts products, where there is anything to.

    Else it is ``indirect`` under another name.
    """

    types = FLOAT
    skips_borders = False
    writes_once = False

    def weight_sources(self, workload: Conv2dWorkload) -> Sequence[str]:
        # Scales of int8 weights are behind the bias, which only ``indirect`` reads them there.
        left = (IN_PLACE, ONE_BY_ONE, MATRICES, *[NARROW] * (workload.weight_dtype == "int8"))
        return [source for source in super().weight_sources(workload) if source not in left]

    def taps(self, workload: Conv2dWorkload, simd: Simd) -> Taps:
        return Taps.of(workload, simd)

    def is_indirect(self, workload: Conv2dWorkload) -> bool:
        """Whether the image is its own patch matrix."""
        return workload.is_pointwise

    def applied_to(self, workload: Conv2dWorkload) -> Indirect:
        if not self.is_indirect(workload):
            return self
        indirect = Indirect()
        indirect.name, indirect.source = self.name, self.source
        return indirect


def as_rows(workload: Conv2dWorkload) -> Conv2dWorkload:
    """A pointwise convolution as one row of pixels, which tiles divide best; others as they are.

    So are those whose images have ranges of their own.
    """
    by_image = workload.is_dynamic and not Rule.of(workload).by_row
    return workload.as_matrix() if workload.is_pointwise and not by_image else workload
