"""The loops of Strassen's algorithm, as statements.

They are written rather than scheduled: sums that other sums go on from, and that stay in registers
until then, cannot be said by ``te.compute``. What a tile makes of seven products, with image
quadrants A, quadrants B of the weights, and their sums S and T::

    P = A11 B11             C11 = P + A12 B21
    Q = S0 T0
    U = P + S1 T1           V = U + S2 T2       C21 = V + A22 T3
    C22 = V + Q             C12 = U + Q + S3 B22

    S0 = A21 + A22    S1 = S0 - A11    S2 = A11 - A21    S3 = A12 - S1
    T0 = B12 - B11    T1 = B22 - T0    T2 = B22 - B12    T3 = B21 - T1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tvm import s_tir, tirx
from tvm.tirx import Expr, Stmt

from schedules.algorithms.strassen.quadrants import ROWS, SUMS, Quadrants
from schedules.kernel.epilogue import finish
from schedules.lower.loops.prefetch import ask_for
from schedules.lower.stages import STAGE_ANNOTATION

#: Of pixel or step of the reduction, and step or channel of a panel.
Element = Callable[[Expr, Expr], Expr]
#: What makes the elements of a sum of weights, and which one that is.
Making = tuple[int, Element]


def schedule_quadrants(loops: Quadrants, lanes: int) -> s_tir.Schedule:
    """The kernel, by vectors of so many ``lanes``."""
    kernel = _Kernel(loops, lanes)
    first, second = kernel.rows() if loops.order == ROWS else kernel.panels()
    body = tirx.SeqStmt([first, second])
    block = s_tir.SBlock([], [], [], "root", body, None, kernel.made, [], {})
    return s_tir.Schedule(tirx.PrimFunc(kernel.arguments, s_tir.SBlockRealize([], True, block)))


class _Kernel:
    """Buffers, and statements on them; ``q`` counts panels, ``t`` tiles of pixels."""

    def __init__(self, loops: Quadrants, lanes: int) -> None:
        self.loops, self.lanes = loops, lanes
        layer, tile = loops.workload, (loops.columns, loops.panel)
        half, depth, panels, panel = loops.pixels, loops.depth, loops.panels, loops.panel

        def buffer(name: str, *shape: int, scope: str = "global") -> tirx.Buffer:
            return tirx.decl_buffer(shape, layer.dtype, name, scope=scope)

        output = (2, half, 2, panels * panel)
        lines, steps = half // loops.width, (layer.stride_height, layer.stride_width)
        self.image = buffer("X", 2, lines, steps[0], loops.width, steps[1], 2, depth)
        self.residual = [buffer("R", *output)] if layer.residual else []
        self.weights = buffer("W", 2, panels, 2, depth, panel)
        self.bias, self.output = buffer("B", 2, panels, panel), buffer("Y", *output)
        self.image_sums = buffer("S", SUMS, loops.image_rows, depth)
        self.weight_sums = buffer("T", SUMS, loops.weight_panels, depth, panel)
        self.acc, *self.kept = (buffer(name, *tile, scope="local") for name in ("ACC", *"PQUV"))
        self.made = [self.image_sums, self.weight_sums, self.acc, *self.kept]
        self.arguments = [self.image, *self.residual, self.weights, self.bias, self.output]

    def panels(self) -> tuple[Stmt, Stmt]:
        """All sums of the image; then panel by panel, whose sums the first tile makes."""
        loops = self.loops
        first = _loop("m", loops.pixels, lambda m: self.add_image(m, m), stage=0)

        def panel(q: Expr) -> Stmt:
            made = self.tile(q, tirx.const(0, "int32"), makes=True)
            if loops.tiles == 1:
                return made
            return tirx.SeqStmt([made, _loop("t", loops.tiles - 1, lambda t: self.tile(q, t + 1))])

        return first, _loop("q", loops.panels, panel, stage=1)

    def rows(self) -> tuple[Stmt, Stmt]:
        """All sums of weights; then tile by tile of pixels, each with its sums first."""
        loops = self.loops
        first = _loop("q", loops.panels, self.add_weights, stage=0)

        def row(t: Expr) -> Stmt:
            start = t * loops.columns
            made = _loop("r", loops.columns, lambda r: self.add_image(start + r, r))
            return tirx.SeqStmt([made, _loop("q", loops.panels, lambda q: self.tile(q, t))])

        return first, _loop("t", loops.tiles, row, stage=1)

    def add_image(self, m: Expr, place: Expr) -> Stmt:
        """S of pixel ``m`` of either half."""
        width = self.loops.width

        def sums(k: Expr) -> Stmt:
            a11, a12, a21, a22 = (
                self.image[i, m // width, 0, m % width, 0, j, k] for i in (0, 1) for j in (0, 1)
            )
            total = a21 + a22
            rest = total - a11
            values = (total, rest, a11 - a21, a12 - rest)
            return _stores(self.image_sums, values, lambda s: (s, place, k))

        lanes = self.lanes
        vectors = self.loops.depth // lanes
        return _loop("v", vectors, lambda v: _vector(lanes, lambda lane: sums(v * lanes + lane)))

    def add_weights(self, q: Expr) -> Stmt:
        """T of panel ``q`` of either half."""

        def sums(k: Expr, o: Expr) -> Stmt:
            b11, b12, b21, b22 = (self.weights[j, q, i, k, o] for i in (0, 1) for j in (0, 1))
            first = b12 - b11
            rest = b22 - first
            values = (first, rest, b22 - b12, b21 - rest)
            return _stores(self.weight_sums, values, lambda s: (s, q, k, o))

        return _loop("k", self.loops.depth, lambda k: self.along_panel(lambda o: sums(k, o)))

    def tile(self, q: Expr, t: Expr, makes: bool = False) -> Stmt:
        """All quadrants of one tile; the sums of weights are there, or it ``makes`` them."""
        is_rows, start = self.loops.order == ROWS, t * self.loops.columns
        held, row = (q, 0) if is_rows else (0, start)
        in_line = self.loops.width // self.loops.columns
        line, first = t // in_line, t % in_line * self.loops.columns
        acc, (p, q_sums, u, v) = _element(self.acc), map(_element, self.kept)

        def a(i: int, j: int) -> Element:
            return lambda r, k: self.image[i, line, 0, first + r, 0, j, k]

        def b(i: int, j: int) -> Element:
            return lambda k, o: self.weights[j, q, i, k, o]

        def s(index: int) -> Element:
            return lambda r, k: self.image_sums[index, row + r, k]

        def t_(index: int) -> Element:
            return lambda k, o: self.weight_sums[index, held, k, o]

        def multiply(left: Element, right: Element) -> Stmt:
            return self.multiply(left, right)

        def made(left: Element, index: int, one: Element, other: Element) -> Stmt:
            making = (index, _minus(one, other)) if makes else None
            return self.multiply(left, t_(index), making)

        def finish(i: int, j: int, value: Element) -> Stmt:
            return self.finish((i, j), q, start, value)

        return tirx.SeqStmt(
            [
                *self.ask(q, start),
                self.begin(),
                multiply(a(0, 0), b(0, 0)),
                self.keep("P"),
                multiply(a(0, 1), b(1, 0)),
                finish(0, 0, acc),
                self.begin(),
                made(s(0), 0, b(0, 1), b(0, 0)),
                self.keep("Q"),
                self.begin(p),
                made(s(1), 1, b(1, 1), t_(0)),
                self.keep("U"),
                made(s(2), 2, b(1, 1), b(0, 1)),
                self.keep("V"),
                made(a(1, 1), 3, b(1, 0), t_(1)),
                finish(1, 0, acc),
                finish(1, 1, _plus(v, q_sums)),
                self.begin(_plus(u, q_sums)),
                multiply(s(3), b(1, 1)),
                finish(0, 1, acc),
            ]
        )

    def ask(self, q: Expr, start: Expr) -> list[Stmt]:
        """Ask for what a tile adds to its quadrants, which lie far from each other."""
        panel = self.loops.panel

        def row(tensor: tirx.Buffer, i: int, j: int, r: Expr) -> Stmt:
            return _unrolled(
                "v",
                panel // self.lanes,
                lambda v: ask_for(tensor[i, start + r, j, q * panel + v * self.lanes]),
            )

        return [
            _unrolled("r", self.loops.columns, partial(row, tensor, i, j))
            for tensor in self.residual
            for i in (0, 1)
            for j in (0, 1)
        ]

    def multiply(self, left: Element, right: Element, making: Making | None = None) -> Stmt:
        """Add a product to the sums in registers, perhaps making its right factor as it goes."""

        def products(k: Expr) -> Stmt:
            def add(r: Expr, o: Expr) -> Stmt:
                value = self.acc[r, o] + left(r, k) * right(k, o)
                return tirx.BufferStore(self.acc, value, [r, o])

            return self.in_tile(add)

        def step(k: Expr) -> Stmt:
            if making is None:
                return products(k)
            index, value = making

            def make(o: Expr) -> Stmt:
                return tirx.BufferStore(self.weight_sums, value(k, o), [index, 0, k, o])

            return tirx.SeqStmt([self.along_panel(make), products(k)])

        return _loop("k", self.loops.depth, step)

    def begin(self, value: Element | None = None) -> Stmt:
        """Let the sums begin with ``value``, by default with zero."""
        zero = tirx.const(0, self.loops.workload.dtype)
        return self.in_tile(
            lambda r, o: tirx.BufferStore(self.acc, zero if value is None else value(r, o), [r, o])
        )

    def keep(self, name: str) -> Stmt:
        """Keep the sums as they are now."""
        where = self.kept["PQUV".index(name)]
        return self.in_tile(lambda r, o: tirx.BufferStore(where, self.acc[r, o], [r, o]))

    def finish(self, quadrant: tuple[int, int], q: Expr, start: Expr, value: Element) -> Stmt:
        """Store a tile of a quadrant of the output."""
        i, j = quadrant

        def store(r: Expr, o: Expr) -> Stmt:
            place = [i, start + r, j, q * self.loops.panel + o]
            added = (tensor[tuple(place)] for tensor in self.residual)
            bias = self.bias[j, q, o]
            result = finish(value(r, o), bias, self.loops.workload, *added)
            return tirx.BufferStore(self.output, result, place)

        return self.in_tile(store)

    def in_tile(self, statement: Callable[[Expr, Expr], Stmt]) -> Stmt:
        """``statement`` for each pixel and channel of a tile, in straight-line code."""
        return _unrolled(
            "r", self.loops.columns, lambda r: self.along_panel(lambda o: statement(r, o))
        )

    def along_panel(self, statement: Callable[[Expr], Stmt]) -> Stmt:
        """``statement`` for each channel of a panel, vector by vector."""
        lanes = self.lanes

        def vector(v: Expr) -> Stmt:
            return _vector(lanes, lambda lane: statement(v * lanes + lane))

        return _unrolled("v", self.loops.panel // lanes, vector)


def _loop(name: str, size: int, body: Callable[[Expr], Stmt], stage: int | None = None) -> Stmt:
    """A loop, whose iterations are perhaps the work items of a stage."""
    annotations = {} if stage is None else {STAGE_ANNOTATION: stage}
    return _for(name, size, body, tirx.ForKind.SERIAL, annotations)


def _unrolled(name: str, size: int, body: Callable[[Expr], Stmt]) -> Stmt:
    return _for(name, size, body, tirx.ForKind.UNROLLED, {})


def _vector(size: int, body: Callable[[Expr], Stmt]) -> Stmt:
    return _for("lane", size, body, tirx.ForKind.VECTORIZED, {})


def _for(
    name: str,
    size: int,
    body: Callable[[Expr], Stmt],
    kind: tirx.ForKind,
    annotations: dict[str, int],
) -> Stmt:
    variable = tirx.Var(name, "int32")
    return tirx.For(variable, 0, size, kind, body(variable), None, annotations)


def _stores(
    buffer: tirx.Buffer, values: Sequence[Expr], place: Callable[[int], Sequence[Expr | int]]
) -> Stmt:
    return tirx.SeqStmt(
        [tirx.BufferStore(buffer, value, list(place(s))) for s, value in enumerate(values)]
    )


def _element(buffer: tirx.Buffer) -> Element:
    return lambda r, o: buffer[r, o]


def _plus(one: Element, other: Element) -> Element:
    return lambda r, o: one(r, o) + other(r, o)


def _minus(one: Element, other: Element) -> Element:
    return lambda k, o: one(k, o) - other(k, o)
