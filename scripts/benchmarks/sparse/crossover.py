"""Where few weights are zero: sparse products beside dense ones, and what the planner takes.

    python -m scripts.benchmarks.sparse.crossover --json crossover.json
    python -m scripts.benchmarks.sparse.crossover --layers resnet18-56 --blocks 16 --patterns random

Both kernels of a layer are called bare, in turns, on one thread. The zeros of every pattern are
whole blocks of output channels at one point of one input channel:

random      anywhere
channels    of the same input channels for all points and output channels
points      of the same points: some rows of blocks are empty, the others full
panels      of the same output channels: likewise
balanced    as many in each row, for `rows=balanced`

0-9 % and so on: time of the sparse kernel over the dense one's, least times, of the fewest zeros
taken, worst: likewise of what the planner chooses, of all parts of zeros
cost: of a multiply-accumulate in a block over that in a dense product, both with what the products
    wait for: what the sparse kernel takes for the blocks that are left, over the part that they
    are, the median; and the dense time less what the sparse kernel takes without any. BLOCK_COST of
    `sparse_winograd` is of that, by the size of blocks
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from schedules.algorithms.sparse_winograd.sparse_winograd import BALANCED
from schedules.kernel import packing
from schedules.layer.winograd_weights import BLOCKS, WinogradWeights
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from scripts.benchmarks.harness.bare import BareKernel, aligned, bare_kernels
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    chosen,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.sparse.layers import LAYERS, layer_of
from tvmc.command import LineParser

PATTERNS = ("random", "channels", "points", "panels", BALANCED)
#: Percent. Weights without zeros are those of another layer: there is nothing to choose.
ZEROS = (1, *range(5, 51, 5))
TILES = (4, 2)


def _options(parser: LineParser) -> None:
    parser.add_argument("--layers", metavar="A,B", help=f"of {', '.join(LAYERS)} [all]")
    parser.add_argument("--patterns", metavar="A,B", help=f"of {', '.join(PATTERNS)} [all]")
    parser.add_argument("--blocks", metavar="A,B", help=f"of {', '.join(map(str, BLOCKS))} [all]")
    parser.add_argument("--tiles", metavar="A,B", help=f"of {', '.join(map(str, TILES))} [all]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Every layer, tile, size of blocks and pattern, at all parts of zeros."""
    names = chosen("layer", options.layers, LAYERS)
    patterns = chosen("pattern", options.patterns, PATTERNS)
    blocks = [int(text) for text in chosen("size of blocks", options.blocks, map(str, BLOCKS))]
    tiles = [int(text) for text in chosen("tile", options.tiles, map(str, TILES))]
    for name in names:
        for m in tiles:
            say(f"{name}, F({m}x{m}) …")
            with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
                yield from bench(name, m, blocks, patterns, options.rounds, Path(folder))


