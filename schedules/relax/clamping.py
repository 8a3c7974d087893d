"""Clamps and maxima that TVM computes, with NaN as TFLite's built-in kernels have it.

TVM's own turn a NaN into a bound, and what comes out of a window with one depends on where it is.
Here a clamp keeps it, and the maximum of a window passes over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm import relax, te, tirx, topi
from tvm.ir import Op

from schedules.lower.clamping import at_least, at_most

Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def clamping_legalizations() -> Mapping[str, Legalize]:
    """For ``relax.transform.LegalizeOps``."""
    return {
        "relax.nn.relu": _legalize_relu,
        "relax.clip": _legalize_clip,
        "relax.nn.max_pool2d": _legalize_max_pool,
    }


def _legalize_relu(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    def relu(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *i: _clamped(x(*i), 0.0, None), name="compute")

    return builder.call_te(relu, *call.args, primfunc_name_hint="relu")


def _legalize_clip(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x, *bounds = call.args
    lower, upper = (float(bound.value) for bound in bounds)

    def clip(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *i: _clamped(x(*i), lower, upper), name="compute")

    return builder.call_te(clip, x, primfunc_name_hint="clip")


def _clamped(value: tirx.Expr, lower: float, upper: float | None) -> tirx.Expr:
    dtype = str(value.ty.dtype)
    if not dtype.startswith("float"):
        value = tirx.max(value, tirx.const(int(lower), dtype))
        return value if upper is None else tirx.min(value, tirx.const(int(upper), dtype))
    value = at_least(value, lower)
    return value if upper is None else at_most(value, upper)


def _legalize_max_pool(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    attributes = call.attrs
    is_plain = not attributes.ceil_mode and set(map(int, attributes.dilation)) == {1}
    if {attributes.layout, attributes.out_layout} != {"NHWC"} or not is_plain:
        return Op.get("relax.nn.max_pool2d").get_attr("FLegalize")(builder, call)
    window, strides, padding = (
        tuple(map(int, numbers))
        for numbers in (attributes.pool_size, attributes.strides, attributes.padding)
    )
    return builder.call_te(
        _max_pool, call.args[0], window, strides, padding, primfunc_name_hint="max_pool2d"
    )


def _max_pool(
    x: te.Tensor, window: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> te.Tensor:
    """Maxima of windows of an NHWC image; ``padding`` is top, left, bottom, right."""
    batch, height, width, channels = x.shape
    top, left, bottom, right = padding
    out_height = (height + top + bottom - window[0]) // strides[0] + 1
    out_width = (width + left + right - window[1]) // strides[1] + 1
    least = tirx.min_value(x.dtype)
    if any(padding):
        x = topi.nn.pad(x, [0, top, left, 0], [0, bottom, right, 0], pad_value=least)
    # The larger, or the second if the first is NaN: the maximum so far, which is none.
    largest = te.comm_reducer(lambda most, value: tirx.max(value, most), lambda _: least)
    rows = te.reduce_axis((0, window[0]), name="rows")
    columns = te.reduce_axis((0, window[1]), name="columns")
    return te.compute(
        (batch, out_height, out_width, channels),
        lambda n, h, w, c: largest(
            x[n, h * strides[0] + rows, w * strides[1] + columns, c], axis=[rows, columns]
        ),
        name="pool_max",
    )
