"""The line of a record: exact, short, and refused if it says anything else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.layer.block import Block
from schedules.layer.winograd_weights import WinogradWeights
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import PRESETS
from schedules.tuning.records.record import LINE_BYTES, NewerVersion, Record
from tests.support.records import LAYER, record

COSTS = st.floats(1e-9, 1e3)


@given(st.lists(COSTS, min_size=3, max_size=3).map(sorted), st.integers(1, 1000), st.text())
def test_a_line_says_everything(costs: list[float], samples: int, board: str) -> None:
    computed = record(costs_s=tuple(costs), samples=samples, board=board)
    assert Record.from_line(computed.to_line()) == computed
    assert computed.costs_s == pytest.approx(costs, rel=5e-4)


@given(st.text())
def test_errors_become_one_short_line(error: str) -> None:
    failed = record(None, error=error)
    assert Record.from_line(failed.to_line()) == failed
    assert failed.error is not None
    assert len(failed.error) <= 80
    assert len(failed.error.splitlines()) <= 1


def test_the_format() -> None:
    assert record().to_line() == (
        '{"v":1,"workload":"28x28x64->64 k1x1 relu","algorithm":"indirect",'
        '"knobs":"columns=4:order=rows,columns","costs_s":[0.0009,0.001,0.002],"samples":5,'
        '"error":null,"target":"cortex-a76","board":"pi-5","kind":"measured","tvm":"0.27.0",'
        '"timestamp":1760000000}'
    )


@pytest.mark.parametrize("algorithm", REGISTRY.names())
def test_knobs_of_every_algorithm(algorithm: str) -> None:
    layer = Conv2dWorkload(28, 28, 64, 64, 3, 3, pad_top=1, pad_left=1)
    if algorithm == "dense":
        layer = Conv2dWorkload(1, 1, 512, 64, 1, 1)
    elif algorithm == "depthwise":
        layer = replace(layer, groups=64)
    elif algorithm == "sparse_winograd":
        weights = WinogradWeights(4, zeros=80, block=16)
        layer = replace(layer, domain=weights)
    plan = Plan.of(Choice(algorithm), layer, PRESETS["cortex-a76"])
    computed = record(workload=layer, candidate=Choice.of(algorithm, plan.knobs))
    assert Record.from_line(computed.to_line()) == computed


def inverted_bottleneck(size: int, channels: int, kernel: int, activation: str) -> Block:
    """A block of MobileNetV2 (kernel 3, relu6) or V3 (kernel 5, hard_swish)."""
    expanded = 6 * channels
    depthwise = Conv2dWorkload.with_padding(
        "SAME",
        in_height=size,
        in_width=size,
        in_channels=expanded,
        out_channels=expanded,
        kernel_height=kernel,
        kernel_width=kernel,
        stride_height=2,
        stride_width=2,
        groups=expanded,
        activation=activation,
    )
    expand = Conv2dWorkload(size, size, channels, expanded, 1, 1, activation=activation)
    output = (depthwise.out_height, depthwise.out_width)
    return Block((expand, depthwise, Conv2dWorkload(*output, expanded, 160, 1, 1)))


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a76"])
@pytest.mark.parametrize(
    "block",
    [inverted_bottleneck(112, 16, 3, "relu6"), inverted_bottleneck(14, 112, 5, "hard_swish")],
    ids=Block.describe,
)
def test_the_longest_lines(block: Block, target: str) -> None:
    knobs = REGISTRY.get("fused_block").knobs(block, PRESETS[target])
    longest = {n: max(knob.choices, key=lambda c: len(str(c))) for n, knob in knobs.items()}
    assert len(longest) == 13
    changes: dict[str, Any] = {
        "workload": block,
        "candidate": Choice.of("fused_block", longest),
        "board": "raspberry-pi-5-8g",
        "target": "cortex-a76,+dotprod",
        "tvm": "0.27.0.post1",
    }
    computed = record(1.234e-4, samples=100, **changes)
    failed = record(None, error="the program ended with signal 11, and " * 9, **changes)
    for one in (computed, failed):
        line = one.to_line()
        assert len(line.encode()) < LINE_BYTES
        again = Record.from_line(line)
        assert replace(again, error=one.error) == one
        assert (again.error or "")[:32] == (one.error or "")[:32]  # "… ended with signal 11"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 2}, "version 2: update leanconv"),
        ({"v": "one"}, "no record"),
        ({"workload": "28x28"}, "describes no convolution"),
        ({"workload": None}, "workload is None"),
        ({"knobs": "columns"}, "not KNOB=VALUE"),
        ({"knobs": {"columns": 4}}, "knobs is"),
        ({"costs_s": [1e-3]}, "three costs or an error"),
        ({"costs_s": []}, "three costs or an error"),
        ({"error": "both"}, "three costs or an error"),
        ({"costs_s": [2e-3, 1e-3, 3e-3]}, "no minimum, median and maximum"),
        ({"costs_s": [1e-3, 1e-3, float("nan")]}, "no minimum"),
        ({"costs_s": [1e-3, 1e-3, float("inf")]}, "no minimum"),
        ({"costs_s": [0, 1e-3, 1e-3]}, "no minimum"),
        ({"costs_s": ["a", "b", "c"]}, "no record"),
        ({"samples": 0}, "of 0 samples"),
        ({"samples": True}, "samples is True"),
        ({"kind": "guessed"}, "measured or modelled, not 'guessed'"),
        ({"timestamp": 1.5}, "timestamp is 1.5"),
    ],
)
def test_what_is_no_trial(change: dict[str, Any], message: str) -> None:
    values = json.loads(record().to_line()) | change
    with pytest.raises(LeanconvError, match=message) as caught:
        Record.from_line(json.dumps(values))
    assert isinstance(caught.value, NewerVersion) == (change == {"v": 2})


@pytest.mark.parametrize("line", ["", "{", "[]", "1", "null", '"v"', "{}", "[" * 100_000])
def test_what_is_no_record(line: str) -> None:
    with pytest.raises(LeanconvError):
        Record.from_line(line)


def test_replayed_in_another_process() -> None:
    """The schedule depends on nothing but the line and the target."""
    simd = PRESETS["cortex-a76"]
    plan = Plan.of(Choice("indirect"), LAYER, simd)
    line = record(candidate=Choice.of("indirect", plan.knobs)).to_line()
    program = (
        "import sys\n"
        "from schedules.plan.plan import Plan\n"
        "from schedules.target.simd import PRESETS\n"
        "from schedules.tuning.records.records import Record\n"
        "record, simd = Record.from_line(sys.argv[1]), PRESETS['cortex-a76']\n"
        "plan = Plan.of(record.candidate, record.workload, simd)\n"
        "print(plan.schedule(simd).mod.script())\n"
    )
    command = [sys.executable, "-c", program, line]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout == plan.schedule(simd).mod.script() + "\n"
