"""Prune a Keras network in the Winograd domain, and write it as a .tflite file.

python -m scripts.prune train model.keras digits.npz --out pruned.keras --zeros 0.5,0.7,0.8
python -m scripts.prune export pruned.keras pruned.tflite
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.files import replace_atomically
from scripts.prune.masks import UNITS
from tvmc.command import LineParser, at_least_one, check_output, exit_status, positive

#: Tiles whose transforms are accurate enough in float32 to train in.
TILES = (2, 4)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    # Before TensorFlow is imported, which otherwise writes what no user can do anything about.
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    return exit_status("prune", lambda: options.run(options))


def _parser() -> LineParser:
    parser = LineParser(prog="prune", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="prune and retrain a network",
        description="Put a network's 3x3 convolutions of stride 1 into the Winograd domain, "
        "and prune and retrain them there, to one level after another.")  # fmt: skip
    train.set_defaults(run=_train)
    train.add_argument("model", type=Path, metavar="MODEL.keras", help="a trained classifier")
    train.add_argument("data", type=Path, metavar="DATA.npz",
        help="images and classes: x_train, y_train, x_test, y_test")  # fmt: skip
    train.add_argument("--out", type=Path, required=True, metavar="FILE.keras",
        help="the network at the last level")  # fmt: skip
    train.add_argument("--zeros", type=_levels, default=[0.5, 0.7, 0.8], metavar="Z[,Z...]",
        help="levels, parts of the weights, rising [0.5,0.7,0.8]")  # fmt: skip
    train.add_argument("--unit", choices=UNITS, default="element",
        help="what becomes zero together: one weight, 8 or 16 output channels of it, or a "
        "whole filter [%(default)s]")  # fmt: skip
    train.add_argument("--winograd-relu", action="store_true",
        help="move ReLUs into the Winograd domain")  # fmt: skip
    train.add_argument("--taught", action="store_true",
        help="learn the answers that the network gave before, not the classes")  # fmt: skip
    train.add_argument("--tile", type=int, choices=TILES, default=4,
        help="outputs of a tile along one axis [%(default)s]")  # fmt: skip
    train.add_argument("--epochs", type=at_least_one, default=6, help="at each level [%(default)s]")
    train.add_argument("--rate", type=positive, default=1e-3, help="of learning [%(default)s]")
    train.add_argument("--batch", type=at_least_one, default=64, help="images [%(default)s]")
    train.add_argument("--seed", type=_seed, default=0, help="of all chance [%(default)s]")
    train.add_argument("--svg", type=Path, metavar="FILE", help="draw accuracy against zeros")
    train.add_argument("--json", type=Path, metavar="FILE", help="write them")
    export = commands.add_parser("export", help="write a .tflite file",
        description="Write a pruned network as a .tflite file, of operators that every TFLite "
        "runs, multiplying zeros as well, or with --custom of one that nothing but leanconv "
        "runs. It computes either as one layer, in a delegate or a module, and leaves zeros out.",
    )  # fmt: skip
    export.set_defaults(run=_export)
    export.add_argument("model", type=Path, metavar="MODEL.keras", help="what `train` wrote")
    export.add_argument("out", type=Path, metavar="FILE.tflite", help="what to write")
    export.add_argument("--custom", action="store_true",
        help="one operator a layer, leanconv.winograd_conv2d")  # fmt: skip
    export.add_argument("--batch", type=at_least_one, default=1, help="images [%(default)s]")
    return parser


def _levels(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or sorted(set(levels)) != levels or not 0 <= levels[0] <= levels[-1] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0.5,0.8: rising, from 0 to below 1")
    return levels


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**32 - 1")
    return int(text)


def _train(options: argparse.Namespace) -> None:
    for path in filter(None, [options.out, options.svg, options.json]):
        check_output(path, [options.model, options.data])
    if options.out.suffix != ".keras":
        raise LeanconvError(f"{options.out}: Keras wants a name that ends in .keras")
    import keras

    from scripts.prune.files import read_data, read_model
    from scripts.prune.layer import winograd_layers, zeros
    from scripts.prune.picture import accuracy_chart
    from scripts.prune.replacing import replaced
    from scripts.prune.training import Settings, accuracy, prune

    model = read_model(options.model)
    data = read_data(options.data, model)
    keras.utils.set_random_seed(options.seed)
    before = accuracy(model, data)
    _say(f"before: accuracy {100 * before:.2f} %")
    teacher = model if options.taught else None  # asked once, before it changes
    if not winograd_layers(model):
        model = replaced(model, options.tile, options.winograd_relu)
    elif zeros(model) > options.zeros[0]:
        raise LeanconvError(f"{options.model} has {100 * zeros(model):.1f} % zeros already")
    settings = Settings(options.epochs, options.rate, options.batch)
    reached = list(prune(model, data, options.zeros, options.unit, settings, _say, teacher))
    model.save(options.out)
    if options.json:
        rows = {"before": before, "levels": [asdict(level) for level in reached]}
        replace_atomically(options.json, json.dumps(rows, indent=1).encode())
    if options.svg:
        points = {options.unit: [(level.zeros, level.accuracy, 0.0) for level in reached]}
        chart = accuracy_chart(options.model.stem, before, points)
        replace_atomically(options.svg, chart.encode())


def _export(options: argparse.Namespace) -> None:
    check_output(options.out, [options.model])
    from scripts.prune.files import read_model
    from scripts.prune.layer import winograd_layers, zeros
    from scripts.prune.network import to_tflite

    model = read_model(options.model)
    layers = winograd_layers(model)
    if not layers:
        raise LeanconvError(f"{options.model} has no layer in the Winograd domain")
    way = "custom" if options.custom else "composite"
    replace_atomically(options.out, to_tflite(model, options.batch, way))
    print(f"{options.out}: {len(layers)} layers, {100 * zeros(model):.1f} % zeros")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
