"""Vectors of NEON that are transposed as they are stored, and those that stay whole when loaded."""

from __future__ import annotations

import re

import pytest

from schedules.layer.workload import Conv2dWorkload
from schedules.lower.passes import lower_to_loops
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import PRESETS
from tests.support.assembly import assembly_of, inner_loops

A76 = PRESETS["cortex-a76"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Seven tiles in a row, two vectors."""
    layer = Conv2dWorkload.from_text("14x14x8->16 k3x3 p1,1,1,1 relu f2z50x16")
    return Plan.of(Choice.parse("sparse_winograd"), layer, A76)


def test_four_vectors_are_stored_as_one_shuffle(plan: Plan) -> None:
    script = lower_to_loops(plan.schedule(A76).mod["main"]).script()
    orders = re.findall(r"T\.Shuffle\(\[.*?\], \[([\d, ]+)\]\)", script)
    order = [row * 4 + column for column in range(4) for row in range(4)]
    # Of each of the four points of a row, both vectors; at the border, and inside of the image.
    assert orders == [", ".join(map(str, order))] * 16


def test_it_is_one_instruction(plan: Plan) -> None:
    assembly = assembly_of(plan, A76)
    assert len(re.findall(r"\bst4\b", assembly)) >= 8
    assert not re.findall(r"\bst1\b", assembly)


def test_vectors_are_loaded_whole(plan: Plan) -> None:
    """Beside 28 products: four vectors of weights in two loads, two of tiles, five others."""
    loops = [loop for loop in inner_loops(assembly_of(plan, A76)) if loop.multiply_adds == 28]
    assert loops
    for loop in loops:
        assert len(loop.instructions) == 37
        assert not [line for line in loop.instructions if re.match(r"ld1r|ldr\ts", line)]
