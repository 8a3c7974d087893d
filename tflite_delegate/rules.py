"""The one table of rounding rules: whose arithmetic, operator, type, processor and shape -> rule.

TFLite runs a layer of int8 or uint8 by one of several kernels, which round differently
(:mod:`schedules.layer.rounding`); which one depends on the processor and on the layer's shape. What
users name is whose arithmetic theirs shall be: ``xnnpack``, what TFLite does by default,
``builtin``, its own kernels for the processor, or ``reference``, those that are the same on all.
:func:`cases` has the rules of one target, the first that fits counts. The delegate has the same
list (csrc/host/kernel_table.h) and no other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schedules.layer.network import CONV, DENSE, DEPTHWISE, TRANSPOSED, Layer, describe
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd
from tflite_delegate.read import dynamic
from tflite_delegate.read.model import Model

#: Whose arithmetic a quantised model may be computed by.
XNNPACK, BUILTIN, REFERENCE = "xnnpack", "builtin", "reference"
#: What TFLite computes by default.
DEFAULT = XNNPACK
#: The cores of which XNNPACK knows that products of 16 bits are faster there.
NARROW_CORES = frozenset({"cortex-a53", "cortex-a55"})
#: XNNPACK has depthwise kernels of so many taps; more are a grouped convolution to it.
DEPTHWISE_TAPS = 25
#: Without a limit.
ANY = 2**31 - 1
#: Of hybrid layers.
_DYNAMIC = {
    XNNPACK: dynamic.xnnpack_rule,
    BUILTIN: dynamic.builtin_rule,
    REFERENCE: dynamic.reference_rule,
}


@dataclass(frozen=True)
class RuleCase:
    """A rule, and the layers that go by it.

    Parameters
    ----------
    kind : {"conv", "depthwise", "dense", "transposed"}
        Of the operator.
    dtype : {"int8", "uint8"}
        Of image and weights.
    rule : str
        One of :data:`schedules.layer.rounding.ROUNDINGS`.
    most_taps, most_multiplier, most_pixels : int
        Kernel rows times columns, output channels for each input channel, and output pixels of all
        images, at most.
    least_outputs, least_depth : int
        Output channels and products of a sum, at least.
    is_fast : bool
        Only layers that TFLite's depthwise kernel of 3x3 taps for Arm computes.
    """

    kind: str
    dtype: str
    rule: str
    most_taps: int = ANY
    most_multiplier: int = ANY
    most_pixels: int = ANY
    least_outputs: int = 1
    least_depth: int = 1
    is_fast: bool = False

    def fits(self, kind: str, workload: Conv2dWorkload) -> bool:
        """Whether a layer of this kind goes by the rule."""
        layer = workload
        return (
            (self.kind, self.dtype) == (kind, layer.dtype)
            and layer.kernel_height * layer.kernel_width <= self.most_taps
            and layer.out_channels // layer.in_channels <= self.most_multiplier
            and layer.pixels <= self.most_pixels
            and layer.out_channels >= self.least_outputs
            and layer.reduction >= self.least_depth
            and (not self.is_fast or _is_fast(layer))
        )


def _is_fast(layer: Conv2dWorkload) -> bool:
    """TFLite's Fast3x3FilterKernelSupported, of a layer with one output for each input channel."""
    pad, stride = layer.pad_top, layer.stride_height
    sizes = (layer.in_height, layer.in_width)
    steps = (layer.stride_width, layer.dilation_height, layer.dilation_width)
    if (layer.kernel_height, layer.kernel_width, *steps) != (3, 3, stride, 1, 1):
        return False
    if layer.in_channels % 8 or stride > 2 or pad != layer.pad_left or pad > 1:
        return False
    fits = all(
        (positions - 1) * stride - pad + 3 <= size + pad
        for positions, size in zip((layer.out_height, layer.out_width), sizes, strict=True)
    )
    return fits and (pad == 0 or 1 not in sizes or sizes[0] == sizes[1])


def cases(choice: str, simd: Simd) -> list[RuleCase]:
    """The rules of all layers for one of these choices and a target; the first that fits counts."""
    found = []
    for dtype in ("int8", "uint8"):
        by_choice = {XNNPACK: _xnnpack, BUILTIN: _builtin, REFERENCE: _reference}
        found += by_choice[choice](dtype, simd)
    return found


