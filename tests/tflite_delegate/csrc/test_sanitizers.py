"""The delegate under sanitizers, in a host of our own and in LiteRT.

The host (host.c) stands in for TFLite, so that sanitizers see every memory access of the delegate,
and puts every tensor against an inaccessible page, so that a kernel that leaves its tensors dies,
sanitizer or not. zig compiles for every sanitizer and has the runtimes of UndefinedBehavior- and
ThreadSanitizer; that of AddressSanitizer is in the board's folder. Defects made on purpose show
that each of them is at work.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.algorithms import REGISTRY
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from scripts.board.board import Board
from tests.support import coded_movements, coded_operators
from tests.support.kernels import error_bound, serves
from tests.support.tflite_writer import Conv, chain
from tests.tflite_delegate.csrc.kernels import test_sparsity
from tests.tflite_delegate.csrc.layer import test_merge
from tests.tflite_delegate.csrc.operators import operator_cases, test_movement, test_operators
from tests.tflite_delegate.csrc.run import test_network, test_quantised_rows
from tests.tflite_delegate.csrc.run import test_rows as chains_by_rows
from tflite_delegate.build import build, export_sources
from tflite_delegate.read import model as tflite_model
from tflite_delegate.read.graph import ACTIVATIONS

HOST_SOURCE = Path(__file__).with_name("host.c")
HOST = Simd.named("host")
#: What serves a CONV_2D of any kind: the program knows no other layers.
ALGORITHMS = [
    name for name in REGISTRY.names() if serves(name, Conv(8).workload((1, 8, 8, 8)), HOST)
]
#: Of constants.
ELEMENT_TYPES = {schema.TensorType.FLOAT16: np.float16, schema.TensorType.FLOAT32: np.float32}
#: Allocations of the delegate go through the host.
HOST_ALLOCATOR = [f"-D{name}=host_{name}" for name in ("malloc", "calloc", "posix_memalign")]
# Not `-fsanitize=address`: zig's driver drops it, having no runtime for it. Its compiler has it.
OPTIONS = {
    "undefined": ("-fsanitize=undefined", "-fno-sanitize-recover=all"),
    "address,undefined": (
        *("-fsanitize=undefined", "-fno-sanitize-recover=all"),
        *("-Xclang", "-fsanitize=address"),
    ),
    "thread": ("-fsanitize=thread",),
}
#: The second looks for everything that the first does.
SANITIZERS = [
    pytest.param("undefined", marks=pytest.mark.slow),
    "address,undefined",
    "thread",
]
#: The oldest C library that AddressSanitizer's runtime loads with.
TARGET = f"{HOST.arch}-linux-gnu.2.34"
#: Two layers of a network of odd shapes: small, because every allocation is failed in turn.
SMALL = [
    Conv(10, activation="relu6"),
    Conv(6, (3, 1), (2, 1), weight_type="float16"),
    Conv(15, (2, 3), groups=3, activation="relu"),
]


@functools.cache
def address_sanitizer() -> Path:
    """The runtime in the user's board, which is built when it is missing or out of date."""
    board = Board.default()
    board.setup()
    return board.address_sanitizer


def compiler(sanitizer: str) -> tuple[str, ...]:
    """The command of a C compiler with the sanitizer, for compiling and for linking."""
    # Linked with another level, zig compiles the runtime of ThreadSanitizer again, for minutes.
    options = ("-target", TARGET, "-g", "-O1", *OPTIONS[sanitizer])
    command = (*Toolchain.default().command, *options)
    if "address" not in sanitizer:
        return command
    runtime = address_sanitizer()
    run_path = ("-Xlinker", "-rpath", "-Xlinker", str(runtime.parent))
    return (*command, f"-L{runtime.parent}", f"-l:{runtime.name}", *run_path)


# What each sanitizer is there for; any other kind, "none", is a program without a defect.
DEFECTS_SOURCE = r"""
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void *race(void *unused) {
    shared++;
    return unused;
}

int defect(const char *kind) {
    volatile int number = INT_MAX;
    char *volatile block = malloc(8);
    if (!strcmp(kind, "arithmetic"))
        number = number + 1;
    if (!strcmp(kind, "heap"))
        block[8] = 1;
    if (!strcmp(kind, "leak"))
        for (int i = 0; i < 8; i++)
            block = malloc(8);
    if (!strcmp(kind, "race")) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            if (pthread_create(&threads[i], NULL, race, NULL))
                return 1;
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
    }
    free(block);
    return 0;
}

int main(int argc, char **argv) { return argc == 2 ? defect(argv[1]) : 2; }
"""


