"""The delegate under sanitizers, in a host of our own and in LiteRT.

The host (host.c) stands in for TFLite, so that sanitizers see every memory access of the delegate,
and puts every tensor against an inaccessible page, so that a kernel that leaves its tensors dies,
sanitizer or not. UndefinedBehaviorSanitizer comes with zig and always runs; AddressSanitizer and
ThreadSanitizer need a C compiler of the system that has them, and are skipped without one.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.algorithms import REGISTRY
from schedules.simd import Simd
from tests.support.tflite_writer import Conv, chain
from tflite_delegate import model as tflite_model
from tflite_delegate.build import build, export_sources
from tflite_delegate.toolchain import Toolchain

HOST_SOURCE = Path(__file__).with_name("host.c")
ALGORITHMS = list(REGISTRY.names())
#: Allocations of the delegate go through the host.
HOST_ALLOCATOR = [f"-D{name}=host_{name}" for name in ("malloc", "calloc", "posix_memalign")]
OPTIONS = {
    "undefined": ["-fsanitize=undefined", "-fno-sanitize-recover=all"],
    "address,undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
#: Two layers of a network of odd shapes: small, because every allocation is failed in turn.
SMALL = [Conv(10, activation="relu6"), Conv(7, (3, 1), (2, 1), weight_type="float16")]


@functools.cache
def compiler(sanitizer: str) -> tuple[str, ...]:
    """A C compiler with the sanitizer; skips the test if there is none."""
    if sanitizer == "undefined":
        return (sys.executable, "-m", "ziglang", "cc")
    candidates = [os.environ.get("CC", "cc"), "gcc", "clang"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("int main(void) { return 0; }\n")
        for candidate in dict.fromkeys(candidates):
            command = [*shlex.split(candidate), *OPTIONS[sanitizer], str(source)]
            try:
                subprocess.run([*command, "-o", f"{folder}/probe"], check=True, capture_output=True)
                subprocess.run([f"{folder}/probe"], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return tuple(shlex.split(candidate))
    pytest.skip(f"no C compiler here has -fsanitize={sanitizer}")


def write_layers(model: Path, path: Path) -> int:
    """Write what host.c reads of a model: its claimable convolutions. Returns their number."""
    content = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
    graph = content.subgraphs[0]
    sources = {
        node.outputs[0]: node.inputs[0]
        for node in graph.operators
        if content.operatorCodes[node.opcodeIndex].builtinCode == schema.BuiltinOperator.DEQUANTIZE
    }
    layers = [layer for layer in tflite_model.read(model).layers if layer.workload]
    with path.open("wb") as file:
        for layer in layers:
            workload = layer.workload
            assert workload is not None
            node = graph.operators[layer.index]
            options = node.builtinOptions
            constants = [graph.tensors[sources.get(index, index)] for index in node.inputs[1:]]
            header = [
                *workload.input_shape,
                *workload.weight_shape[:3],
                options.padding + 1,
                *(options.strideH, options.strideW),
                options.fusedActivationFunction,
                *(options.dilationHFactor, options.dilationWFactor),
                constants[0].type == schema.TensorType.FLOAT16,
                len(constants) > 1,
            ]
            file.write(np.array(header, np.int32).tobytes())
            for tensor in constants:
                file.write(content.buffers[tensor.buffer].data.tobytes())
    return len(layers)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], tuple[Path, Path, int]]:
    """Program, layer file and number of layers, for a model and a sanitizer."""
    exported: dict[Path, Path] = {}

    def sources(model: Path) -> Path:
        if model not in exported:
            exported[model] = tmp_path_factory.mktemp("host") / "sources"
            export_sources(model, exported[model], Simd.named("host"), algorithms=ALGORITHMS)
        return exported[model]

    @functools.cache
    def make(model: Path, sanitizer: str) -> tuple[Path, Path, int]:
        command = [*compiler(sanitizer), "-std=gnu11", "-g", "-O1", *OPTIONS[sanitizer]]
        folder = sources(model)
        built = tmp_path_factory.mktemp("built")

        def compile_one(source: Path) -> str:
            target = built / f"{source.stem}.o"
            defines = [] if source == HOST_SOURCE else HOST_ALLOCATOR
            arguments = [*defines, f"-I{folder}", "-c", str(source), "-o", str(target)]
            subprocess.run([*command, *arguments], check=True)
            return str(target)

        with ThreadPoolExecutor(2) as executor:
            objects = list(executor.map(compile_one, [HOST_SOURCE, *folder.glob("*.c")]))
        kernels = map(str, folder.glob("*.o"))
        program = built / "host"
        libraries = ["-lm", "-lpthread", "-o", str(program)]
        subprocess.run([*command, *objects, *kernels, *libraries], check=True)
        return program, built / "layers", write_layers(model, built / "layers")

    return make


def run_host(program: Path, *arguments: object) -> str:
    result = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.tflite"
    path.write_bytes(chain((1, 9, 7, 5), SMALL))
    return path


@pytest.mark.parametrize("name", ["resnet8_cifar10_float", "mobilenet_vww96_float"])
@pytest.mark.parametrize("sanitizer", OPTIONS)
def test_trained_models(
    host: Callable[..., Any], shared_models: Path, sanitizer: str, name: str
) -> None:
    program, layers, count = host(shared_models / f"{name}.tflite", sanitizer)
    runs: Sequence[tuple[object, ...]] = [
        (algorithm, threads, 1, place)
        for algorithm in ALGORITHMS
        for threads, place in ((1, "end"), (2, "begin"))
    ]
    if sanitizer == "thread":
        runs = [("indirect", 3, 2, "end")]
    for arguments in runs:
        assert run_host(program, layers, *arguments) == f"claimed {count} of {count}\n"


@pytest.mark.parametrize("sanitizer", OPTIONS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_failing_allocations_and_damaged_nodes(
    host: Callable[..., Any], small_model: Path, sanitizer: str, algorithm: str
) -> None:
    program, layers, count = host(small_model, sanitizer)
    assert count == len(SMALL)
    output = run_host(program, layers, algorithm, 2, 1, "end", "harm").splitlines()
    assert output[0] == f"claimed {count} of {count}"
    assert int(output[1].split()[1]) > 5 * count
    assert output[2] == "left 34 kinds of damaged nodes"


@pytest.mark.parametrize("sanitizer", OPTIONS)
def test_many_interpreters(host: Callable[..., Any], small_model: Path, sanitizer: str) -> None:
    program, layers, count = host(small_model, sanitizer)
    for threads in (1, 3):
        output = run_host(program, layers, "im2col", threads, 6, "begin")
        assert output == f"claimed {count} of {count}\n"


IN_LITERT = """
import sys
from tests.tflite_delegate.conftest import _litert, random_inputs, run

