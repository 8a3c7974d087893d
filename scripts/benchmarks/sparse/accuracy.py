"""Accuracy of networks that are pruned in the Winograd domain, on the digits of scikit-learn.

    pip download --no-deps scikit-learn
    python -m scripts.benchmarks.sparse.accuracy --digits scikit_learn-*.whl --keep trained

The 1797 handwritten digits of 8x8 pixels are in the package (sklearn/datasets/data/digits.csv.gz);
nothing of it is installed or imported. A seed draws 1097 of them to train on, each twice: under
noise, and moved by up to a pixel. Three networks are trained as they are, and then each way of
pruning takes them from level to level. Accuracy is that of the other 700, mean and standard
deviation over the seeds; lost: points of it, of 100. Training goes on where --keep ended.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from schedules.files import write_json
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, chosen, say, table
from scripts.prune.masks import UNITS
from scripts.prune.picture import accuracy_chart
from tvmc.command import LineParser, at_least_one

MEMBER = "sklearn/datasets/data/digits.csv.gz"
SIZE = 8
#: Of 1797.
TRAINING = 1097
#: Deviation of the noise on pixels from 0 to 1.
NOISE = 0.05
DENSE = "dense"
WINOGRAD_RELU = "winograd_relu"
#: By the unit, where the dense network's answers are learnt instead of the classes.
TAUGHT = {"taught": "element", "taught_block16": "block16"}
#: Ways of pruning: by unit, and single weights under a ReLU in the Winograd domain.
WAYS = (*UNITS, WINOGRAD_RELU, *TAUGHT)
LEVELS = (0.7, 0.8, 0.9)


def _plain(x: Any) -> Any:
    """Convolutions at full size, and the mean of each channel."""
    for channels in (32, 32, 48):
        x = _convolution(x, channels)
    return _pooled(_convolution(_pooled(x, 2), 48), 4)


def _vgg(x: Any) -> Any:
    """Two convolutions at each size."""
    for channels in (32, 64):
        for _ in range(2):
            x = _convolution(x, channels)
        x = _pooled(x, 2)
    return x


def _resnet(x: Any) -> Any:
    """Basic blocks with batch normalisation, the second over half the size."""
    from keras import layers

    x = _convolution(x, 32, norm=True)
    for channels, stride in ((32, 1), (64, 2)):
        y = _convolution(x, channels, stride, norm=True)
        y = _convolution(y, channels, norm=True, relu=False)
        if stride > 1:
            x = layers.Conv2D(channels, 1, stride, "same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    return _pooled(x, 2)


def _convolution(
    x: Any, channels: int, stride: int = 1, norm: bool = False, relu: bool = True
) -> Any:
    from keras import layers

    x = layers.Conv2D(channels, 3, stride, "same")(x)
    x = layers.BatchNormalization(momentum=0.9)(x) if norm else x
    return layers.ReLU()(x) if relu else x


def _pooled(x: Any, size: int) -> Any:
    from keras import layers

    return layers.MaxPooling2D(size)(x)


NETWORKS = {"plain": _plain, "vgg": _vgg, "resnet": _resnet}


def _options(parser: LineParser) -> None:
    parser.add_argument("--digits", type=Path, metavar="FILE", required=True,
        help="digits.csv.gz, or a wheel of scikit-learn with it")  # fmt: skip
    parser.add_argument("--keep", type=Path, metavar="FOLDER", required=True,
        help="what is trained is kept there, and not trained again")  # fmt: skip
    parser.add_argument("--networks", metavar="N[,N...]", help=f"of {', '.join(NETWORKS)} [all]")
    parser.add_argument("--ways", metavar="W[,W...]", help=f"of {', '.join(WAYS)} [all]")
    parser.add_argument("--seeds", default="0,1,2", metavar="N[,N...]", help="[%(default)s]")
    parser.add_argument("--epochs", type=at_least_one, default=40,
        help="of a dense network; a quarter of it at each level, half of it where answers are "
        "learnt [%(default)s]")  # fmt: skip


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Every network, seed and way, unless its rows are kept."""
    networks = chosen("network", options.networks, NETWORKS)
    ways = chosen("way", options.ways, WAYS)
    if not options.seeds.replace(",", "").isdecimal():
        raise LeanconvError(f"{options.seeds!r} are no seeds like 0,1,2")
    seeds = sorted({int(seed) for seed in options.seeds.split(",")})
    images = digits(options.digits)
    options.keep.mkdir(parents=True, exist_ok=True)
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    runs = [
        Run(network, seed, options.epochs, options.keep, images)
        for network in networks
        for seed in seeds
    ]
    for way in (DENSE, *ways):
        for run in runs:
            yield from run.rows(way)


