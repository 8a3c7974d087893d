"""A lowering pass: loops that ask for weights before these are multiplied.

A core's own prefetching follows lines that are read one after the other. Where a kernel reads a
block of weights, works on it for long, and reads the next one, that starts anew for every block;
and where it reads several rows side by side, for every page of each.
"""

from __future__ import annotations

import re

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_map, structural_walk

#: Annotation of a loop: how many elements behind each one that it reads of weights it asks for, and
#: into which cache.
PREFETCH_ANNOTATION = "leanconv.prefetch"

_WEIGHTS = re.compile(r"W\d*")
#: Arguments of the intrinsic: to be read, data; and into the first or the second cache.
_READ, _DATA = 0, 1
INTO_L1, INTO_L2 = 3, 2


def prefetch_weights(
    schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV, elements_ahead: int, into: int = INTO_L1
) -> None:
    """Let ``loop`` ask for weights that lie so many elements behind those that it reads.

    The last ones may lie behind all weights: asking for them does nothing.
    """
    schedule.annotate(loop, PREFETCH_ANNOTATION, [elements_ahead, into])


@tirx.transform.prim_func_pass(opt_level=0)
def PrefetchWeights(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Put what annotated loops ask for at the beginning of their bodies."""

    def ask(loop: tirx.For) -> tirx.Stmt:
        annotations = dict(loop.annotations)
        asked_for = annotations.pop(PREFETCH_ANNOTATION, None)
        body = loop.body
        if asked_for is not None:
            ahead, into = map(int, asked_for)
            asked = [_prefetch(load, ahead, into) for load in _loads(loop.body)]
            body = tirx.SeqStmt([*asked, body])
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, annotations
        )

    return function.with_body(structural_map(function.body, (tirx.For, ask)))


def _loads(body: tirx.Stmt) -> list[tvm.ir.TensorLoad]:
    """What ``body`` reads of weights, each once."""
    found: dict[str, tvm.ir.TensorLoad] = {}

    def note(load: tvm.ir.TensorLoad) -> None:
        if _WEIGHTS.fullmatch(str(getattr(load.source, "name", ""))):
            found.setdefault(str(load.indices[0]), load)

    structural_walk(body, [(tvm.ir.TensorLoad, note)], order="pre")
    return list(found.values())


def ask_for(element: tvm.ir.TensorLoad, into: int = INTO_L1) -> tirx.Stmt:
    """Bring the cache line of ``element`` near, to be read."""
    place = tirx.call_intrin("handle", "tirx.address_of", element)
    return tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", place, _READ, into, _DATA))


def _prefetch(load: tvm.ir.TensorLoad, ahead: int, into: int) -> tirx.Stmt:
    (index,) = load.indices
    first = index.base if isinstance(index, tirx.Ramp) else index
    return ask_for(load.source[first + ahead], into)
