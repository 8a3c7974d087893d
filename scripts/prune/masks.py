"""Which weights stay: those whose unit has the largest norm."""

from __future__ import annotations

import numpy as np

#: Output channels that the sparse kernel multiplies at a time on NEON.
BLOCK = 8
UNITS = ("element", "block", "filter")


def mask(weights: np.ndarray, zeros: float, unit: str) -> np.ndarray:
    """1 where a weight stays, else 0.

    Parameters
    ----------
    weights : np.ndarray
        (n², C, O), comparable with one another.
    zeros : float
        The part of the units that goes, rounded to a whole number of them.
    unit : {"element", "block", "filter"}
        What stays or goes together: one weight; :data:`BLOCK` neighbouring output channels at one
        point of one input channel; all points between one input and one output channel, by the
        Frobenius norm.

    Returns
    -------
    np.ndarray
        Of the shape of ``weights``, float32.
    """
    points, channels, filters = weights.shape
    blocks = -(-filters // BLOCK) * BLOCK
    if unit == "block":
        padded = np.pad(weights, [(0, 0), (0, 0), (0, blocks - filters)])
        norms = np.linalg.norm(padded.reshape(points, channels, -1, BLOCK), axis=-1)
    elif unit == "filter":
        norms = np.linalg.norm(weights, axis=0)
    else:
        norms = abs(weights)
    kept = np.ones(norms.size, np.float32)
    kept[np.argsort(norms, axis=None, kind="stable")[: round(zeros * norms.size)]] = 0
    kept = kept.reshape(norms.shape)
    if unit == "block":
        return np.repeat(kept, BLOCK, axis=-1)[..., :filters]
    return np.broadcast_to(kept, weights.shape).copy()