@dataclass(frozen=True)
class Run:
    """One network and seed: dense, and then in every way from there.

    Parameters
    ----------
    images : (np.ndarray, np.ndarray)
        All digits and their classes.
    """

    network: str
    seed: int
    epochs: int
    folder: Path
    images: tuple[np.ndarray, np.ndarray]

    @property
    def _name(self) -> str:
        return f"{self.network}-{self.seed}-{self.epochs}"

    @property
    def _start(self) -> Path:
        """Where the dense network is."""
        return model_path(self.folder, self.network, self.seed)

    @cached_property
    def data(self) -> Any:
        """What the seed draws."""
        from scripts.prune.training import Data

        x, y = self.images
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(x))
        drawn, rest = order[:TRAINING], order[TRAINING:]
        moves = rng.integers(-1, 2, (TRAINING, 2))
        moved = np.stack(
            [np.roll(x[i], tuple(by), (0, 1)) for i, by in zip(drawn, moves, strict=True)]
        )
        x_train = np.concatenate([x[drawn], moved])
        x_train = x_train + NOISE * rng.standard_normal(x_train.shape).astype(np.float32)
        return Data(x_train, np.tile(y[drawn], 2), x[rest], y[rest])

    def rows(self, way: str) -> list[Row]:
        """Of one way, one for each level; trained now unless they are kept."""
        path = self.folder / f"{self._name}-{way}.json"
        if not path.exists():
            say(f"{self.network}, seed {self.seed}, {way} …")
            reached = self._dense() if way == DENSE else self._pruned(way)
            name = {"network": self.network, "seed": self.seed, "way": way}
            write_json(path, [{**name, **level} for level in reached])
        rows: list[Row] = json.loads(path.read_text())
        return rows

    def _dense(self) -> list[Row]:
        import keras

        from scripts.prune.training import Settings, accuracy, compile_for_training, train

        keras.utils.set_random_seed(self.seed)
        image = keras.Input((SIZE, SIZE, 1))
        x = keras.layers.Flatten()(NETWORKS[self.network](image))
        model = keras.Model(image, keras.layers.Dense(10)(x))
        compile_for_training(model)
        train(model, self.data, Settings(self.epochs, 2e-3))
        model.save(self._start)
        return [{"zeros": 0.0, "accuracy": accuracy(model, self.data)}]

    def _pruned(self, way: str) -> list[Row]:
        import keras

        from scripts.prune.replacing import replaced
        from scripts.prune.training import Settings, prune

        keras.utils.set_random_seed(self.seed)
        dense = keras.models.load_model(self._start, compile=False)
        model = replaced(dense, winograd_relu=way == WINOGRAD_RELU)
        unit = UNITS[0] if way == WINOGRAD_RELU else TAUGHT.get(way, way)
        part = 2 if way in TAUGHT else 4
        settings, reached = Settings(max(self.epochs // part, 1)), []
        teacher = dense if way in TAUGHT else None
        levels = prune(model, self.data, LEVELS, unit, settings, teacher=teacher)
        for goal, level in zip(LEVELS, levels, strict=True):
            model.save(model_path(self.folder, self.network, self.seed, way, goal))
            reached.append(asdict(level))
        return reached


def model_path(folder: Path, network: str, seed: int, way: str = DENSE, zeros: float = 0.0) -> Path:
    """Where a trained network is kept."""
    return folder / f"{network}-{seed}-{way}{100 * zeros:.0f}.keras"


def kept_rows(folder: Path) -> list[Row]:
    """All that were measured with ``--keep`` of that folder."""
    paths = sorted(folder.glob("*.json"))
    return [row for path in paths for row in json.loads(path.read_text())]


def digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8, 1), float32 from 0 to 1, and classes (1797,)."""
    try:
        packed = path.read_bytes()
        if zipfile.is_zipfile(path):
            packed = zipfile.ZipFile(path).read(MEMBER)
        if not packed:
            raise ValueError("it is empty")
        table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), np.float32, delimiter=",", ndmin=2)
        images = table[:, :-1].reshape(-1, SIZE, SIZE, 1) / 16
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise LeanconvError(f"{path}: no digits in it: {error}") from None
    return images, table[:, -1].astype(int)


def report(rows: Rows) -> Iterator[str]:
    """A line for each network, way and level."""
    yield table(COLUMNS, summary(rows))


def summary(rows: Rows) -> list[Row]:
    """Means over the seeds; what is lost is taken within a seed, whose images are the same."""
    dense = {(row["network"], row["seed"]): row["accuracy"] for row in rows if row["way"] == DENSE}
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["way"], round(row["zeros"], 2)), []).append(
            dict(row)
        )
    found = []
    for (network, way, zeros), group in groups.items():
        reached = np.array([row["accuracy"] for row in group])
        lost = np.array([dense[network, row["seed"]] for row in group]) - reached
        found.append(
            {
                "network": network,
                "way": way,
                "zeros": zeros,
                "seeds": len(group),
                "accuracy": float(reached.mean()),
                "spread": float(reached.std()),
                "lost": float(lost.mean()),
                "lost_spread": float(lost.std()),
            }
        )
    return found


def percent(value: float) -> str:
    """Of a part of 1, without the sign."""
    return f"{100 * value:.2f}"


COLUMNS = {
    "network": cell("network"),
    "way": cell("way"),
    "zeros %": cell("zeros", form=lambda part: f"{100 * part:.0f}"),
    "accuracy %": cell("accuracy", form=percent),
    "±": cell("spread", form=percent),
    "lost": cell("lost", form=percent),
    "± ": cell("lost_spread", form=percent),
    "seeds": cell("seeds"),
}


def picture(rows: Rows) -> str:
    """Of all networks together: means of their accuracies."""
    means = summary(rows)
    dense = np.mean([row["accuracy"] for row in means if row["way"] == DENSE])
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for way in WAYS:
        for zeros in sorted({row["zeros"] for row in means if row["way"] == way}):
            at = [row for row in means if (row["way"], row["zeros"]) == (way, zeros)]
            accuracy, spread = (
                float(np.mean([row[key] for row in at])) for key in ("accuracy", "spread")
            )
            lines.setdefault(way, []).append((zeros, accuracy, spread))
    return accuracy_chart("pruned networks, on handwritten digits", float(dense), lines)


BENCHMARK = Benchmark(
    "sparse.accuracy", __doc__, measure, report, _options, pictures={"sparse_accuracy.svg": picture}
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
