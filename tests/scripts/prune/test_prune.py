"""The training tool: its layer, masks, replacement of convolutions, schedule, and commands."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from schedules.errors import LeanconvError
from scripts.prune.__main__ import main
from scripts.prune.layer import Unchanged, WinogradConv2D, winograd_layers, zeros
from scripts.prune.masks import BLOCKS, UNITS, mask
from scripts.prune.network import to_tflite
from scripts.prune.replacing import replaced
from scripts.prune.training import (
    Data,
    PruneGradually,
    Settings,
    compile_for_training,
    prune,
    train,
)
from tests.support.winograd_domain import winograd_conv2d

RNG = np.random.default_rng(0)


def network() -> Any:
    """Four convolutions to replace: alone, before a normalisation, in a sum, VALID; three not."""
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((10, 9, 8))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    y = layers.Conv2D(8, 3, padding="same", use_bias=False, name="normalised")(x)
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(y))
    y = layers.Conv2D(8, 3, padding="same", name="summed")(y)
    x = layers.ReLU(name="sum_relu")(layers.Add()([x, y]))
    x = layers.Conv2D(12, 3, activation="relu6", name="valid")(x)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="strided")(x)
    x = layers.Conv2D(2, 1, name="pointwise")(x)
    x = layers.Conv2D(2, 3, padding="same", name="narrow")(x)
    x = layers.Flatten()(x)
    model = keras.Model(image, layers.Dense(2)(x))
    for layer in model.layers:
        for weight in layer.weights:
            if not weight.name.startswith(("kernel", "seed")):
                weight.assign(RNG.uniform(0.5, 1, weight.shape))
    return model


def data() -> Data:
    """Two classes: more in the left half, or in the right."""
    x = RNG.uniform(0, 1, (96, 10, 9, 8)).astype(np.float32)
    y = RNG.integers(2, size=96)
    x[y == 0, :, :4] *= 0.3
    x[y == 1, :, 4:] *= 0.3
    return Data(x[:64], y[:64], x[64:], y[64:])


@pytest.mark.parametrize("winograd_relu", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_the_layer_computes_what_is_exported(winograd_relu: bool, padding: str) -> None:
    layer = WinogradConv2D(5, 4, 3, winograd_relu, padding, "RELU")
    x = RNG.standard_normal((2, 7, 9, 3)).astype(np.float32)
    layer(x)
    layer.bias.assign(RNG.standard_normal(5))
    layer.mask.assign(RNG.integers(2, size=layer.mask.shape))
    expected, bound = winograd_conv2d(
        x, layer.winograd_weights, layer.bias.numpy(), layer.convolution
    )
    assert (abs(layer(x).numpy() - expected) <= bound).all()
    assert np.count_nonzero(layer.winograd_weights) == np.count_nonzero(layer.mask)


def test_held_weights_are_of_one_size_at_every_point() -> None:
    """``U`` itself is not: the least and the largest point differ by far more."""
    layer = WinogradConv2D(64)
    layer.build((None, 8, 8, 64))
    held = np.sqrt((layer.w.numpy() ** 2).mean((1, 2)))
    transformed = np.sqrt((layer.winograd_weights**2).mean((1, 2)))
    assert held.max() / held.min() < 1.2
    assert transformed.max() / transformed.min() > 5


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("part", [0.0, 0.7, 0.95])
def test_masks_keep_the_largest_units(unit: str, part: float) -> None:
    weights = RNG.standard_normal((36, 6, 19))
    kept = mask(weights, part, unit)
    squares = weights**2
    if unit == "filter":
        norms, whole = squares.sum(0), kept[0]
        assert (kept == kept[:1]).all()
    elif unit in BLOCKS:
        size = BLOCKS[unit]
        starts = range(0, 19, size)
        norms = np.stack([squares[..., o : o + size].sum(-1) for o in starts])
        whole = np.stack([kept[..., o] for o in starts])
        assert all((kept[..., o : o + size] == kept[..., o : o + 1]).all() for o in starts)
    else:
        norms, whole = squares, kept
    assert np.count_nonzero(whole == 0) == round(part * whole.size)
    assert part == 0 or norms[whole == 0].max() <= norms[whole == 1].min()


def test_a_replaced_network_computes_the_same() -> None:
    model, x = network(), data().x_test
    pruned = replaced(model)
    names = [layer.name for layer in winograd_layers(pruned)]
    assert names == ["first", "normalised", "summed", "valid"]
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in pruned.layers)
    expected = model(x, training=False).numpy()
    np.testing.assert_allclose(pruned(x).numpy(), expected, rtol=1e-3, atol=1e-3)
    assert not np.allclose(replaced(model, winograd_relu=True)(x).numpy(), expected, atol=0.1)


def test_a_normalisation_of_rows_stays() -> None:
    image = keras.Input((8, 8, 8))
    rows = keras.layers.BatchNormalization(axis=1)
    model = keras.Model(image, rows(keras.layers.Conv2D(8, 3, padding="same")(image)))
    rows.gamma.assign(RNG.uniform(0.5, 1, 8))
    x = RNG.uniform(0, 1, (2, 8, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(replaced(model)(x), model(x), rtol=1e-3, atol=1e-3)


def test_relu_moves_only_where_nothing_else_reads_it() -> None:
    moved = replaced(network(), winograd_relu=True)
    activations = {la.name: la.convolution.activation for la in winograd_layers(moved)}
    assert activations == {
        "first": "RELU",  # the sum reads it too
        "normalised": "NONE",
        "summed": "NONE",
        "valid": "RELU6",
    }
    assert isinstance(moved.get_layer("relu"), Unchanged)
    assert isinstance(moved.get_layer("sum_relu"), Unchanged)
    assert all(layer.convolution.winograd_relu for layer in winograd_layers(moved))


def test_a_network_without_suitable_layers_is_refused() -> None:
    image = keras.Input((8, 8, 3))
    strided = keras.layers.Conv2D(4, 3, 2)(keras.layers.Conv2D(4, 1)(image))
    with pytest.raises(LeanconvError, match="no 3x3 convolution of stride 1 in it"):
        replaced(keras.Model(image, strided))


def test_pruning_is_gradual_and_what_went_stays_away() -> None:
    model, images = replaced(network()), data()
    compile_for_training(model)
    seen: list[np.ndarray] = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            np.concatenate([la.mask.numpy().ravel() for la in winograd_layers(model)])
        )
    )
    train(model, images, Settings(3, 1e-3, 4), PruneGradually("element", 0.0, 0.8, 24), keep)
    parts = [1 - kept.mean() for kept in seen]
    assert len(set(parts)) >= 5
    assert sorted(parts) == parts
    assert all((later <= earlier).all() for earlier, later in pairwise(seen))
    assert zeros(model) == pytest.approx(0.8, abs=1e-3)


def test_a_pruned_network_is_saved_loaded_and_exported(tmp_path: Path) -> None:
    model, images = replaced(network()), data()
    levels = list(prune(model, images, [0.5, 0.75], "block", Settings(2, 1e-3, 16)))
    assert [level.zeros for level in levels] == pytest.approx([0.5, 0.75], abs=0.05)
    model.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    x = images.x_test[:2]
    expected = model(x).numpy()
    assert (loaded(x).numpy() == expected).all()
    interpreter = Interpreter(model_content=to_tflite(loaded, batch=2))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)
    names = [operator["op_name"] for operator in interpreter._get_ops_details()]
    assert names.count("BATCH_MATMUL") == len(winograd_layers(model))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("prune")
    images = data()
    network().save(folder / "model.keras")
    np.savez(folder / "data.npz", **vars(images))
    return folder / "model.keras", folder / "data.npz"


def test_the_commands(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned, numbers, chart = (tmp_path / name for name in ("p.keras", "p.json", "p.svg"))
    options: list[Any] = ["--zeros", "0.6", "--epochs", "2", "--json", numbers, "--svg", chart]
    options.append("--taught")
    assert main(["train", *map(str, [*files, "--out", pruned, *options])]) == 0
    assert "60.0 % zeros: accuracy" in capsys.readouterr().err
    (level,) = json.loads(numbers.read_text())["levels"]
    assert level["zeros"] == pytest.approx(0.6, abs=1e-3)
    assert "zeros in the Winograd domain" in chart.read_text()
    graph = tmp_path / "p.tflite"
    assert main(["export", str(pruned), str(graph), "--custom"]) == 0
    assert "4 layers, 60.0 % zeros" in capsys.readouterr().out
    assert graph.read_bytes().count(b"leanconv.winograd_conv2d") == 1
    options = [str(files[1]), "--out", str(tmp_path / "q.keras"), "--zeros", "0.5"]
    assert main(["train", str(pruned), *options]) == 2
    assert "has 60.0 % zeros already" in capsys.readouterr().err
    assert main(["export", str(files[0]), str(graph)]) == 2
    assert "has no layer in the Winograd domain" in capsys.readouterr().err


def _wrong(name: str, images: Data, file: Path) -> Path:
    arrays = dict(vars(images))
    if name == "missing":
        del arrays["x_test"]
    elif name == "shape":
        arrays["x_train"] = arrays["x_train"][:, :5]
    elif name == "classes":
        arrays["y_test"] = arrays["y_test"] + 1
    elif name == "kind":
        arrays["y_train"] = arrays["y_train"] / 2
    elif name == "text":
        arrays["x_test"] = arrays["x_test"].astype(str)
    np.savez(file, **arrays)
    if name in ("cut", "empty"):
        file.write_bytes(file.read_bytes()[: 1000 * (name == "cut")])
    return file


@pytest.mark.parametrize(
    "name, complaint",
    [
        ("missing", "x_test is not a file in the archive"),
        ("shape", "x_train is (64, 5, 9, 8), the model takes (N, *(10, 9, 8))"),
        ("classes", "y_test is not of 0 to 1"),
        ("kind", "y_train is not one whole number for each"),
        ("text", "x_test is of <U32, not of numbers"),
        ("cut", "File is not a zip file"),
        ("empty", "No data left in file"),
    ],
)
def test_wrong_data_is_one_line(
    name: str,
    complaint: str,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _wrong(name, data(), tmp_path / "wrong.npz")
    assert main(["train", str(files[0]), str(path), "--out", str(tmp_path / "q.keras")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["nothing.keras", "DATA"], "there is no such file"),
        (["DATA", "DATA"], "is no Keras model"),
        (["MODEL", "missing.npz"], "cannot read missing.npz"),
        (["MODEL", "MODEL"], "x_train is not a file in the archive"),
        (["MODEL", "DATA", "--out", "x.h5"], "ends in .keras"),
    ],
)
def test_wrong_files_are_one_line(
    arguments: list[str],
    complaint: str,
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"MODEL": str(files[0]), "DATA": str(files[1])}
    given = [known.get(argument, argument) for argument in arguments]
    out = [] if "--out" in given else ["--out", "q.keras"]
    assert main(["train", *given, *out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize(
    "layers, complaint",
    [
        ([keras.layers.Dense(2)], "one input and one output is needed"),  # of no size yet
        ([keras.Input((10, 9, 8)), keras.layers.Conv2D(2, 3)], "output is (N, classes)"),
    ],
)
def test_other_models_are_one_line(
    layers: list[Any],
    complaint: str,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "other.keras"
    keras.Sequential(layers).save(path)
    assert main(["train", str(path), str(files[1]), "--out", str(tmp_path / "q.keras")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize("levels", ["0.8,0.5", "1", "x", "0.5,0.5"])
def test_wrong_levels_are_one_line(levels: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "m.keras", "d.npz", "--out", "o.keras", "--zeros", levels])
    assert stopped.value.code == 2
    assert "is not like 0.5,0.8" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "x", str(2**32)])
def test_a_wrong_seed_is_one_line(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "m.keras", "d.npz", "--out", "o.keras", f"--seed={seed}"])
    assert stopped.value.code == 2
    assert "is not a whole number from 0 to 2**32 - 1" in capsys.readouterr().err
