"""Which weights stay: those whose unit has the largest norm."""

from __future__ import annotations

import numpy as np

#: Neighbouring output channels that stay or go together, by the unit: as many as the sparse kernel
#: multiplies at a time, at least. It takes a sixth less time with 16 of them than with 8.
BLOCKS = {"block": 8, "block16": 16}
UNITS = ("element", *BLOCKS, "filter")


def mask(weights: np.ndarray, zeros: float, unit: str) -> np.ndarray:
    """1 where a weight stays, else 0.

    Parameters
    ----------
    weights : np.ndarray
        (n², C, O), comparable with one another.
    zeros : float
        The part of the units that goes, rounded to a whole number of them.
    unit : str
        One of :data:`UNITS`, what stays or goes together: one weight; so many neighbouring output
        channels at one point of one input channel; all points between one input and one output
        channel, by the Frobenius norm.

    Returns
    -------
    np.ndarray
        Of the shape of ``weights``, float32.
    """
    points, channels, filters = weights.shape
    block = BLOCKS.get(unit, 1)
    if unit == "filter":
        norms = np.linalg.norm(weights, axis=0)
    else:
        padded = np.pad(weights, [(0, 0), (0, 0), (0, -filters % block)])
        norms = np.linalg.norm(padded.reshape(points, channels, -1, block), axis=-1)
    kept = np.ones(norms.size, np.float32)
    kept[np.argsort(norms, axis=None, kind="stable")[: round(zeros * norms.size)]] = 0
    kept = kept.reshape(norms.shape)
    if unit == "filter":
        return np.broadcast_to(kept, weights.shape).copy()
    return np.repeat(kept, block, axis=-1)[..., :filters]
