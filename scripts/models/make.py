"""Make the networks that the demo, the benchmarks and the tests run, as .tflite files.

    python -m scripts.models.make --list
    python -m scripts.models.make mobilenet_v2 resnet_3x3

They are Keras networks with random weights (models/random_weights.py): the published ones that
benchmarks/networks.py runs (models/architectures.py), and small or single-layer ones for tests and
benchmarks; and three small ones that are trained (models/trained.py).

Files go to the cache folder and stay there until this script or TensorFlow changes.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.cache import cache_folder
from schedules.errors import LeanconvError, complaint
from schedules.files import replace_atomically
from scripts.models import architectures, random_weights
from scripts.models import trained as trained_models
from scripts.models.architectures import ARCHITECTURES, application, basic_blocks
from scripts.models.inverted import INVERTED
from scripts.models.layers import IMAGE_LAYERS, LAYERS, LITERATURE_LAYERS, PRODUCT, ConvLayer
from scripts.models.random_weights import randomise
from scripts.models.trained import TRAINED
from scripts.processes import module_command, module_environment
from tvmc.command import LineParser, exit_status
from tvmc.tables import format_bytes

Convert = Callable[[Any], bytes]


@dataclass(frozen=True)
class Recipe:
    """How one model is made: a Keras network and a conversion."""

    text: str
    build: Callable[[], Any]
    convert: Convert


def ensure(names: Sequence[str], folder: Path | None = None) -> list[Path]:
    """Paths of the named models, made first where they are missing or old.

    TensorFlow works in a process of its own, so that its threads and its memory do not disturb
    what the caller measures.

    Raises
    ------
    LeanconvError
        If a name is unknown or a model cannot be made.
    """
    folder = folder or cache_folder("models")
    _check_names(names)
    if not all(_is_fresh(folder, name) for name in names):
        with _alone():
            _make_in_a_process([name for name in names if not _is_fresh(folder, name)], folder)
    return [folder / f"{name}.tflite" for name in names]


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in RECIPES:
            raise LeanconvError(f"unknown model {name!r}: one of {', '.join(RECIPES)}")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other process of this user makes models meanwhile: perhaps they are the same."""
    path = Path(tempfile.gettempdir()) / f"leanconv-models-{os.getuid()}"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_in_a_process(names: Sequence[str], folder: Path) -> None:
    if not names:
        return
    print(f"making {', '.join(names)} …", file=sys.stderr, flush=True)
    command = module_command("scripts.models.make", "--out", folder, *names)
    done = subprocess.run(command, text=True, capture_output=True, env=module_environment())
    if done.returncode:
        raise LeanconvError(f"could not make {', '.join(names)}: {complaint(done.stderr)}")


def make(name: str, folder: Path) -> Path:
    """Make one model in this process, whether it is there or not."""
    recipe = RECIPES[name]
    sys.stdout.flush()
    if importlib.util.find_spec("tensorflow") is None:
        raise LeanconvError("TensorFlow is not installed: pip install 'leanconv[models]'")
    with quiet_tensorflow():
        import keras

        keras.utils.set_random_seed(0)
        data = recipe.convert(recipe.build())
        keras.backend.clear_session()
    path = folder / f"{name}.tflite"
    replace_atomically(path, data)
    replace_atomically(_stamp_path(folder, name), _stamp().encode())
    return path


#: What defines the models.
SOURCES = (sys.modules[__name__], architectures, random_weights, trained_models)


def _stamp() -> str:
    """What the models depend on: the files that define them, and the converter."""
    source = "".join(map(inspect.getsource, SOURCES))
    digest = hashlib.sha256(source.encode()).hexdigest()
    return f"{digest} tensorflow {importlib.metadata.version('tensorflow')}\n"


def _stamp_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.made-by"


