"""Random small networks in float64, with what arithmetic of float16 may make of each result.

Every tensor is carried as its exact value and a bound on the error of any float16 one. With unit
roundoff u, a sum of n products of independent roundings is off by at most ``expm1(SURE sqrt(n) u +
n u^2) sum |x w|`` but for a probability of ``2 exp(-SURE^2 / 2)`` an element (Higham and Mary 2019,
"A New Approach to Probabilistic Rounding Error Analysis", theorem 2.4). Errors of its input come to
at most ``sum |w| e``; and as weights are drawn evenly from -s to s, independently of the errors, to
at most ``SURE s sqrt(sum e^2)`` with the same probability (Hoeffding 1963).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from schedules.layer.workload import Conv2dWorkload
from schedules.transforms.cook_toom import filtering
from tests.support.reference import activate, conv2d, winograd_bound
from tests.support.tflite_schema import PADDINGS
from tests.support.tflite_writer import Conv, ModelWriter

Shape = tuple[int, ...]
#: Of float16: one rounding, and half of the least number above zero.
UNIT, TINY = 2.0**-11, 2.0**-25
#: That anything of some millions of elements is beyond the bounds has a probability below 1e-3.
SURE = 7.0
ACTIVATIONS = ("none", "relu", "relu6")
#: Pixels of images that are not made larger.
LARGE = 200
CHANNELS = (3, 4, 8, 12, 17, 24)


@dataclass(frozen=True)
class Value:
    """A tensor of a network: its number in the file, its elements, and how far others may be."""

    tensor: int
    exact: np.ndarray
    error: np.ndarray

    @property
    def shape(self) -> Shape:
        return self.exact.shape

    @property
    def largest(self) -> np.ndarray:
        """What an element may be at most, in magnitude."""
        return np.abs(self.exact) + self.error


class HalfNetwork:
    """Grows node by node, each with random operands among the values so far.

    Parameters
    ----------
    writer : ModelWriter
        Of a model that has room for several networks.
    seed : int
        Of everything.
    """

    def __init__(self, writer: ModelWriter, seed: int, nodes: int = 6) -> None:
        self.writer, self.rng = writer, np.random.default_rng(seed)
        shape = (self.one(1, 1, 2), *self.rng.integers(4, 10, 2).tolist(), self.one(*CHANNELS))
        self.image = self.rng.uniform(-2, 2, shape).astype(np.float16).astype(np.float32)
        first = Value(writer.tensor(shape), self.image.astype(np.float64), np.zeros(shape))
        self.first, self.values = first, [first]
        self.values.append(self.conv(first))
        for _ in range(nodes):
            self.values.append(self.one(*STEPS)(self, self.any()))
        read = {t for operator in writer.operators for t in operator.inputs}
        unread = [v for v in self.values if v.tensor not in read]
        # Some are read in the network, too.
        self.outputs = unread + [v for v in self.values[1:] if v not in unread and self.chance(0.1)]

    def one(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, of: float) -> bool:
        return bool(self.rng.random() < of)

    def any(self) -> Value:
        """An image, one of the latest mostly."""
        images = [v for v in self.values[1:] if len(v.shape) == 4]
        return images[-1] if self.chance(0.6) else self.one(*images)

    def like(self, shape: Shape) -> Value | None:
        """Some value of this shape."""
        found = [v for v in self.values if v.shape == shape]
        return self.one(*found) if found else None

    # -- nodes

    def node(
        self, name: str, inputs: Sequence[int], exact: np.ndarray, error: np.ndarray, **options: Any
    ) -> Value:
        """A node whose result is rounded once at most, beyond ``error``."""
        rounded = UNIT * (np.abs(exact) + error) + TINY
        return Value(self.writer.node(name, inputs, exact.shape, **options), exact, error + rounded)

    def moved(
        self,
        name: str,
        inputs: Sequence[Value],
        move: Callable[..., np.ndarray],
        constants: Sequence[int] = (),
        **options: Any,
    ) -> Value:
        """A node that picks elements."""
        tensors = [*(v.tensor for v in inputs), *constants]
        exact, error = move(*(v.exact for v in inputs)), move(*(v.error for v in inputs))
        return Value(self.writer.node(name, tensors, exact.shape, **options), exact, error)

    def layer(self, x: Value, conv: Conv) -> Value:
        conv = replace(conv, seed=int(self.rng.integers(1 << 30)))
        y, shape = self.writer.conv(x.tensor, x.shape, conv)
        weights, bias = conv.constants(x.shape[3])
        workload = replace(conv.workload(x.shape), dtype="float16", weight_dtype="float32")
        exact, error = layer_in_half(workload, x, weights, bias)
        assert exact.shape == shape
        return Value(y, exact, error)

    def conv(self, x: Value) -> Value:
        channels, kernel = self.one(*CHANNELS), self.one(1, 1, 1, 3, 5)
        stride, activation = self.one(1, 1, 2), self.one(*ACTIVATIONS)
        weight_type = self.one("float32", "float16")
        depthwise = self.chance(0.4) and kernel > 1
        conv = Conv(
            x.shape[3] if depthwise else channels, (kernel, kernel), (stride, stride),
            activation=activation, depthwise=depthwise, weight_type=weight_type,
        )  # fmt: skip
        return self.layer(x, conv)

    def inverted(self, x: Value) -> Value:
        """Expand, depthwise, project, and perhaps a sum: what one kernel may compute."""
        wide = self.layer(x, Conv(self.one(24, 32, 40), (1, 1), activation="relu6"))
        stride = self.one(1, 1, 2)
        conv = Conv(wide.shape[3], stride=(stride, stride), activation="relu6", depthwise=True)
        y = self.layer(self.layer(wide, conv), Conv(x.shape[3], (1, 1)))
        return self.sum_of(y, x) if y.shape == x.shape else y

    def squeezed(self, x: Value) -> Value:
        """Each channel times a factor that all of its pixels decide."""
        mean = self.mean(x)
        y = self.layer(self.layer(mean, Conv(8, (1, 1), activation="relu")),
                       Conv(x.shape[3], (1, 1)))  # fmt: skip
        return self.product_of(x, self.logistic(y))

    def mean(self, x: Value) -> Value:
        axes = self.writer.constant(np.array([1, 2], np.int32))
        exact, error = (v.mean((1, 2), keepdims=True) for v in (x.exact, x.error))
        return self.node("MEAN", [x.tensor, axes], exact, error, keepDims=True)

    def sum_of(self, a: Value, b: Value) -> Value:
        name, activation = self.one("ADD", "SUB"), self.one(*ACTIVATIONS)
        exact = a.exact + b.exact if name == "ADD" else a.exact - b.exact
        error = a.error + b.error
        error = error + UNIT * (np.abs(exact) + error)
        exact, error = activate(activation, exact, error)
        return self.node(
            name, [a.tensor, b.tensor], exact, error, fusedActivationFunction=activation
        )

    def product_of(self, a: Value, b: Value) -> Value:
        error = np.abs(a.exact) * b.error + b.largest * a.error
        options = {"fusedActivationFunction": "none"}
        return self.node("MUL", [a.tensor, b.tensor], a.exact * b.exact, error, **options)

    def combined(self, x: Value) -> Value:
        """With another of the same shape, or with a constant."""
        other = self.like(x.shape)
        if other is None or self.chance(0.3):
            array = self.rng.uniform(-1, 1, self.one((x.shape[3],), (1, 1, 1, x.shape[3]), (1,)))
            array = array.astype(self.one(np.float32, np.float16))
            rounding = UNIT * np.abs(array) + TINY
            other = Value(self.writer.constant(array), array.astype(np.float64), rounding)
        kind = self.one("sum", "product", "MAXIMUM", "MINIMUM")
        if kind == "sum":
            return self.sum_of(x, other)
        if kind == "product":
            return self.product_of(x, other)
        function = np.maximum if kind == "MAXIMUM" else np.minimum
        error = np.maximum(x.error, other.error)
        exact = function(x.exact, other.exact)
        return self.node(kind, [x.tensor, other.tensor], exact, error)

    def logistic(self, x: Value) -> Value:
        return self.node(
            "LOGISTIC", [x.tensor], 1 / (1 + np.exp(-x.exact)), np.minimum(x.error / 4, 1)
        )

    def function(self, x: Value) -> Value:
        """Of each element."""
        name = self.one("RELU", "RELU6", "HARD_SWISH", "TANH", "LOGISTIC", "ABS", "LEAKY_RELU",
                        "PRELU", "COS")  # fmt: skip
        exact, error, options, more = x.exact, x.error, {}, []
        match name:
            case "LOGISTIC":
                return self.logistic(x)
            case "RELU":
                exact = np.maximum(exact, 0)
            case "RELU6":
                exact, error = np.clip(exact, 0, 6), np.minimum(error, 6)
            case "TANH":
                exact, error = np.tanh(exact), np.minimum(error, 2)
            case "ABS":
                exact = np.abs(exact)
            case "COS":  # which TFLite computes
                exact = np.cos(exact)
            case "HARD_SWISH":
                exact, error = activate("hard_swish", exact, error, "float16")
            case "LEAKY_RELU":
                options = {"alpha": 0.3}
                exact = np.where(exact > 0, exact, np.float64(np.float32(0.3)) * exact)
                error = error + 2 * UNIT * x.largest
            case _:
                alpha = self.rng.uniform(-1, 1, x.shape[3]).astype(np.float32)
                more = [self.writer.constant(alpha)]
                exact = np.where(exact > 0, exact, alpha * exact)
                error = error + 2 * UNIT * x.largest
        return self.node(name, [x.tensor, *more], exact, error, **options)

    def pooled(self, x: Value) -> Value:
        name, padding = self.one("MAX_POOL_2D", "AVERAGE_POOL_2D"), self.one("SAME", "VALID")
        size, stride = min(self.one(2, 3), *x.shape[1:3]), self.one(1, 2)
        workload = Conv(1, (size, size), (stride, stride), padding=padding).workload(x.shape)
        is_max = name == "MAX_POOL_2D"
        exact, error = (_pooled(workload, v, is_max) for v in (x.exact, x.error))
        return self.node(
            name, [x.tensor], exact, error, filterHeight=size, filterWidth=size, strideH=stride,
            strideW=stride, padding=PADDINGS[padding], fusedActivationFunction="none",
        )  # fmt: skip

    def joined(self, x: Value) -> Value:
        fitting = [v for v in self.values if v.shape[:3] == x.shape[:3] and len(v.shape) == 4]
        others = [self.one(*fitting) for _ in range(self.one(1, 2))]
        return self.moved("CONCATENATION", [x, *others], _concatenated, axis=3)

    def resized(self, x: Value) -> Value:
        _, height, width, _ = x.shape
        if height * width > LARGE:
            return self.pooled(x)
        size = self.writer.constant(np.array([2 * height, 2 * width], np.int32))
        if self.chance(0.5):

            def nearest(v: np.ndarray) -> np.ndarray:
                return v.repeat(2, 1).repeat(2, 2)

            return self.moved("RESIZE_NEAREST_NEIGHBOR", [x], nearest, [size])
        exact, error = (_doubled(_doubled(v, 1), 2) for v in (x.exact, x.error))
        return self.node("RESIZE_BILINEAR", [x.tensor, size], exact, error, halfPixelCenters=True)

    def moving(self, x: Value) -> Value:
        """Where elements are changes, or how many there are."""
        batch, height, width, channels = x.shape
        if height == 1:
            return self.function(x)
        kind, constant = self.one("PAD", "STRIDED_SLICE", "RESHAPE", "TRANSPOSE"), self.constant
        if kind == "PAD":
            pads = ((0, 0), (1, 2), (0, 1), (0, 0))
            return self.moved(kind, [x], lambda v: np.pad(v, pads), [constant(pads)])
        if kind == "RESHAPE":
            shape = (batch, width, height, channels)
            return self.moved(kind, [x], lambda v: v.reshape(shape), [constant(shape)])
        if kind == "TRANSPOSE":
            order = [constant((0, 2, 1, 3))]
            return self.moved(kind, [x], lambda v: v.transpose(0, 2, 1, 3), order)
        ends = (batch, height, width, max(1, channels // 2))
        places = [constant((0, 1, 0, 0)), constant(ends), constant((1, 1, 2, 1))]
        return self.moved(kind, [x], lambda v: v[:, 1:, ::2, : ends[3]], places)

    def constant(self, values: Any) -> int:
        return self.writer.constant(np.array(values, np.int32))

    def softmax(self, x: Value) -> Value:
        powers = np.exp(x.exact - x.exact.max(-1, keepdims=True))
        exact = powers / powers.sum(-1, keepdims=True)
        spread = np.expm1(np.minimum(2 * x.error.max(-1, keepdims=True), 50))
        error = np.minimum(exact * spread, 1)
        return self.node("SOFTMAX", [x.tensor], exact, error, beta=1.0)


#: What a network may grow by; some more often.
STEPS = (
    HalfNetwork.conv, HalfNetwork.conv, HalfNetwork.inverted, HalfNetwork.squeezed,
    HalfNetwork.combined, HalfNetwork.combined, HalfNetwork.function, HalfNetwork.function,
    HalfNetwork.pooled, HalfNetwork.joined, HalfNetwork.resized, HalfNetwork.moving,
    HalfNetwork.mean, HalfNetwork.softmax,
)  # fmt: skip


def layer_in_half(
    workload: Conv2dWorkload, x: Value, weights: np.ndarray, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's result and its error, by whichever algorithm it is computed."""
    exact, _ = conv2d(workload, x.exact, weights, bias)
    linear = replace(workload, activation="none")
    magnitude, _ = conv2d(linear, x.largest, abs(weights), None if bias is None else abs(bias))
    # Those of the weights, the bias and the result beside the sum's.
    terms = workload.reduction + 4
    own = np.expm1(SURE * np.sqrt(terms) * UNIT + terms * UNIT**2) * magnitude
    own += 2 * terms * TINY * (1 + x.largest.max())
    is_winograd = workload.kernel_height == 3 and workload.stride_height == 1
    if is_winograd and not workload.is_depthwise:
        forms = (filtering(2, 3), filtering(2, 3))
        own = np.maximum(own, winograd_bound(linear, forms, x.largest, weights, bias))
    passed, _ = conv2d(linear, x.error, abs(weights), None)
    squares, _ = conv2d(linear, x.error**2, np.ones_like(weights), None)
    passed = np.minimum(passed, SURE * abs(weights).max() * np.sqrt(squares))
    error = own + passed
    return exact, np.minimum(error, 6) if workload.activation == "relu6" else error


def _concatenated(*values: np.ndarray) -> np.ndarray:
    return np.concatenate(values, axis=3)


def _pooled(w: Conv2dWorkload, x: np.ndarray, is_max: bool) -> np.ndarray:
    pads = ((0, 0), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0))
    padded = np.pad(x, pads, constant_values=np.nan)
    size = (w.kernel_height, w.kernel_width)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))
    windows = windows[:, :: w.stride_height, :: w.stride_width]
    function = np.nanmax if is_max else np.nanmean
    return np.asarray(function(windows, axis=(-2, -1)))


def _doubled(x: np.ndarray, axis: int) -> np.ndarray:
    """Twice as many along an axis: each between its two neighbours, a quarter of the way."""
    count = x.shape[axis]
    places = np.clip((np.arange(2 * count) + 0.5) / 2 - 0.5, 0, count - 1)
    below = places.astype(int)
    above = np.minimum(below + 1, count - 1)
    share = (places - below).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.asarray(x.take(below, axis) * (1 - share) + x.take(above, axis) * share)
