"""How a 1x1 layer is cut into quadrants, and these into register tiles."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.kernel.knobs import Knobs
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import fits_registers, tile_cost
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: The panel is outermost, and what its sums are multiplied by is all made before; or the pixels of
#: a tile are, likewise.
PANELS, ROWS = "panels", "rows"
#: Pixels of a tile. In tiles of 4, 8x8x1280->448 and 8x8x2048->320 took as long as ``indirect`` on
#: a Zen 4.
LEAST_COLUMNS, MOST_COLUMNS = 5, 7
#: Sums of quadrants that are no quadrants themselves, of either factor.
SUMS = 4


@dataclass(frozen=True)
class Quadrants:
    """What the loops count.

    Parameters
    ----------
    workload : Conv2dWorkload
        A 1x1 layer; one of stride 1 is one row of pixels.
    columns, panel : int
        Pixels and output channels of a register tile.
    order : str
        :data:`PANELS` or :data:`ROWS`.
    """

    workload: Conv2dWorkload
    columns: int
    panel: int
    order: str

    @classmethod
    def of(cls, layer: Conv2dWorkload, knobs: Knobs) -> Quadrants:
        """The loops of ``layer``, whose pixels may be images'."""
        layer = as_matrix(layer)
        return cls(layer, int(knobs["columns"]), int(knobs["panel"]), knobs["order"])

    @property
    def pixels(self) -> int:
        """Of half of the output."""
        return self.workload.pixels // 2

    @property
    def width(self) -> int:
        """Pixels of a line of half of the output; tiles divide it."""
        return line_of(self.workload)

    @property
    def depth(self) -> int:
        """Input channels of half of them."""
        return self.workload.in_channels // 2

    @property
    def tiles(self) -> int:
        """Tiles of pixels of half of the image."""
        return self.pixels // self.columns

    @property
    def panels(self) -> int:
        """Panels of half of the output channels."""
        return self.workload.out_channels // 2 // self.panel

    @property
    def image_rows(self) -> int:
        """Pixels whose sums are held at once."""
        return self.columns if self.order == ROWS else self.pixels

    @property
    def weight_panels(self) -> int:
        """Panels whose sums are held at once."""
        return self.panels if self.order == ROWS else 1

    @property
    def image_bytes(self) -> int:
        """Bytes of the sums of the image."""
        return SUMS * self.image_rows * self.depth * self.workload.element_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of the sums of weights."""
        return SUMS * self.weight_panels * self.depth * self.panel * self.workload.element_bytes


def as_matrix(layer: Conv2dWorkload) -> Conv2dWorkload:
    """``layer`` as one row of pixels, if it reads all of them."""
    return layer.as_matrix() if layer.is_pointwise else layer


def line_of(layer: Conv2dWorkload) -> int:
    """Pixels of half of the output that are equally far apart in the image."""
    return layer.pixels // 2 if layer.is_pointwise else layer.out_width


def has_halves(layer: Conv2dWorkload, lanes: int) -> bool:
    """Whether the pixels of a 1x1 ``layer`` have, and its channels, in whole vectors."""
    steps, lines = (layer.stride_height, layer.stride_width), layer.batch * layer.out_height
    whole = (layer.out_height * steps[0], layer.out_width * steps[1])
    pixels = lines if steps != (1, 1) else layer.pixels
    channels = (layer.in_channels, layer.out_channels)
    is_even = pixels % 2 == 0 and not any(count % (2 * lanes) for count in channels)
    return is_even and whole == (layer.in_height, layer.in_width)


def tiles_of(layer: Conv2dWorkload, simd: Simd) -> list[tuple[int, int]]:
    """Tiles (pixels, output channels) that divide quadrants and fit the registers, fastest first.

    ``layer`` has halves.
    """
    lanes, line = simd.lanes(layer.dtype), line_of(layer)
    half, outputs = layer.pixels // 2, layer.out_channels // 2
    quadrant = Conv2dWorkload(1, half, layer.in_channels // 2, outputs, 1, 1, dtype=layer.dtype)
    taps = Taps.of(quadrant, simd)
    found = [
        (columns, panel)
        for columns in range(LEAST_COLUMNS, MOST_COLUMNS + 1)
        for panel in range(lanes, outputs + 1, lanes)
        if line % columns == 0
        and outputs % panel == 0
        and fits_registers(quadrant, simd, taps, columns, panel)
    ]
    return sorted(found, key=lambda tile: tile_cost(quadrant, simd, taps, half, *tile))
