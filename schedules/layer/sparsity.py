"""How many weights of a layer are zero, as far as it matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Percent of zeros that layers are told apart by: none that matter, or so many at least. With fewer
#: than the second, dense products take hardly longer.
ZEROS = (0, *range(50, 96, 5))


def zeros_of(stored: np.ndarray, elements: int) -> int:
    """The most of :data:`ZEROS` that weights have, of whose ``elements`` those are ``stored``."""
    import numpy as np  # not for who asks for help alone

    zeros = elements - int(np.count_nonzero(stored))
    return max(percent for percent in ZEROS if zeros * 100 >= percent * elements)
