"""Pruned networks: time against the dense form, and accuracy, of the same networks.

    python -m scripts.benchmarks.sparse.accuracy --digits scikit_learn-*.whl --keep trained
    python -m scripts.benchmarks.sparse.networks --keep trained --json networks.json

Networks are those that sparse.accuracy trained and kept. Each is exported twice in operators that
every TFLite runs: dense, its 3x3 layers in Winograd's domain as F(4x4), and pruned. Delegates of
both, and XNNPACK with the network as it was trained, run in turns on one thread. Time is that of
the first seed; zeros are elsewhere in another's, but as many.

/ dense F4, / XNNPACK: of least times, whole networks
lost: points of accuracy, of 100: mean and standard deviation over the seeds
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from schedules.errors import LeanconvError
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
from scripts.benchmarks.harness.comparison import compile_delegate
from scripts.benchmarks.harness.inference import LEANCONV, random_inputs
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.runners import XNNPACK, open_runner
from scripts.benchmarks.sparse import accuracy
from scripts.prune.masks import BLOCKS
from tvmc.command import LineParser

DENSE, PRUNED = "dense F4", "pruned"


def _options(parser: LineParser) -> None:
    networks, ways = ", ".join(accuracy.NETWORKS), ", ".join(accuracy.WAYS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", required=True,
        help="where sparse.accuracy kept what it trained")  # fmt: skip
    parser.add_argument("--networks", metavar="N[,N...]", help=f"of {networks} [all]")
    parser.add_argument("--ways", metavar="W[,W...]", default=",".join(BLOCKS),
        help=f"of {ways} [%(default)s]")  # fmt: skip
    parser.add_argument("--zeros", type=float, choices=accuracy.LEVELS, default=0.8,
        help="part of the weights [%(default)s]")  # fmt: skip


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Every network and way of which there is something in the folder."""
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    kept = accuracy.kept_rows(options.keep)
    for network in chosen("network", options.networks, accuracy.NETWORKS):
        for way in chosen("way", options.ways, accuracy.WAYS):
            runs = [row for row in kept if row["network"] == network]
            found = accuracy.summary([row for row in runs if row["way"] in (accuracy.DENSE, way)])
            levels = [row for row in found if row["zeros"] == options.zeros]
            if not levels:
                raise LeanconvError(f"{options.keep}: no {network} pruned by {way}")
            say(f"{network}, {way} …")
            yield levels[0] | _times(options.keep, runs[0]["seed"], levels[0], options.rounds)


def _times(folder: Path, seed: int, row: Row, rounds: int) -> Row:
    """Of the network of one seed, and their ratios."""
    import keras

    from scripts.prune.network import to_tflite
    from scripts.prune.replacing import replaced

    network, way = row["network"], row["way"]
    dense, pruned = (
        keras.models.load_model(path, compile=False)
        for path in (
            accuracy.model_path(folder, network, seed),
            accuracy.model_path(folder, network, seed, way, row["zeros"]),
        )
    )
    forms = {DENSE: replaced(dense), PRUNED: pruned, XNNPACK: dense}
    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        calls: dict[str, Callable[[], object]] = {}
        for form, model in forms.items():
            own = Path(name) / form.replace(" ", "_")
            own.mkdir()
            path = own / "network.tflite"
            path.write_bytes(to_tflite(model))
            kind = XNNPACK if form == XNNPACK else LEANCONV
            if kind == LEANCONV:
                compile_delegate(path, own, kind)
            runner = open_runner(kind, path, 1, own)
            assert runner.session is not None, "it is LiteRT's"
            runner.set_inputs(random_inputs(runner.session))
            calls[form] = runner.invoke
        times = interleave(calls, rounds=rounds)
    least = {form: timing.minimum for form, timing in times.items()}
    return {
        "times": {form: timing.to_dict() for form, timing in times.items()},
        "ratios": {form: least[PRUNED] / least[form] for form in (DENSE, XNNPACK)},
    }


COLUMNS = {
    "network": cell("network"),
    "way": cell("way"),
    "zeros %": cell("zeros", form=lambda part: f"{100 * part:.0f}"),
    "ms": cell("times", PRUNED, "min_s", form=milliseconds),
    "/ dense F4": cell("ratios", DENSE, form=ratio),
    "/ XNNPACK": cell("ratios", XNNPACK, form=ratio),
    "accuracy %": cell("accuracy", form=accuracy.percent),
    "lost": cell("lost", form=accuracy.percent),
    "±": cell("lost_spread", form=accuracy.percent),
    "seeds": cell("seeds"),
}


def report(rows: Rows) -> Iterator[str]:
    """A line for each network and way."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark("sparse.networks", __doc__, measure, report, _options, {"rounds": 30})
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