def _is_fresh(folder: Path, name: str) -> bool:
    try:
        made_by = _stamp_path(folder, name).read_text()
    except OSError:
        return False
    try:
        return made_by == _stamp() and (folder / f"{name}.tflite").is_file()
    except importlib.metadata.PackageNotFoundError:
        # Nothing here could make a newer one.
        return (folder / f"{name}.tflite").is_file()


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keep what TensorFlow and Keras print from the terminal; show it if something fails.

    Much of it is written by C++ before any logging can be configured, hence file descriptors.
    """
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_ENABLE_ONEDNN_OPTS="0")
    terminals = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    with tempfile.TemporaryFile() as log:
        try:
            for descriptor in terminals:
                os.dup2(log.fileno(), descriptor)
            yield
        except BaseException:
            log.seek(0)
            os.write(terminals[2], log.read())
            raise
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for descriptor, terminal in terminals.items():
                os.dup2(terminal, descriptor)
                os.close(terminal)


# Networks


def _resnet_3x3() -> Any:
    """ResNet's basic blocks at the four sizes of ResNet-50's stages, without its 1x1 layers."""
    import keras
    from keras import layers

    image = keras.Input((56, 56, 64), batch_size=1)
    x = layers.GlobalAveragePooling2D()(basic_blocks(image))
    return randomise(keras.Model(image, layers.Dense(10)(x)), (56, 56, 64))


def _coverage() -> Any:
    """Every kind of geometry in a network small enough for an emulated board.

    Strides 1 to 3, dilation 2, SAME and VALID, kernels 1x1, 3x3, 5x5, 7x1, and 1, 3, 10, 17, 24,
    33 and 255 channels, on an image whose sizes divide by nothing.
    """
    import keras
    from keras import layers

    image = keras.Input((37, 29, 3), batch_size=1)
    a = layers.Conv2D(10, 3, padding="same", activation="relu")(image)
    b = layers.Conv2D(17, 5, strides=2, padding="same", activation="relu6")(a)
    c = layers.Conv2D(24, 1)(b)
    d = layers.Conv2D(24, 3, dilation_rate=2, padding="same", activation="relu")(c)
    e = layers.Conv2D(33, (7, 1), padding="same", use_bias=False)(layers.Add()([c, d]))
    f = layers.Conv2D(255, 3, strides=3, padding="valid", activation="relu")(e)
    g = layers.Conv2D(1, 1, activation="relu6")(f)
    h = layers.Conv2D(3, 3, padding="same")(g)
    i = layers.Conv2D(24, 3, dilation_rate=2, padding="valid", activation="relu")(d)
    j = layers.Conv2D(10, 5, strides=(3, 1), padding="valid")(i)
    k = layers.Conv2D(17, 1, strides=2, padding="same")(e)
    m = layers.Conv2D(33, 3, strides=3, padding="same", activation="relu")(a)
    return randomise(keras.Model(image, [h, j, k, m]), (37, 29, 3))


def _small() -> Any:
    """A few layers of each kind, for what only differs in how it is quantised."""
    import keras
    from keras import layers

    x = image = keras.Input((32, 32, 3), batch_size=1)
    x = layers.Conv2D(16, 3, 2, "same", activation="relu")(x)
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    y = layers.Conv2D(24, 1)(x)
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(y)
    x = layers.Conv2D(40, 3, 2, "valid", activation="relu")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(keras.Model(image, layers.Softmax()(layers.Dense(10)(x))), (32, 32, 3))


def _lenet() -> Any:
    """LeNet-5 with maxima and ReLU (LeCun et al., Gradient-Based Learning, 1998)."""
    import keras
    from keras import layers

    x = image = keras.Input((28, 28, 1), batch_size=1)
    for channels, padding in ((6, "same"), (16, "valid")):
        x = layers.Conv2D(channels, 5, padding=padding, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    for units in (120, 84, 10):
        x = layers.Dense(units)(x)
    return randomise(keras.Model(image, layers.Softmax()(x)), (28, 28, 1))


def _single(layer: ConvLayer) -> Callable[[], Any]:
    def build() -> Any:
        import keras

        shape = (layer.in_height, layer.in_width, layer.in_channels)
        image = keras.Input(shape, batch_size=1)
        convolution = keras.layers.Conv2D(
            layer.out_channels, layer.kernel, layer.stride, layer.padding, activation="relu"
        )
        return randomise(keras.Model(image, convolution(image)), shape)

    return build


# Conversions


def _converter(model: Any, optimised: bool = True) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if optimised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter


def _float32(model: Any) -> bytes:
    return bytes(_converter(model, optimised=False).convert())


def _float16(model: Any) -> bytes:
    """float16 constants, each behind a DEQUANTIZE node; float32 arithmetic."""
    import tensorflow as tf

    converter = _converter(model)
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def _dynamic_range(model: Any) -> bytes:
    """int8 weights with float32 activations: TFLite's hybrid kernels."""
    return bytes(_converter(model).convert())


