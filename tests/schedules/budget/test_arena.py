"""When tensors share memory, and what the arena holds then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schedules.budget.arena import Timeline, arena_bytes
from schedules.layer.network import Chain, Layer, Network, Step

BYTES = 640


def network(*steps: Step, outputs: tuple[int, ...], sizes: dict[int, int] | None = None) -> Network:
    """Of tensor 0 as the input; every tensor has :data:`BYTES` if it has no other size."""
    computed = {tensor: BYTES for step in steps for tensor in step.outputs}
    return Network("n", (), (), steps, (0,), outputs, {0: BYTES, **computed, **(sizes or {})})


def held(steps: list[Step], **options: dict[int, int]) -> list[int]:
    """In units of :data:`BYTES`."""
    outputs = steps[-1].outputs
    timeline = Timeline(network(*steps, outputs=outputs, **options), ())
    return [timeline.held_bytes(time) // BYTES for time in timeline.times]


def copy(index: int, source: int, output: int) -> Step:
    return Step(index, (source,), (output,))


def test_a_sum_lies_where_an_operand_was_that_nobody_else_needs() -> None:
    steps = [
        copy(0, 0, 1),
        copy(1, 1, 2),
        Step(2, (1, 2), (3,), shared=(1, 2)),
        copy(3, 3, 4),
    ]
    # Tensor 1 is read twice, so the sum takes the place of tensor 2.
    assert held(steps) == [2, 3, 3, 3]
    assert held([*steps[:2], Step(2, (1, 2), (3,)), steps[3]]) == [2, 3, 4, 3]


def test_what_is_read_again_is_not_overwritten() -> None:
    steps = [
        copy(0, 0, 1),
        Step(1, (1,), (2,), shared=(1,)),
        Step(2, (1, 2), (3,)),
    ]
    assert held(steps) == [2, 3, 4]


def test_neither_inputs_nor_outputs_of_the_network_share() -> None:
    steps = [Step(0, (0,), (1,), shared=(0,)), Step(1, (1,), (2,), shared=(1,))]
    assert held(steps) == [2, 3]


def test_other_sizes_do_not_share() -> None:
    steps = [copy(0, 0, 1), Step(1, (1,), (2,), shared=(1,)), copy(2, 2, 3)]
    assert held(steps) == [2, 2, 3]
    assert held(steps, sizes={2: 2 * BYTES}) == [2, 4, 4]


@pytest.mark.parametrize("readers", [1, 2])
def test_a_view_is_where_its_input_is(readers: int) -> None:
    steps = [
        copy(0, 0, 1),
        Step(1, (1,), (2,), shared=(1,), is_view=True),
        Step(2, (1, 2)[-readers:], (3,)),
        copy(3, 3, 4),
    ]
    assert held(steps) == [2, 2, 3, 3]


def test_the_arena_has_workspace_in_it() -> None:
    timeline = Timeline(network(copy(0, 0, 1), copy(1, 1, 2), outputs=(2,)), ())
    assert arena_bytes(timeline.placed({})) == 3 * BYTES
    assert arena_bytes(timeline.placed({0: 64})) == 3 * BYTES
    assert arena_bytes(timeline.placed({1: 64})) == 3 * BYTES + 64


def in_place(steps: list[Step], chain: Chain) -> list[int]:
    """Held where a kernel for ``chain``, a node a layer, may write over its input."""
    inputs = {step.index: step.inputs[0] for step in steps}
    layers = [Layer(i, "", "", "", None, None, 0, 0, (i,), inputs[i]) for i in inputs]
    own = replace(network(*steps, outputs=steps[-1].outputs), layers=tuple(layers))
    timeline = Timeline(own, [chain], {chain: layers[chain[0]].input or 0})
    return [timeline.held_bytes(time) // BYTES for time in timeline.times]


def test_a_kernel_writes_over_what_it_alone_reads() -> None:
    block = [copy(0, 0, 1), copy(1, 1, 2), Step(2, (2, 1), (3,)), copy(3, 3, 4)]
    assert in_place(block, (1, 2)) == [2, 2, 3]
    # Somebody else reads it too; or it is the network's.
    assert in_place([*block[:3], Step(3, (1, 3), (4,))], (1, 2)) == [2, 3, 4]
    assert in_place([Step(0, (0,), (1,)), copy(1, 1, 2), copy(2, 2, 3)], (0, 1)) == [2, 3]
