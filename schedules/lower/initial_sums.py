"""Let sums begin with something else than zero, which ``te.sum`` cannot say.

A sum that begins with the bias saves adding it later: one instruction for each vector of sums,
which counts where few products are summed.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import s_tir, tirx
from tvm_ffi import structural_map


def start_with(
    function: tirx.PrimFunc, block: str, value: Callable[..., tirx.Expr]
) -> tirx.PrimFunc:
    """``function`` in which the sums of ``block`` begin with ``value(*indices)``, in their type."""

    def start(inner: s_tir.SBlock) -> s_tir.SBlock:
        if inner.name_hint != block:
            return inner
        zero = inner.init
        first = value(*zero.indices).astype(zero.buffer.dtype)
        return s_tir.SBlock(
            inner.iter_vars,
            inner.reads,
            inner.writes,
            inner.name_hint,
            inner.body,
            tirx.BufferStore(zero.buffer, first, zero.indices),
        )

    return function.with_body(structural_map(function.body, (s_tir.SBlock, start)))


def start_less(function: tirx.PrimFunc, block: str, tensor: str) -> tirx.PrimFunc:
    """``function`` in which the sums of ``block`` have an element of ``tensor`` taken off, once.

    Their definition says so by adding it to each term, last: that is left out, and only what the
    sums begin with is less by it.
    """

    def start(inner: s_tir.SBlock) -> s_tir.SBlock:
        if inner.name_hint != block:
            return inner
        taken: list[tirx.Expr] = []

        def leave_out(added: tirx.Add) -> tirx.Expr:
            if getattr(getattr(added.b, "source", None), "name", None) != tensor:
                return added
            taken.append(added.b)
            return added.a

        body = structural_map(inner.body, (tirx.Add, leave_out))
        first = inner.init
        less = tirx.BufferStore(first.buffer, first.value - taken[0], first.indices)
        return s_tir.SBlock(inner.iter_vars, inner.reads, inner.writes, inner.name_hint, body, less)

    return function.with_body(structural_map(function.body, (s_tir.SBlock, start)))


def start_with_bias(
    function: tirx.PrimFunc,
    block: str,
    argument: int,
    channel: Callable[[tirx.Expr], tirx.Expr] = lambda o: o,
) -> tirx.PrimFunc:
    """``function`` in which the sums of ``block`` begin with the bias.

    ``argument`` is its place among the function's parameters, and ``channel`` takes the last index
    to that of its element.
    """
    bias = function.params[argument]
    return start_with(function, block, lambda *i: bias[channel(i[-1])])