def _int8(model: Any) -> bytes:
    """int8 throughout, also the input and the output; noise tells the ranges of tensors."""
    import numpy as np

    rng = np.random.default_rng(0)
    return _quantised(model, rng.uniform(-1, 1, (8, *model.inputs[0].shape[1:])))


def _quantised(model: Any, images: Any) -> bytes:
    """int8 throughout, for the ranges of tensors that these images give."""
    import tensorflow as tf

    converter = _converter(model)
    converter.representative_dataset = lambda: ([x[None]] for x in images.astype("float32"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def _trained(name: str) -> dict[str, Recipe]:
    network = TRAINED[name]
    conversions: dict[str, tuple[str, Convert]] = {
        "float": ("", _float32),
        "fp16": (", float16 constants", _float16),
        "hybrid": (", int8 weights (hybrid)", _dynamic_range),
        "int8": (", int8", lambda model: _quantised(model, network.images(32, seed=1)[0])),
    }
    return {
        f"{name}_{suffix}": Recipe(network.text + text, network.trained, convert)
        for suffix, (text, convert) in conversions.items()
    }


#: What is behind the name of a layer, and how it is converted.
_OF_LAYERS: dict[str, tuple[str, Convert]] = {
    "": ("", _float32),
    "_float16": (", float16 constants", _float16),
    "_hybrid": (", int8 weights (hybrid)", _dynamic_range),
    "_int8": (", int8", _int8),
}
#: The published networks that are also made in int8.
INTEGER_NETWORKS = ("mobilenet_v1_int8", "mobilenet_v2_int8", "resnet50_int8")
#: And those for microcontrollers.
INVERTED_INT8 = tuple(f"{name}_int8" for name in INVERTED)


def _in_int8(name: str) -> Recipe:
    text, build = {**ARCHITECTURES, **INVERTED}[name.removesuffix("_int8")]
    return Recipe(f"{text}, int8", build, _int8)


#: Every model by name.
RECIPES: dict[str, Recipe] = {
    **{name: Recipe(text, build, _float32) for name, (text, build) in ARCHITECTURES.items()},
    **{name: _in_int8(name) for name in (*INTEGER_NETWORKS, *INVERTED_INT8)},
    **{name: Recipe(text, build, _float32) for name, (text, build) in INVERTED.items()},
    "efficientnet_b0": Recipe(
        "Keras EfficientNetB0, 224x224x3", application("EfficientNetB0"), _float32
    ),
    **_trained("resnet8"),
    **_trained("mobilenet_96"),
    **_trained("dscnn"),
    "resnet_3x3": Recipe("3x3 residual blocks at ResNet-50's sizes", _resnet_3x3, _float32),
    "coverage": Recipe("every kind of geometry, small", _coverage, _float32),
    "lenet": Recipe("LeNet-5, 28x28x1", _lenet, _float32),
    "small": Recipe("a few layers, float32", _small, _float32),
    "small_fp16": Recipe("the same, float16 constants", _small, _float16),
    "small_dynamic_range": Recipe("the same, int8 weights (hybrid)", _small, _dynamic_range),
    "small_int8": Recipe("the same, int8", _small, _int8),
    **{
        layer.name + suffix: Recipe(f"one layer, {layer}{text}", _single(layer), convert)
        for layer in (*LAYERS, *LITERATURE_LAYERS.values(), *IMAGE_LAYERS, PRODUCT)
        for suffix, (text, convert) in _OF_LAYERS.items()
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="models.make", description="Make networks as .tflite files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which models (default: all)")
    parser.add_argument(
        "--out", type=Path, default=cache_folder("models"), help="folder [%(default)s]"
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--force", action="store_true", help="make them even if they are there")
    options = parser.parse_args(arguments)
    return exit_status("models.make", lambda: _make_all(options))


def _make_all(options: argparse.Namespace) -> None:
    if options.list:
        for name, recipe in RECIPES.items():
            print(f"{name:34} {recipe.text}")
        return
    names = options.names or list(RECIPES)
    _check_names(names)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = options.out / f"{name}.tflite"
        fresh = _is_fresh(options.out, name) and not options.force
        if not fresh:
            make(name, options.out)
        print(f"{'kept' if fresh else 'made'} {path} ({format_bytes(path.stat().st_size)})")


if __name__ == "__main__":
    sys.exit(main())
