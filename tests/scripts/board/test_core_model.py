"""The model of a core: which resource bounds a block, and what misses cost."""

from __future__ import annotations

import pytest

from schedules.errors import LeanconvError
from schedules.target.simd import PRESETS
from scripts.board.core_model import CORES, cache_geometry, find_core
from scripts.board.count import INSTRUCTION_CLASSES
from scripts.board.cpus import CPUS


def seconds(cpu: str, executions: int = 1, **counts: int) -> float:
    """Time of a region with one block, and with cache misses."""
    names = (*INSTRUCTION_CLASSES, "v_ld_8", "v_ld_16", "v_st_8", "v_st_16", "fma_chain")
    block = {"executions": executions, **{name: counts.pop(name, 0) for name in names}}
    return CORES[cpu].seconds({"blocks": [block], "l1_misses": 0, "l2_misses": 0, **counts})


def test_every_core_is_one_of_the_board_with_caches_that_can_be_simulated() -> None:
    for name in CORES:
        assert name in CPUS and name in PRESETS
        for level in cache_geometry(name):
            size, ways = map(int, level.partition("=")[2].split(":"))
            sets = size // 64 // ways
            assert sets * ways * 64 == size and sets & (sets - 1) == 0
    with pytest.raises(LeanconvError, match="no model of CPU 'cortex-a99'; there is of cortex-a53"):
        find_core("cortex-a99")


@pytest.mark.parametrize(
    ("cpu", "cycles"), [("cortex-a76", 40), ("cortex-a72", 80), ("cortex-a53", 80 + 8)]
)
def test_an_inner_loop_is_bound_by_its_multiply_adds(cpu: str, cycles: int) -> None:
    """80 with 4 loads: 2, 1 and 1 a cycle, and in order the loads stop them."""
    loop = {"v_fma": 80, "v_ld": 4, "v_ld_8": 8, "v_ld_16": 4, "fma_chain": 4}
    issue = 0.1 * 84 / CORES[cpu].issue_width
    assert seconds(cpu, executions=1000, **loop) == pytest.approx(1e-6 * (cycles + issue))


@pytest.mark.parametrize("cpu", CORES)
def test_few_accumulators_wait_for_each_other(cpu: str) -> None:
    alone, together = (seconds(cpu, v_fma=16, fma_chain=chain) for chain in (16, 1))
    assert alone / together > 2.5


@pytest.mark.parametrize("cpu", CORES)
def test_copying_costs_what_it_moves(cpu: str) -> None:
    """Half as many instructions that move twice as much take nearly as long."""
    copied = {"v_ld_8": 16, "v_ld_16": 8, "v_st_8": 16, "v_st_16": 8}
    pairs, singles = (seconds(cpu, v_ld=n, v_st=n, **copied) for n in (4, 8))
    assert singles * 0.9 < pairs < singles


@pytest.mark.parametrize("cpu", CORES)
def test_a_miss_costs_more_the_further_the_line_is_away(cpu: str) -> None:
    near, far = (seconds(cpu, l1_misses=9, l2_misses=misses) for misses in (0, 9))
    assert 0 < near < far - near