def execute(command: Sequence[object], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="session")
def defective(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The program of defects with a sanitizer, or with more options the library."""
    source = tmp_path_factory.mktemp("defects") / "defects.c"
    source.write_text(DEFECTS_SOURCE)

    @functools.cache
    def make(sanitizer: str, *options: str) -> Path:
        target = tmp_path_factory.mktemp("defective") / "defects"
        command = [*compiler(sanitizer), *options, str(source), "-lpthread"]
        subprocess.run([*command, "-o", str(target)], check=True)
        return target

    return make


@pytest.fixture(scope="session")
def leak(defective: Callable[..., Path]) -> subprocess.CompletedProcess[str]:
    """What a program that leaks ends with."""
    return execute([defective("address,undefined"), "leak"], ASAN_OPTIONS="detect_leaks=1")


@pytest.fixture(scope="session")
def finds_leaks(leak: subprocess.CompletedProcess[str]) -> bool:
    """Whether this machine lets LeakSanitizer stop a process and look into it."""
    return "LeakSanitizer has encountered a fatal error" not in leak.stderr


@dataclass(frozen=True)
class Layers:
    """A file of layers, and how many of them an algorithm serves."""

    path: Path
    served: int
    count: int

    @property
    def claimed(self) -> str:
        """What the program says of them."""
        return f"claimed {self.served} of {self.count}"


RunHost = Callable[..., tuple[Layers, list[str]]]


def write_layers(model: Path, algorithm: str, path: Path) -> Layers:
    """Write what host.c reads of a model: its convolutions."""
    content = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
    graph = content.subgraphs[0]
    sources = {
        node.outputs[0]: node.inputs[0]
        for node in graph.operators
        if content.operatorCodes[node.opcodeIndex].builtinCode == schema.BuiltinOperator.DEQUANTIZE
    }
    layers = [layer for layer in tflite_model.read(model).layers if layer.workload]
    compiled = {layer.workload for layer in layers}
    layers = [layer for layer in layers if layer.op == "CONV_2D"]
    served = 0
    with path.open("wb") as file:
        for layer in layers:
            workload = layer.workload
            assert workload is not None
            node = graph.operators[layer.index]
            options = node.builtinOptions
            # The program has the node alone, without the neighbours that its layer takes in.
            activation = ACTIVATIONS[options.fusedActivationFunction]
            alone = replace(
                workload, activation=activation, residual=False, output_activation="none"
            )
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
                workload.groups,
            ]
            file.write(np.array(header, np.int32).tobytes())
            arrays = [content.buffers[tensor.buffer].data for tensor in constants]
            for array in arrays:
                file.write(array.tobytes())
            dtype = ELEMENT_TYPES[constants[0].type]
            weights, bias = (array.view(dtype) for array in arrays)
            served += alone in compiled and serves(algorithm, alone, HOST)
            file.write(error_bounds(alone, algorithm, weights, bias).tobytes())
    return Layers(path, served, len(layers))


def error_bounds(
    workload: Conv2dWorkload, algorithm: str, weights: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """For every output channel, the largest error of an image whose elements are within 1."""
    direct = np.zeros(workload.output_shape)  # the program's own bound
    if not serves(algorithm, workload, HOST):
        return direct.max(axis=(0, 1, 2))
    # Bounds grow with the magnitude of the image's elements.
    largest = np.ones(workload.input_shape)
    weights = weights.reshape(workload.weight_shape)
    plan = plan_kernel(workload.with_batch(1).of_one_kernel(), HOST, algorithm)
    return error_bound(plan, workload, largest, weights, bias, direct).max(axis=(0, 1, 2))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """The program with the kernels of a model, for a sanitizer."""
    exported: dict[Path, Path] = {}

    def sources(model: Path) -> Path:
        if model not in exported:
            exported[model] = tmp_path_factory.mktemp("host") / "sources"
            export_sources(model, exported[model], HOST, algorithms=ALGORITHMS)
        return exported[model]

    @functools.cache
    def make(model: Path, sanitizer: str) -> Path:
        folder = tmp_path_factory.mktemp("built") / "sources"
        shutil.copytree(sources(model), folder)
        objects = [path.name for path in folder.glob("*.o")]
        delegate = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.c"))]
        shutil.copy(HOST_SOURCE, folder)
        command = compiler(sanitizer)
        objects += Toolchain(command).compile_objects(folder, [HOST_SOURCE.name], HOST)
        allocating = Toolchain((*command, *HOST_ALLOCATOR))
        objects += allocating.compile_objects(folder, delegate, HOST)
        Toolchain(command).run([*objects, "-lm", "-lpthread", "-o", "program"], folder)
        return folder / "program"

    return make


@pytest.fixture(scope="session")
def layers_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Layers]:
    """The layers of a model, for an algorithm."""

    @functools.cache
    def write(model: Path, algorithm: str) -> Layers:
        return write_layers(model, algorithm, tmp_path_factory.mktemp("layers") / "layers")

    return write


@pytest.fixture(scope="session")
def run_host(
    host: Callable[..., Path], layers_of: Callable[..., Layers], finds_leaks: bool
) -> RunHost:
    """Run a model's program for an algorithm; its layers, and the lines that it prints."""

    def run(
        model: Path, sanitizer: str, algorithm: str, *arguments: object
    ) -> tuple[Layers, list[str]]:
        layers = layers_of(model, algorithm)
        command = [host(model, sanitizer), layers.path, algorithm, *arguments]
        result = execute(command, ASAN_OPTIONS=f"detect_leaks={int(finds_leaks)}")
        assert result.returncode == 0, result.stderr
        return layers, result.stdout.splitlines()

    return run


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.tflite"
    path.write_bytes(chain((1, 9, 7, 5), SMALL))
    return path


@pytest.mark.parametrize(
    ("sanitizer", "kind", "message"),
    [
        ("undefined", "arithmetic", "signed integer overflow"),
        ("address,undefined", "arithmetic", "signed integer overflow"),
        ("address,undefined", "heap", "ERROR: AddressSanitizer: heap-buffer-overflow"),
        ("thread", "race", "WARNING: ThreadSanitizer: data race"),
    ],
)
def test_defects_are_reported(
    defective: Callable[..., Path], sanitizer: str, kind: str, message: str
) -> None:
    good, bad = (
        execute([defective(sanitizer), name], ASAN_OPTIONS="detect_leaks=0")
        for name in ("none", kind)
    )
    assert (good.returncode, good.stderr) == (0, "")
    assert bad.returncode != 0
    assert message in bad.stderr


def test_leaks_are_reported(leak: subprocess.CompletedProcess[str], finds_leaks: bool) -> None:
    """Where LeakSanitizer works; elsewhere it says why not, and the host runs without it.

    It reads the memory of the stopped process with ptrace, which some containers forbid and which
    fails under a debugger. The host's own check of live bytes runs everywhere.
    """
    assert leak.returncode != 0
    report = "ERROR: LeakSanitizer: detected memory leaks"
    refusal = "LeakSanitizer does not work under ptrace"
    assert (report if finds_leaks else refusal) in leak.stderr


#: The first has layers of more kinds.
TRAINED = [
    "mobilenet_96_float",
    pytest.param("resnet8_float", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_trained_models(
    run_host: RunHost,
    layers_of: Callable[..., Layers],
    trained_models: Path,
    sanitizer: str,
    name: str,
) -> None:
    model = trained_models / f"{name}.tflite"
    runs: list[tuple[object, ...]] = [
        (algorithm, threads, 1, place)
        for algorithm in ALGORITHMS
        if layers_of(model, algorithm).served
        for threads, place in ((1, "end"), (2, "begin"))
    ]
    if sanitizer == "thread":
        runs = [("indirect", 3, 2, "end")]
    for arguments in runs:
        layers, lines = run_host(model, sanitizer, *arguments)
        assert lines == [layers.claimed]


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_failing_allocations_and_damaged_nodes(
    run_host: RunHost, small_model: Path, sanitizer: str, algorithm: str
) -> None:
    layers, lines = run_host(small_model, sanitizer, algorithm, 2, 1, "end", "harm")
    assert lines[0] == layers.claimed
    assert int(lines[1].split()[1]) > 5 * layers.served > 0
    assert lines[2] == "left 34 kinds of damaged nodes"


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_many_interpreters(run_host: RunHost, small_model: Path, sanitizer: str) -> None:
    for threads in (1, 3):
        layers, lines = run_host(small_model, sanitizer, "im2col", threads, 6, "begin")
        assert layers.served == len(SMALL)
        assert lines == [layers.claimed]


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_one_node(run_host: RunHost, small_model: Path, sanitizer: str) -> None:
    """Several interpreters that are one node each, and every allocation failed in turn."""
    layers, lines = run_host(small_model, sanitizer, "im2col", 3, 4, "begin", "one_node")
    assert lines == [f"{layers.claimed} as one node"]
    layers, lines = run_host(small_model, sanitizer, "im2col", 2, 1, "end", "one_node", "harm")
    assert lines[0] == f"{layers.claimed} as one node"
    assert int(lines[1].split()[1]) > 10 * layers.served
    assert lines[2] == "left 34 kinds of damaged nodes"


IN_LITERT = """
import sys
from tests.tflite_delegate.conftest import _litert, random_inputs, run

api = _litert()
delegate = api.load_delegate(sys.argv[2], {"one_node": sys.argv[3]})
interpreter = api.open(open(sys.argv[1], "rb").read(), delegate, num_threads=2)
inputs = random_inputs(interpreter)
run(interpreter, inputs)
if sys.argv[4:] == ["resize"]:
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, (2, *inputs[0].shape[1:]))
    run(interpreter, random_inputs(interpreter))
del interpreter, delegate
print("clean")
"""


#: The same with inputs of its own for every residual.
UNITS_IN_LITERT = """
import sys
from tests.tflite_delegate.conftest import _litert, random_inputs, run
from tests.tflite_delegate.csrc.layer.test_merge import check_zoo, resize_zoo

api = _litert()
delegate = api.load_delegate(sys.argv[2])
interpreter = api.open(open(sys.argv[1], "rb").read(), delegate, num_threads=2)
for more in ((0, 0), (1, 0), (1, 2)):
    resize_zoo(interpreter, *more)
    inputs = random_inputs(interpreter)
    check_zoo(inputs, run(interpreter, inputs))
del interpreter, delegate
print("clean")
"""


SPARSE_IN_LITERT = """
import sys
from tests.tflite_delegate.conftest import _litert
from tests.tflite_delegate.csrc.kernels.test_sparsity import DAMAGES, sparse_model

api = _litert()
for damage in DAMAGES:
    delegate = api.load_delegate(sys.argv[1])
    interpreter = api.open(sparse_model(damage), delegate)
    del interpreter, delegate
print("clean")
"""


def run_python(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python with AddressSanitizer's runtime, which has to be there before anything else."""
    return execute(
        [sys.executable, *arguments],
        # The runtime looks for C++'s exceptions at its start.
        LD_PRELOAD=f"{address_sanitizer()}:libstdc++.so.6",
        # Python and LiteRT do not free everything at the end: leaks are the other tests' business.
        ASAN_OPTIONS="detect_leaks=0",
        PYTHONPATH=str(HOST_SOURCE.parents[3]),
    )


def check_clean(*arguments: object) -> None:
    """Run a script that says so at its end."""
    result = run_python("-c", *arguments)
    assert (result.returncode, result.stdout) == (0, "clean\n"), result.stderr
    assert "ERROR: AddressSanitizer" not in result.stderr


def test_defects_of_libraries_are_reported(defective: Callable[..., Path]) -> None:
    library = defective("address,undefined", "-shared", "-fPIC")
    call = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).defect(sys.argv[2].encode())"
    good, bad = (run_python("-c", call, library, kind) for kind in ("none", "heap"))
    assert (good.returncode, good.stderr) == (0, "")
    assert bad.returncode != 0
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in bad.stderr


@pytest.fixture(scope="session")
def sanitized_delegate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The shared library for a model."""

    @functools.cache
    def make(model: Path, algorithms: Sequence[str] = ("auto",)) -> Path:
        library = tmp_path_factory.mktemp("sanitized") / "lib.so"
        toolchain = Toolchain(compiler("address,undefined"))
        build(model, library, HOST, algorithms=algorithms, toolchain=toolchain)
        return library

    return make


def test_another_batch_in_litert(
    made_model: Callable[[str], Path], sanitized_delegate: Callable[[Path], Path]
) -> None:
    model = made_model("small")
    for one_node in (0, 1):
        library = sanitized_delegate(model)
        check_clean(IN_LITERT, model, library, one_node, "resize")


@pytest.mark.parametrize("name", ["resnet8_float", "mobilenet_96_float", "dscnn_hybrid"])
def test_in_litert(
    trained_models: Path, sanitized_delegate: Callable[[Path], Path], name: str
) -> None:
    """The shared library, in the real interpreter, with the sanitizers' runtime preloaded."""
    model = trained_models / f"{name}.tflite"
    layers = [layer.workload for layer in tflite_model.read(model).layers]
    compiled_for = model if any(layers) else trained_models / "resnet8_float.tflite"
    for one_node in (0, 1):
        check_clean(IN_LITERT, model, sanitized_delegate(compiled_for), one_node)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_rows_in_litert(
    tmp_path: Path, sanitized_delegate: Callable[..., Path], dtype: str
) -> None:
    """Chains that are computed row by row, and then for two images."""
    model, quantised = tmp_path / "chains.tflite", test_quantised_rows.chains
    model.write_bytes(chains_by_rows.chains() if dtype == "float32" else quantised(dtype))
    for one_node in (0, 1):
        library = sanitized_delegate(model, chains_by_rows.ALGORITHMS)
        check_clean(IN_LITERT, model, library, one_node, "resize")


def test_units_in_litert(tmp_path: Path, sanitized_delegate: Callable[[Path], Path]) -> None:
    """Layers with the nodes around them, of every operator."""
    model = tmp_path / "units.tflite"
    model.write_bytes(test_merge.zoo_model())
    check_clean(UNITS_IN_LITERT, model, sanitized_delegate(model))


def test_sparse_layers_in_litert(
    tmp_path: Path, sanitized_delegate: Callable[[Path], Path]
) -> None:
    """Also those that are described wrongly: they are looked at and left alone."""
    model = tmp_path / "sparse.tflite"
    model.write_bytes(test_sparsity.sparse_model())
    library = sanitized_delegate(model)
    for arguments in (
        (IN_LITERT, model, library, 0),
        (IN_LITERT, model, library, 1),
        (SPARSE_IN_LITERT, library),
    ):
        check_clean(*arguments)


def test_operators_in_litert(tmp_path: Path, sanitized_delegate: Callable[[Path], Path]) -> None:
    model = tmp_path / "operators.tflite"
    model.write_bytes(operator_cases.zoo_model(test_operators.CASES | test_movement.CASES))
    for one_node in (0, 1):
        check_clean(IN_LITERT, model, sanitized_delegate(model), one_node)


def test_codes_in_litert(tmp_path: Path, sanitized_delegate: Callable[[Path], Path]) -> None:
    """Operators on codes of 8 bits, also of scales that no converter writes."""
    cases = [
        case
        for dtype in ("int8", "uint8")
        for make, names in (
            (coded_operators.random_cases, coded_operators.OPERATORS),
            (coded_movements.random_movements, coded_movements.MOVEMENTS),
        )
        for name in names
        for case in make(name, dtype, 3)
    ]
    model = tmp_path / "codes.tflite"
    model.write_bytes(coded_operators.model([*cases, *coded_operators.extreme_cases()]))
    for one_node in (0, 1):
        check_clean(IN_LITERT, model, sanitized_delegate(model), one_node)


def test_network_in_litert(tmp_path: Path, sanitized_delegate: Callable[[Path], Path]) -> None:
    """Layers, operators and the constants of these in one node."""
    model = tmp_path / "network.tflite"
    model.write_bytes(test_network.residual_network())
    check_clean(IN_LITERT, model, sanitized_delegate(model), 1)