def bench(
    name: str, m: int, blocks: list[int], patterns: list[str], rounds: int, folder: Path
) -> Iterator[Row]:
    """The rows of one layer and tile."""
    simd, (size, channels) = Simd.named("host"), LAYERS[name]
    layers = {"dense": layer_of(size, channels, WinogradWeights(m))}
    for block in blocks:
        for pattern in patterns:
            for percent in ZEROS:
                domain = _domain(m, pattern, percent, block)
                layers.setdefault(_kernel(domain), layer_of(size, channels, domain))
    plans = {
        kernel: plan_kernel(layer, simd, "winograd" if kernel == "dense" else "sparse_winograd")
        for kernel, layer in layers.items()
    }
    random = np.random.default_rng(0)
    image = aligned(random.standard_normal((1, size, size, channels), np.float32))
    bias = np.zeros(channels, np.float32)
    output = aligned(np.empty(layers["dense"].output_shape, np.float32))
    weights = random.standard_normal((channels, m + 2, m + 2, channels), np.float32)

    def arguments(kernel: str, values: np.ndarray) -> tuple[np.ndarray, ...]:
        packed = plans[kernel].packed
        constants = packing.pack(values, packed), packing.pack_bias(bias, packed)
        return (image, *map(aligned, constants), output)

    empty = {kernel: arguments(kernel, np.zeros_like(weights)) for kernel in plans}
    kernels = bare_kernels(plans, empty, folder)
    dense = replace(kernels["dense"], arguments=arguments("dense", weights))
    for block in blocks:
        for pattern in patterns:
            calls: dict[str, BareKernel] = {"dense": dense, "100": kernels[f"ragged{block}"]}
            for percent in ZEROS:
                kept = kept_blocks(pattern, (channels // block, m + 2, channels), percent, random)
                kernel = _kernel(_domain(m, pattern, percent, block))
                values = arguments(kernel, weights * np.repeat(kept, block, axis=0))
                reached = int(100 * (1 - kept.mean()))
                calls[str(reached)] = replace(kernels[kernel], arguments=values)
            times = interleave(calls, rounds=rounds)
            for percent in sorted(map(int, calls.keys() - {"dense", "100"})):
                domain = replace(_domain(m, pattern, percent, block), zeros=percent)
                best = plan_kernel(layer_of(size, channels, domain), simd)
                yield {
                    "layer": name,
                    "m": m,
                    "block": block,
                    "pattern": pattern,
                    "zeros": percent,
                    "seconds": {
                        "dense": times["dense"].minimum,
                        "sparse": times[str(percent)].minimum,
                        "no blocks": times["100"].minimum,
                    },
                    "algorithm": best.algorithm,
                }


def _domain(m: int, pattern: str, percent: int, block: int) -> WinogradWeights:
    """Of which a kernel takes weights with so many zeros: ragged rows may have any number."""
    balanced = pattern == BALANCED
    return WinogradWeights(m, False, percent if balanced else ZEROS[0], block, balanced)


def _kernel(domain: WinogradWeights) -> str:
    if domain.balanced:
        return f"{BALANCED}{domain.block}_{domain.zeros}"
    return f"ragged{domain.block}"


def kept_blocks(
    pattern: str, shape: tuple[int, int, int], zeros: int, random: np.random.Generator
) -> np.ndarray:
    """Which blocks are left, (panels, n, n, C), of ``shape`` (panels, n, C).

    The fewest whole blocks, channels, points or panels go that are ``zeros`` percent.
    """
    panels, n, channels = shape
    part = zeros / 100
    if pattern == "channels":
        kept = random.permutation(channels) >= math.ceil(part * channels)
        return np.broadcast_to(kept, (panels, n, n, channels))
    if pattern == "points":
        kept = random.permutation(n * n) >= math.ceil(part * n * n)
        return np.broadcast_to(kept.reshape(n, n, 1), (panels, n, n, channels))
    if pattern == "panels":
        kept = random.permutation(panels) >= math.ceil(part * panels)
        return np.broadcast_to(kept[:, None, None, None], (panels, n, n, channels))
    if pattern == BALANCED:
        order = random.permuted(np.tile(np.arange(channels), (panels, n, n, 1)), axis=-1)
        return order >= math.ceil(part * channels)
    count = panels * n * n * channels
    return (random.permutation(count) >= math.ceil(part * count)).reshape(panels, n, n, channels)


def least(row: Row, subject: str) -> float:
    """The least time, in seconds."""
    seconds: float = row["seconds"][subject]
    return seconds


def compared(row: Row) -> float:
    """The sparse kernel's time over the dense one's."""
    return least(row, "sparse") / least(row, "dense")


def taken(row: Row) -> float:
    """Likewise, of the kernel that the planner takes."""
    return compared(row) if row["algorithm"] == "sparse_winograd" else 1.0


def block_cost(rows: Rows) -> float:
    """Of one layer, tile, size of blocks and pattern: see above."""
    none, dense = (least(dict(rows[0]), subject) for subject in ("no blocks", "dense"))
    times = ((least(dict(row), "sparse"), 1 - row["zeros"] / 100) for row in rows)
    return float(np.median([(time - none) / left for time, left in times])) / (dense - none)


COLUMNS = {
    "layer": cell("layer"),
    "m": cell("m"),
    "block": cell("block"),
    "pattern": cell("pattern"),
    "dense ms": cell("dense", form=milliseconds),
    "cost": cell("cost", form=ratio),
    **{f"{low}-{low + 9} %": cell(str(low), form=ratio) for low in range(0, 60, 10)},
    "sparse from %": cell("from"),
    "taken, worst": cell("worst", form=ratio),
}


def report(rows: Rows) -> Iterator[str]:
    """A line for each layer, tile, block and pattern; the costs that they come to; the worst."""
    groups: dict[tuple[str, int, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["layer"], row["m"], row["block"], row["pattern"]].append(dict(row))
    costs: dict[int, list[float]] = defaultdict(list)
    lines = []
    for (layer, m, block, pattern), group in groups.items():
        cost = block_cost(group)
        costs[block].append(cost)
        sparse = [row["zeros"] for row in group if row["algorithm"] == "sparse_winograd"]
        lines.append(
            {
                "layer": layer,
                "m": m,
                "block": block,
                "pattern": pattern,
                "dense": least(group[0], "dense"),
                "cost": cost,
                **{str(row["zeros"] // 10 * 10): compared(row) for row in reversed(group)},
                "from": min(sparse, default="-"),
                "worst": max(map(taken, group)),
            }
        )
    yield table(COLUMNS, lines)
    for block, found in sorted(costs.items()):
        low, middle, high = np.percentile(found, [0, 50, 100])
        yield f"blocks of {block}: cost {middle:.2f}, from {low:.2f} to {high:.2f}"
    yield f"taken / dense at most {max(taken(dict(row)) for row in rows):.3f}"


BENCHMARK = Benchmark("sparse.crossover", __doc__, measure, report, _options, {"rounds": 9})
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