api = _litert()
delegate = api.load_delegate(sys.argv[2])
interpreter = api.open(open(sys.argv[1], "rb").read(), delegate, num_threads=2)
inputs = random_inputs(interpreter)
run(interpreter, inputs)
index = interpreter.get_input_details()[0]["index"]
interpreter.resize_tensor_input(index, (2, *inputs[0].shape[1:]))
run(interpreter, random_inputs(interpreter))
del interpreter, delegate
print("clean")
"""


@pytest.mark.parametrize(
    "name", ["resnet8_cifar10_float", "mobilenet_vww96_float", "dscnn_kws_float"]
)
def test_in_litert(shared_models: Path, tmp_path: Path, repo_root: Path, name: str) -> None:
    """The shared library, in the real interpreter, with the sanitizers' runtime preloaded."""
    command = (*compiler("address,undefined"), *OPTIONS["address,undefined"], "-g")
    runtimes = []
    for name_of_runtime in ("libasan.so", "libstdc++.so.6"):  # asan looks for C++ at its start
        found = subprocess.run(
            [command[0], f"-print-file-name={name_of_runtime}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if not Path(found).is_absolute():
            pytest.skip(f"the compiler has no {name_of_runtime}")
        runtimes.append(found)
    model = shared_models / f"{name}.tflite"
    layers = [layer.workload for layer in tflite_model.read(model).layers]
    compiled_for = model if any(layers) else shared_models / "resnet8_cifar10_float.tflite"
    library = tmp_path / "lib.so"
    build(compiled_for, library, Simd.named("host"), toolchain=Toolchain(command))
    result = subprocess.run(
        [sys.executable, "-c", IN_LITERT, str(model), str(library)],
        cwd=repo_root,
        # Python and LiteRT do not free everything at the end: leaks are the other tests' business.
        env={**os.environ, "LD_PRELOAD": " ".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.stdout == "clean\n", result.stderr
    assert "ERROR: AddressSanitizer" not in result.stderr
    assert "runtime error" not in result.stderr
