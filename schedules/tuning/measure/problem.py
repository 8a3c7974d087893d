"""Inputs for a workload, what must come out of them, and how far from it a kernel may be.

The largest error that is allowed follows from the one that is expected (see
:mod:`schedules.kernel.accuracy`), which is the root mean square, relative to that of the sums
before the activation. Of ``n`` independent, normally distributed errors of root mean square 1 the
largest is about ``sqrt(2 ln n)``. They are not all alike: larger where the sums are, and in some
places of a Winograd tile; and the estimate leaves out what a bias adds to partial sums.
:data:`SAFETY` is for that. Every step of the epilogue rounds once more, at most by half a unit in
the last place.

A kernel that leaves out one of K products, or has one twice, is off by about ``1 / sqrt(K)`` of the
root mean square in every output that it does so for; the allowed error is thousands of times less.

Of integers no error is allowed (:mod:`schedules.tuning.measure.integers`). Layers of floats with
int8 weights have a module of their own (:mod:`schedules.tuning.measure.bytes`). Those that are
computed in float16 have an image and weights that are numbers of float16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from schedules.kernel import packing
from schedules.kernel.accuracy import UNIT_ROUNDOFF, UNIT_ROUNDOFFS
from schedules.kernel.hybrid.scales import ChannelScales
from schedules.kernel.packing import PackedWeights
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.block import Workload
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.workload import ACTIVATIONS, HARD_SWISH, SWISH, Conv2dWorkload
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.tuning.measure import bytes as bytes_
from schedules.tuning.measure import integers

#: How many times the largest of normally distributed errors is allowed.
SAFETY = 4.0
#: Roundings of an output after its sum: activation (swish: ten), residual, that of the expected
#: output.
EPILOGUE_ROUNDINGS = 12
#: The steepest slopes of activations; others do not magnify errors.
SLOPES = {HARD_SWISH: 1.5, SWISH: 1.1}
#: Elements of one factor, in double precision at a time: a dense layer has 10^8 weights.
CHUNK_ELEMENTS = 2**23


@dataclass(frozen=True)
class Problem:
    """One workload's tensors, the same whenever they are made.

    Parameters
    ----------
    workload : Conv2dWorkload or Block
        What is computed.
    x, residual, expected : np.ndarray
        NHWC; ``residual`` is ``None`` without one, and the input itself for a block that can have
        it so. The channels of a workload that is one group of several lie among those of the
        others, from ``x_channel`` and ``y_channel`` on; the others are NaN, of integers -1: not to
        be read or written.
    weights, biases : tuple of np.ndarray
        OHWI, of the layer's ``weight_dtype``, and ``(M,)``, of each layer.
    magnitude : float
        Root mean square of the last layer's sums, before the activation; 0 of integers.
    quantisation : Quantisation or ChannelScales, optional
        Scales and zero points of a layer of integers, or scales of int8 weights.
    """

    workload: Workload
    x: np.ndarray
    residual: np.ndarray | None
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    expected: np.ndarray
    magnitude: float
    quantisation: Quantisation | ChannelScales | None = None

    @classmethod
    def of(cls, workload: Workload, seed: int = 0) -> Problem:
        """Normally distributed tensors, weights scaled so that outputs are of order 1.

        Of integers uniform ones; raises LeanconvError if their outputs are not known.
        """
        random = np.random.default_rng(seed)
        layers = workload.layers
        if layers[0].weight_dtype in ("int8", "uint8"):
            (layer,) = layers
            has_floats = layer.dtype == "float32"
            return (cls._of_bytes if has_floats else cls._of_integers)(random, layer)
        dtype = layers[0].dtype
        x = _normal(random, layers[0].input_shape).astype(dtype)
        residual = None
        if layers[-1].residual:
            own_input = len(layers) > 1 and x.shape == layers[-1].output_shape
            residual = x if own_input else _normal(random, layers[-1].output_shape).astype(dtype)
        weights = tuple(
            _normal(random, layer.weight_shape, layer.reduction**-0.5)
            .astype(dtype)
            .astype(layer.weight_dtype)
            for layer in layers
        )
        biases = tuple(
            _normal(random, (layer.out_channels,)).astype(dtype).astype(np.float32)
            for layer in layers
        )
        value: np.ndarray = x.astype(np.float32)
        for layer, w, b in zip(layers, weights, biases, strict=True):
            # Products have the mean square of the input over their number, biases one.
            magnitude = math.sqrt(1 + float(np.mean(np.square(value))))
            added = residual if layer.residual else None
            value = _finish(layer, _convolve(layer, value, w) + b, added)
        whole = [_among_groups(values, workload.calls) for values in (x, value.astype(dtype))]
        if residual is x:
            residual = whole[0]
        return cls(workload, whole[0], residual, weights, biases, whole[1], magnitude)

    @classmethod
    def _of_bytes(cls, random: np.random.Generator, layer: Conv2dWorkload) -> Problem:
        bytes_.check_measured(layer)
        x = bytes_.image(random, layer.input_shape)
        weights, scales = bytes_.weights(random, layer)
        bias = _normal(random, (layer.out_channels,))
        residual = _normal(random, layer.output_shape) if layer.residual else None
        sums = _convolve(layer, x, weights) * scales.values.astype(np.float64) + bias
        value = _finish(layer, sums, residual).astype(np.float32)
        magnitude = float(np.sqrt(np.mean(np.square(sums))))
        whole = [_among_groups(values, layer.calls) for values in (x, value)]
        return cls(layer, whole[0], residual, (weights,), (bias,), whole[1], magnitude, scales)

    @classmethod
    def _of_integers(cls, random: np.random.Generator, layer: Conv2dWorkload) -> Problem:
        integers.check_rule(layer)
        own = integers.quantisation(random, layer)
        x = integers.elements(random, layer.input_shape, least=-128)
        # Spread sums are of weights that never are -128 eight apart.
        weights = integers.elements(random, layer.weight_shape, least=-127)
        bias = random.integers(-2000, 2000, layer.out_channels).astype(np.int32)
        sums = _convolve(layer, x.astype(np.float64) - own.input_zero, weights) + bias
        residual = None
        if layer.residual:
            residual = integers.elements(random, layer.output_shape, least=-128)
        y = integers.finished(sums, residual, own)
        whole = [_among_groups(v, layer.calls) for v in (x, y)]
        return cls(layer, whole[0], residual, (weights,), (bias,), whole[1], 0.0, own)

    def packed(self, parts: Sequence[PackedWeights], simd: Simd) -> list[np.ndarray]:
        """The weights like ``parts``, layer by layer."""
        own = self.quantisation
        pairs = zip(self.weights, parts, strict=True)
        return [packing.pack(own.packable(w, p, simd) if own else w, p) for w, p in pairs]

    def constants(self, parts: Sequence[PackedWeights], simd: Simd) -> list[np.ndarray]:
        """What a kernel reads beside weights that are packed like ``parts``, layer by layer."""
        if self.quantisation is None:
            return list(map(packing.pack_bias, self.biases, parts))
        (weights,), (bias,), (part,) = self.weights, self.biases, parts
        return [self.quantisation.packed(weights, bias, part, simd)]

    @property
    def is_exact(self) -> bool:
        """Whether it is of integers."""
        return isinstance(self.quantisation, Quantisation)

    @property
    def x_channel(self) -> int:
        """The first channel of ``x`` that is the workload's own."""
        return _middle(self.x.shape[-1], self.workload.calls)

    @property
    def y_channel(self) -> int:
        """The first channel of the output that is the workload's own."""
        return _middle(self.expected.shape[-1], self.workload.calls)

    def tolerance(self, plan: Plan) -> float:
        """How far from ``expected`` any output of a kernel for ``plan`` may be."""
        layers = plan.layers
        if self.is_exact:
            return 0.0
        largest = math.sqrt(2 * math.log(max(self.expected.size // self.workload.calls, 2)))
        slope = math.prod(
            SLOPES.get(activation, 1.0)
            for layer in layers
            for activation in (layer.activation, layer.output_activation)
        )
        sums = SAFETY * largest * plan.expected_error * self.magnitude
        unit = UNIT_ROUNDOFFS.get(layers[0].dtype, UNIT_ROUNDOFF)
        rounding = EPILOGUE_ROUNDINGS * unit * self._largest_output
        return slope * (sums + rounding)

    @cached_property
    def _largest_output(self) -> float:
        """The largest value that the epilogue of an output deals with, or more."""
        # Sums are within a few times their root mean square, whatever an activation leaves of them.
        return max(float(np.nanmax(np.abs(self.expected))), 6 * self.magnitude)


def _normal(random: np.random.Generator, shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
    values = random.standard_normal(shape, np.float32)
    values *= np.float32(scale)
    return values


def _convolve(workload: Conv2dWorkload, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The convolution without bias, of shape (N, H', W', M), in double precision.

    A matrix product for each kernel position, on those pixels that it meets.
    """
    if isinstance(workload, Conv3dWorkload):
        return _convolve_volume(workload, x, weights)
    w = workload
    pad = ((0, 0), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0))
    padded = np.pad(x, pad).astype(np.float64)
    result = np.zeros((w.pixels, w.out_channels))
    for row in range(w.kernel_height):
        for column in range(w.kernel_width):
            top, left = row * w.dilation_height, column * w.dilation_width
            rows = slice(top, top + (w.out_height - 1) * w.stride_height + 1, w.stride_height)
            columns = slice(left, left + (w.out_width - 1) * w.stride_width + 1, w.stride_width)
            patches = padded[:, rows, columns].reshape(w.pixels, w.in_channels)
            tap = weights[:, row, column]
            if w.is_depthwise:
                result += np.repeat(patches, w.out_channels // w.groups, axis=1) * tap[:, 0]
            else:
                _add_product(result, patches, tap)
    return result.reshape(w.output_shape)


def _convolve_volume(w: Conv3dWorkload, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Likewise, of shape (N, D', H', W', M): a convolution of images for each of the kernel's."""
    result = np.zeros(w.output_shape)
    for d in range(w.out_depth):
        for kd in range(w.kernel_depth):
            place = d * w.stride_depth + kd * w.dilation_depth - w.pad_front
            if 0 <= place < w.in_depth:
                result[:, d] += _convolve(w.image(), x[:, place], weights[:, kd])
    return result


def _add_product(result: np.ndarray, patches: np.ndarray, tap: np.ndarray) -> None:
    """Add ``patches @ tap.T`` to ``result``, some output channels at a time."""
    step = max(1, CHUNK_ELEMENTS // tap.shape[1])
    for first in range(0, len(tap), step):
        chunk = tap[first : first + step].astype(np.float64)
        result[:, first : first + step] += patches @ chunk.T


def _finish(workload: Conv2dWorkload, sums: np.ndarray, residual: np.ndarray | None) -> np.ndarray:
    """The epilogue: activation, residual, output activation."""
    value = _activate(workload.activation, sums)
    return value if residual is None else _activate(workload.output_activation, value + residual)


def _activate(activation: str, value: np.ndarray) -> np.ndarray:
    if activation == SWISH:
        return value / (1 + np.exp(-value))
    if activation == HARD_SWISH:
        return value * np.clip(value + 3, 0, 6) / 6
    least, most = ACTIVATIONS[activation]
    return value if least is most else np.clip(value, least, most)


def _among_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """``values`` as the channels of the middle one of several groups, all others NaN or -1."""
    if groups == 1:
        return values
    channels = values.shape[-1]
    other = np.nan if values.dtype.kind == "f" else -1
    whole = np.full((*values.shape[:-1], groups * channels), other, values.dtype)
    first = _middle(whole.shape[-1], groups)
    whole[..., first : first + channels] = values
    return whole


def _middle(channels: int, groups: int) -> int:
    """The first channel of the middle one of several groups."""
    return groups // 2 * (channels // groups)