def dynamic_rule(
    choice: str, kind: str, workload: Conv2dWorkload, simd: Simd, is_padded: bool = False
) -> str:
    """The rule of a hybrid layer for one of these choices; ``workload`` has that it was read by."""
    return _DYNAMIC[choice](kind, workload, simd, is_padded)


def _xnnpack(dtype: str, simd: Simd) -> list[RuleCase]:
    if dtype == "int8" or simd.arch == "x86_64":
        return [RuleCase(kind, dtype, "xnn_fp32") for kind in (CONV, DEPTHWISE, DENSE, TRANSPOSED)]
    rule = "xnn_rndnu16" if _core(simd) in NARROW_CORES else "xnn_rndnu"
    small = RuleCase(DEPTHWISE, dtype, "xnn_rndnu_wrapping", DEPTHWISE_TAPS, most_multiplier=1)
    return [small, *(RuleCase(kind, dtype, rule) for kind in (CONV, DEPTHWISE, DENSE, TRANSPOSED))]


def _builtin(dtype: str, simd: Simd) -> list[RuleCase]:
    found = [RuleCase(DEPTHWISE, dtype, "depthwise_int8" if dtype == "int8" else "double")]
    if dtype == "uint8":  # of int8, the last channels of a pixel are rounded in another way
        found.append(RuleCase(TRANSPOSED, dtype, "double_up"))
    if simd.arch == "x86_64":
        return [*found, *(RuleCase(kind, dtype, "double_up") for kind in (CONV, DENSE))]
    fast = RuleCase(DEPTHWISE, dtype, "double_up", most_multiplier=1, is_fast=True)
    found.insert(0, fast)
    # The matrix product is ruy's but for one column, which has a kernel of its own.
    for kind in (CONV, DENSE):
        vector = RuleCase(kind, dtype, "double_up", most_pixels=1, least_outputs=4, least_depth=8)
        found += [vector, RuleCase(kind, dtype, "single")]
    return found


def _reference(dtype: str, simd: Simd) -> list[RuleCase]:
    del simd
    rules = {CONV: "double", DEPTHWISE: "double", DENSE: "real64", TRANSPOSED: "double"}
    return [RuleCase(kind, dtype, rule) for kind, rule in rules.items()]


def _without_sum(model: Model, layer: Layer) -> Layer:
    """``layer`` without the residual that it was read with: only XNNPACK's sums are merged."""
    assert layer.workload is not None
    *nodes, addition = layer.nodes
    (own,) = set(model.steps[addition].inputs) - {layer.residual}
    workload = replace(layer.workload, residual=False, output_activation="none")
    geometry = describe(layer.kind, workload)
    return replace(
        layer, workload=workload, geometry=geometry, nodes=tuple(nodes), output=own, residual=None
    )


def _core(simd: Simd) -> str:
    return simd.name.removesuffix("-android")


def with_rules(model: Model, choice: str, simd: Simd) -> Model:
    """``model`` whose quantised layers have the rules of one of these choices on a target."""
    rules = cases(choice, simd)

    def with_rule(layer: Layer) -> Layer:
        workload = layer.workload
        if workload is None or not workload.is_quantised:
            return layer
        if choice != XNNPACK and workload.residual and not workload.is_dynamic:
            return with_rule(_without_sum(model, layer))
        if workload.is_dynamic:
            # What a pad in front has padded is an image to TFLite.
            is_padded = layer.nodes[0] < layer.index
            known: str | None = dynamic_rule(choice, layer.kind, workload, simd, is_padded)
        else:
            found = (case.rule for case in rules if case.fits(layer.kind, workload))
            known = next(found, None)
        if known is None:
            reason = "no rule is known of the kernels that it is to follow"
            return replace(layer, workload=None, reason=reason)
        renamed = replace(workload, rounding=known)
        geometry = layer.geometry.replace(workload.rounding, known)
        return replace(layer, workload=renamed, geometry=geometry)

    others = tuple(with_rules(graph, choice, simd) for graph in model.others)
    return replace(model, layers=tuple(map(with_rule, model.layers)), others=others)
