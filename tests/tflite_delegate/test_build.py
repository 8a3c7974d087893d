"""From a model to a library: the report, the table, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cmake
import ninja
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.algorithms import REGISTRY, Unsupported
from schedules.errors import LeanconvError
from schedules.planner import Choice, Limits, Plan
from schedules.simd import Simd
from schedules.workload import Conv2dWorkload
from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, ModelWriter, chain, single_conv
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate import build as builder
from tflite_delegate.build import build, export_sources, kernel_table
from tflite_delegate.toolchain import Toolchain

HOST = Simd.named("host")
ALGORITHMS = list(REGISTRY.names())


def write_model(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two equal convolutions and a different one."""
    return write_model(tmp_path, chain((1, 8, 8, 8), [Conv(8), Conv(8, seed=1), Conv(4, (1, 1))]))


def test_report(model: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    report = build(
        model, tmp_path / "lib.so", HOST, algorithms=ALGORITHMS[:2],
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    entries = report.to_dict()
    assert json.loads(json.dumps(entries))["model"] == "model.tflite"
    assert entries["target"] == "host"
    assert entries["algorithms"] == tuple(ALGORITHMS[:2])
    assert entries["library_bytes"] == (tmp_path / "lib.so").stat().st_size
    assert entries["seconds"] > 0
    assert [layer["index"] for layer in entries["layers"]] == [0, 1, 2]
    first = entries["layers"][0]
    assert first["claimed"]
    assert first["op"] == "CONV_2D"
    assert first["geometry"] == "conv3x3 8x8x8->8"
    assert first["algorithm"] == ALGORITHMS[0]
    assert first["knobs"]
    assert first["weight_bytes"] == 8 * 9 * 8 * 4
    assert first["packed_bytes"] >= first["weight_bytes"]
    assert first["macs"] == 64 * 8 * 72
    assert first["reason"] is None
    # Equal layers share their kernels: two geometries, two algorithms, one link.
    assert [done for done, _, _ in steps] == [0, 1, 2, 3, 4, 4, 5]
    assert {total for _, total, _ in steps} == {5}


@pytest.mark.parametrize("name", ["layer.o", "kernel_table.c", '-l, "ü" = $x.so', "plain"])
def test_names_of_libraries(model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    build(model, tmp_path / "out" / name, HOST, jobs=1)
    assert read_report(tmp_path / "out" / name, None)["kernels"] == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_one_process_and_several_give_the_same(model: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        build(model, tmp_path / f"lib{jobs}", HOST, jobs=jobs)
    one, several = (read_report(tmp_path / f"lib{jobs}", None) for jobs in (1, 2))
    assert one == several


def test_layers_that_the_algorithm_does_not_support(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from schedules.planner import plan_layer as original

    def plan(workload: Conv2dWorkload, simd: Simd, choice: Choice, limits: Limits) -> Plan:
        if not workload.is_pointwise:
            raise Unsupported("only 1x1")
        return original(workload, simd, choice, limits)

    monkeypatch.setattr(builder, "plan_layer", plan)
    report = build(model, tmp_path / "lib.so", HOST, algorithms=[ALGORITHMS[0]])
    assert [layer.claimed for layer in report.layers] == [False, False, True]
    assert report.layers[0].reason == f"{ALGORITHMS[0]}: only 1x1"
    assert report.layers[0].algorithm is None


def test_batch_is_looped_over(tmp_path: Path, litert: InterpreterApi) -> None:
    conv, shape = Conv(6), (3, 7, 7, 4)
    model = write_model(tmp_path, single_conv(shape, conv))
    build(model, tmp_path / "lib.so", HOST)
    delegate = litert.load_delegate(str(tmp_path / "lib.so"))
    interpreter = litert.open(model, delegate)
    (x,) = random_inputs(interpreter)
    (y,) = run(interpreter, [x])
    expected, bound = conv2d(conv.workload(shape), x, *conv.constants(4))
    assert (abs(y - expected) <= bound).all()
    assert read_report(tmp_path / "lib.so", delegate)["layers"][0]["calls"] == 1


def test_groups_are_looped_over(tmp_path: Path, litert: InterpreterApi) -> None:
    """The kernel is one group's; what is reported is the layer's, and what the delegate takes."""
    shape, library = (1, 6, 9, 15), tmp_path / "lib.so"
    model = write_model(tmp_path, single_conv(shape, Conv(21, groups=3)))
    (layer,) = build(model, library, HOST, algorithms=["im2col"]).layers
    assert layer.geometry == "conv3x3 g3 6x9x15->21"
    assert layer.macs == 6 * 9 * 21 * 9 * 5
    assert layer.weight_bytes == 21 * 9 * 5 * 4
    assert layer.workspace_bytes == 6 * 9 * 9 * 5 * 4
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate)
    interpreter.allocate_tensors()
    (live,) = read_report(library, delegate)["layers"]
    assert live["name"] == "leanconv/im2col conv3x3 g3 6x9x15->21"
    assert live["packed_bytes"] == layer.packed_bytes


# The table


def test_table_without_kernels() -> None:
    table = kernel_table([], 'a"\\\n??=é.tflite', HOST)
    assert r'.model = "a\042\134\012\077\077=\303\251.tflite",' in table
    assert ".kernel_count = 0," in table


def test_table_names_the_features() -> None:
    assert "LC_CPU_NEON | LC_CPU_DOTPROD | LC_CPU_FULLFP16" in kernel_table(
        [], "m", Simd.named("cortex-a76")
    )


def test_table_refuses_unknown_features() -> None:
    from dataclasses import replace

    with pytest.raises(LeanconvError, match="processor feature 'sve'"):
        kernel_table([], "m", replace(HOST, features=frozenset({"sve"})))


# Sources for other build systems


def test_exported_sources_can_be_linked(
    model: Path, tmp_path: Path, litert: InterpreterApi
) -> None:
    folder = tmp_path / "sources"
    report = export_sources(model, folder, HOST)
    names = {path.name for path in folder.iterdir()}
    assert {"CMakeLists.txt", "delegate.c", "kernel_table.c", "exports.map", "leanconv.h"} <= names
    objects = sorted(name for name in names if name.endswith(".o"))
    assert len(objects) == 2
    assert report.library_bytes == sum((folder / name).stat().st_size for name in objects)
    c_files = sorted(name for name in names if name.endswith(".c"))
    library = tmp_path / "lib.so"
    Toolchain.default().link_library(folder, c_files, objects, library, HOST)
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate)
    assert read_report(library, delegate)["claimed"] == 3
    interpreter.allocate_tensors()


def test_exported_sources_build_with_cmake(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the Python wheels of cmake, ninja and zig, on a machine without any other compiler."""
    export_sources(model, tmp_path / "sources", HOST)
    monkeypatch.setenv("PATH", str(tmp_path))
    program, make_program = f"{cmake.CMAKE_BIN_DIR}/cmake", f"{ninja.BIN_DIR}/ninja"
    compiler = f"{sys.executable};-m;ziglang;cc"
    configure = [program, "-G", "Ninja", "-B", "build", "-S", "sources"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={make_program}", f"-DCMAKE_C_COMPILER={compiler}"]
    for command in (configure, [program, "--build", "build"]):
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )
        assert result.returncode == 0, result.stdout + result.stderr
    (library,) = (tmp_path / "build").glob("*.so")
    assert read_report(library, None)["kernels"] == 2


def test_export_replaces_an_earlier_one_only(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    for _ in range(2):
        export_sources(model, folder, HOST, jobs=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("precious")
    with pytest.raises(LeanconvError, match="holds files that leanconv did not write"):
        export_sources(model, tmp_path / "mine", HOST)
    assert not list(tmp_path.glob(".sources*"))


# Errors


def test_nothing_to_compile(shared_models: Path, tmp_path: Path) -> None:
    with pytest.raises(LeanconvError) as caught:
        build(shared_models / "resnet8_cifar10_int8.tflite", tmp_path / "lib.so", HOST)
    assert str(caught.value) == (
        "resnet8_cifar10_int8.tflite has no float32 convolution that leanconv can take: "
        "node 0, CONV_2D conv3x3 32x32x3->16 relu: int8 tensors: not supported yet"
    )


def test_no_convolutions(tmp_path: Path) -> None:
    writer = ModelWriter()
    x, y = writer.tensor((1, 4)), writer.tensor((1, 4))
    writer.operator(schema.BuiltinOperator.RELU, [x], [y])
    model = write_model(tmp_path, writer.finish([x], [y]))
    with pytest.raises(LeanconvError, match="has no convolutions"):
        build(model, tmp_path / "lib.so", HOST)


def test_unknown_algorithm(model: Path, tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="unknown algorithm 'fft'"):
        build(model, tmp_path / "lib.so", HOST, algorithms=[ALGORITHMS[0], "fft"])


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="does not exist"):
        build(tmp_path / "missing.tflite", tmp_path / "lib.so", HOST)


@pytest.mark.parametrize(
    ("output", "message"),
    [("missing/lib.so", "there is no folder"), (".", "not a regular file")],
)
def test_output_that_cannot_be_written(
    model: Path, tmp_path: Path, output: str, message: str
) -> None:
    with pytest.raises(LeanconvError, match=message):
        build(model, tmp_path / output, HOST)


def test_failed_link_leaves_the_old_library(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "lib.so"
    output.write_text("the old library")
    with pytest.raises(LeanconvError, match="false failed"):
        build(model, output, HOST, toolchain=Toolchain.named("false"))
    assert output.read_text() == "the old library"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lib.so", "model.tflite"]


COMPILE_KERNEL = builder._compile_kernel


@pytest.mark.parametrize("jobs", [1, 2])
def test_kernel_that_cannot_be_compiled(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    if jobs == 1:
        monkeypatch.setattr(builder, "compile_plans", _refuse)
    else:  # processes start afresh: they would not see the change
        monkeypatch.setattr(builder, "_compile_kernel", _compile_refused)
    with pytest.raises(LeanconvError, match=r"cannot be compiled for conv3x3 .*: the last line;"):
        build(model, tmp_path / "lib.so", HOST, jobs=jobs)
    assert not (tmp_path / "lib.so").exists()


def _refuse(plans: Any, simd: Simd) -> None:
    raise RuntimeError("Traceback of a compiler\nthe last line")


def _compile_refused(kernel: Any, simd: Simd) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "compile_plans", _refuse)
        return COMPILE_KERNEL(kernel, simd)


def _die(kernel: Any, simd: Simd) -> None:
    os._exit(1)


def test_compiling_process_that_dies(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_compile_kernel", _die)
    with pytest.raises(LeanconvError, match="a compiling process died"):
        build(model, tmp_path / "lib.so", HOST, jobs=2)


def test_interrupt_ends_the_workers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing

    def interrupt(_done: int, _total: int, text: str) -> None:
        if text.startswith("compiled"):
            raise KeyboardInterrupt

    before: Sequence[Any] = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        build(model, tmp_path / "lib.so", HOST, jobs=2, progress=interrupt)
    assert set(multiprocessing.active_children()) <= set(before)
    assert not (tmp_path / "lib.so").exists()
