"""The option memory_limit: the promise is kept, or nothing is claimed; and the account."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_writer import Conv, chain
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tvmc.running.probe import Probe

BuildDelegate = Callable[..., Path]
INPUT = (1, 14, 14, 16)
#: A block, and layers with workspace for every thread.
LAYERS = [
    Conv(48, (1, 1), activation="relu6"),
    Conv(48, depthwise=True, activation="relu6", seed=1),
    Conv(16, (1, 1), seed=2),
    Conv(32, seed=3),
    Conv(32, seed=4),
]
MODEL = chain(INPUT, LAYERS)
#: Of the bytes that a limit counts.
KINDS = ("arena", "packed", "own")


@pytest.fixture(scope="module")
def library(build_delegate: BuildDelegate) -> Path:
    return build_delegate(MODEL)


class Opened:
    """An interpreter with the delegate, run once."""

    def __init__(
        self,
        litert: InterpreterApi,
        library: Path,
        model: bytes = MODEL,
        threads: int = 1,
        **options: Any,
    ) -> None:
        self.delegate = litert.load_delegate(str(library), options)
        self.interpreter = litert.open(model, self.delegate, num_threads=threads)
        self.outputs = run(self.interpreter, random_inputs(self.interpreter))
        self.report = read_report(library, self.delegate)
        self.memory = self.report["memory"]

    @property
    def promised(self) -> int:
        return sum(self.memory[f"promised_{kind}_bytes"] for kind in KINDS)

    @property
    def held(self) -> int:
        return sum(self.memory[f"{kind}_bytes"] for kind in KINDS)


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Lines about the limit."""
    return [line for line in capfd.readouterr().err.splitlines() if "memory_limit" in line]


@pytest.mark.parametrize("threads", [1, 2, 4, 9])
def test_the_account_is_what_the_interpreter_holds(
    litert: InterpreterApi, library: Path, threads: int
) -> None:
    opened = Opened(litert, library, threads=threads)
    memory, layers = opened.memory, opened.report["layers"]
    assert opened.report["threads"] == threads
    assert memory["arena_bytes"] == Probe(opened.interpreter).arena_bytes()
    if threads < 9:
        assert memory["arena_bytes"] == memory["promised_arena_bytes"]
    assert memory["arena_bytes"] <= memory["promised_arena_bytes"]
    assert memory["packed_bytes"] == sum(layer["packed_bytes"] for layer in layers) > 0
    # Each block of weights ends on a cache line.
    assert 0 <= memory["promised_packed_bytes"] - memory["packed_bytes"] < 64 * len(LAYERS)
    assert memory["workspace_bytes"] == max(layer["workspace_bytes"] for layer in layers) > 0
    assert memory["embedded_bytes"] == 0 < memory["own_bytes"] <= memory["promised_own_bytes"]
    assert memory["memory_limit"] == 0


def test_a_limit_takes_threads_and_then_the_claim(
    litert: InterpreterApi, library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    promised = {threads: Opened(litert, library, threads=threads).promised for threads in (1, 2, 4)}
    assert promised[1] < promised[2] < promised[4], "workspace of each thread"
    assert said(capfd) == []

    for threads, size in promised.items():
        kept = Opened(litert, library, threads=threads, memory_limit=size)
        assert kept.report["claimed"] > 0
        assert kept.report["threads"] == threads
        assert kept.memory["memory_limit"] == size
    assert said(capfd) == [], "exactly at the limit there is nothing to say"

    fewer = Opened(litert, library, threads=2, memory_limit=promised[2] - 1)
    assert (fewer.report["claimed"] > 0, fewer.report["threads"]) == (True, 1)
    assert fewer.held <= promised[1]
    assert said(capfd) == [
        f"leanconv: memory_limit {promised[2] - 1}: 1 of 2 threads, as all need {promised[2]} bytes"
    ]

    none = Opened(litert, library, threads=2, memory_limit=promised[1] - 1)
    assert none.report["claimed"] == 0 == none.memory["packed_bytes"]
    assert said(capfd) == [
        f"leanconv: memory_limit {promised[1] - 1}: {promised[2]} bytes are needed with 2 threads, "
        f"{promised[1]} at least: all layers stay with TFLite"
    ]
    # TFLite computes the same by itself.
    np.testing.assert_allclose(none.outputs[0], fewer.outputs[0], rtol=1e-4, atol=1e-4)


def test_nothing_is_promised_of_another_graph(
    litert: InterpreterApi, library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for model in (chain(INPUT, LAYERS[:-1]), chain((1, 14, 15, 16), LAYERS)):
        opened = Opened(litert, library, model, memory_limit="64M")
        assert opened.report["claimed"] == 0 == opened.promised
        (line,) = said(capfd)
        assert "promises nothing of this graph" in line
        assert Opened(litert, library, model).promised == 0


def test_what_is_more_than_promised_is_said(
    litert: InterpreterApi, library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    promised = Opened(litert, library).promised
    opened = Opened(litert, library, memory_limit=promised)
    assert said(capfd) == []
    index = opened.interpreter.get_input_details()[0]["index"]
    opened.interpreter.resize_tensor_input(index, (3, *INPUT[1:]))
    run(opened.interpreter, random_inputs(opened.interpreter))
    opened.memory = read_report(library, opened.delegate)["memory"]
    held = opened.held
    assert held > promised
    assert said(capfd) == [
        f"leanconv: memory_limit {promised}: {held} bytes are held, {promised} were promised"
    ]


def test_one_node_holds_other_memory(
    litert: InterpreterApi, library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    limit = Opened(litert, library).promised
    opened = Opened(litert, library, memory_limit=limit, one_node=1)
    assert opened.memory["arena_bytes"] == opened.memory["promised_arena_bytes"]
    (line,) = said(capfd)
    assert line.startswith("leanconv: one_node: memory_limit")


@pytest.mark.parametrize("value", ["0", "-1", "", "64k", "1.5M", "9223372036854775808", "M"])
def test_bad_limits_are_refused(litert: InterpreterApi, library: Path, value: str) -> None:
    with pytest.raises(ValueError, match=r"memory_limit: '.*' is not a number of bytes"):
        litert.load_delegate(str(library), {"memory_limit": value})


def ask(library: Path, name: str, pointer: int | None) -> Any:
    function = getattr(ctypes.CDLL(str(library)), name)
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    buffer = ctypes.create_string_buffer(function(pointer, None, 0) + 1)
    function(pointer, buffer, len(buffer))
    return json.loads(buffer.value)


def test_the_last_delegate_is_found_without_its_pointer(
    litert: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    library = build_delegate(chain((1, 6, 6, 4), [Conv(8)]))
    assert ask(library, "leanconv_memory", None) == {}
    model = chain((1, 6, 6, 4), [Conv(8)])
    first = Opened(litert, library, model)
    second = Opened(litert, library, model, memory_limit="1M")
    assert first.memory != second.memory
    for opened in (second, first):
        assert ask(library, "leanconv_memory", None) == opened.memory
        assert ask(library, "leanconv_report", None) == opened.report
        pointer = opened.delegate._get_native_delegate_pointer()
        assert ask(library, "leanconv_memory", pointer) == opened.memory
        # The youngest goes first.
        del opened.interpreter, opened.delegate
    assert ask(library, "leanconv_memory", None) == {}
    assert "layers" not in ask(library, "leanconv_report", None)
