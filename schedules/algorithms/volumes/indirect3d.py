"""``indirect3d``: patches of volumes are gathered straight into registers; nothing is copied.

``indirect`` (:mod:`schedules.algorithms.indirect`) with one more axis of taps: the sum over all
images of the kernel stays in the registers of a tile. (The sum of convolutions of images, one for
each image of the kernel, computes the same, but reads and writes every output as often.) Rows
beyond the border of an image or of the volume are skipped.

Where a layer of volumes is one of images, as with kernels of 1x3x3 and 3x1x1 (Tran et al., "A
Closer Look at Spatiotemporal Convolutions", arXiv 1711.11248), it is computed as that.

Workspace: 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import s_tir, te

from schedules.algorithms.base import LayerAlgorithm, index_limit
from schedules.algorithms.indirect import Indirect, as_rows
from schedules.algorithms.volumes.patches import VolumePatches
from schedules.kernel import microkernel, tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.packing import PACKED
from schedules.kernel.patches import Taps
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.sharing import Share, tensor_bytes
from schedules.kernel.tiles import Product, Tile
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.initial_sums import start_with_bias
from schedules.target.simd import Simd

#: Types of volumes that are computed.
VOLUMES = frozenset(("float32 volumes", weights) for weights in ("float32", "float16"))


class VolumeAlgorithm(LayerAlgorithm):
    """An algorithm for layers of volumes."""

    types = VOLUMES
    kind = "volume"

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        if not isinstance(workload, Conv3dWorkload):
            return "it convolves volumes"
        return index_limit(workload)


class Indirect3d(VolumeAlgorithm):
    """Dukhan, arXiv 1907.02129, with another axis of taps."""

    name = "indirect3d"
    source = "Dukhan, The Indirect Convolution Algorithm, arXiv 1907.02129, of volumes"
    workspace = "0"
    good_for = "layers of volumes"
    skips_borders = True

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return tiles.knobs(self.product(workload, simd), simd)

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        assert isinstance(workload, Conv3dWorkload)
        images = workload.as_images()
        layer = workload.as_rows() if images is None else as_rows(images)
        return Product(layer, Taps.in_image(layer, simd), layer.out_width)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return 0

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        product = self.product(workload, simd)
        rows = product.workload.out_height
        names, items = tiles.shared_items(product, simd, Tile.of(knobs), rows)
        return (Share(items, tensor_bytes(workload) if names == ("panels",) else 0),)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        assert isinstance(workload, Conv3dWorkload)
        images = workload.as_images()
        if images is not None:
            return Indirect().schedule(images, simd, {**knobs, "weights": PACKED})
        product, tile = self.product(workload, simd), Tile.of(knobs)
        layer, taps = product.workload, product.taps
        packed = self.packed_weights(workload, knobs)
        batch, depth, height, width, channels = workload.input_shape
        shape = (batch, depth * height, width * channels)
        image = te.placeholder(shape, workload.dtype, name="X")
        weights = te.placeholder(packed.shape, packed.dtype, name="W")
        constants = Constants.of(layer, packed)
        patches = VolumePatches(layer, image, taps, tile.columns, workload)
        begun = microkernel.begins_with_bias(layer, simd)
        results = microkernel.product(layer, patches, weights, constants, tile, begun)
        arguments = [image, weights, *constants.tensors, *results]
        function = te.create_prim_func(arguments)
        if begun:
            place = arguments.index(constants.bias)
            function = start_with_bias(function, "ACC", place)
        schedule = s_tir.Schedule(function)
        microkernel.schedule_product(schedule, layer, simd, tile, taps)
        return schedule
