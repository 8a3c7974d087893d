"""How long a core would take for counted instructions and cache misses: a model, to rank kernels.

Straight-line blocks of code are taken one by one: a block costs what its busiest resource takes,
and a kernel the sum over all executions of all blocks, plus a fixed time for every cache miss.

- Out of order: instructions / issue width, operations / pipes for every group of pipes, and, where
  a loop adds to few accumulators, the length of their chain x the time from one multiply-add to the
  next on the same register.
- In order: the same, but while a vector load moves its data nothing else is issued.
- On both, a tenth of the time to issue all instructions is not hidden behind other resources.

What is left out: branch mispredictions, instruction fetch, translations, write-backs, register
renaming, and all latencies but that of multiply-adds. Times are at a nominal clock of 1 GHz; they
say which of two kernels is faster, and nothing about how fast either is.

Widths, pipes, throughputs and the accumulator's latency follow Arm's software optimisation guides:
Cortex-A55 (EPM-128372), Cortex-A72 (UAN 0016), Cortex-A76 (PJDOC-466751330-7215), Neoverse N1
(PJDOC-466751330-9707); in each the pipeline overview and, under instruction characteristics, the
tables of loads, stores and ASIMD floating point. Associativity is that of the technical reference
manuals' chapters on the level 1 and level 2 memory systems. Cortex-A53, which has no such guide, is
taken to have a Cortex-A55's pipeline.

Assumptions of this file alone: that tenth, that a load stops all of an in-order core, and the
bandwidths behind the caches. Kernels read in streams, which a core fetches ahead, so that a missing
line costs the time that it takes to move, and not the time until it comes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schedules.errors import LeanconvError
from schedules.target.simd import PRESETS
from scripts.board.count import INSTRUCTION_CLASSES

#: One block of a profiled region: see ``emulator/profile_regions.c``.
Block = Mapping[str, int]

CLOCK_HZ = 1e9
LINE_BYTES = 64
#: Part of the time to issue that adds to that of other resources: of two blocks that keep the same
#: pipes busy, the one with fewer instructions is faster.
UNHIDDEN_ISSUE = 0.1

_ARITHMETIC = ("v_fma", "v_fp", "v_int", "v_mov", "s_fp")


def instructions(block: Block) -> int:
    """Instructions of one execution."""
    return sum(block[name] for name in INSTRUCTION_CLASSES)


def _arithmetic(block: Block) -> int:
    return sum(block[name] for name in _ARITHMETIC)


@dataclass(frozen=True)
class Core(ABC):
    """A core's resources.

    Parameters
    ----------
    issue_width : int
        Instructions a cycle.
    fma_latency : int
        Cycles from one multiply-add to the next on the same accumulator.
    l1_ways, l2_ways : int
        Associativity of the data caches; their sizes are those of the preset.
    l2_bandwidth, memory_bandwidth : float
        Bytes a cycle from the second cache, and from beyond it.
    """

    issue_width: int
    fma_latency: int
    l1_ways: int
    l2_ways: int
    l2_bandwidth: float
    memory_bandwidth: float

    @abstractmethod
    def _block_cycles(self, block: Block) -> float:
        """Cycles of one execution, all data in the first cache."""

    def seconds(self, region: Mapping[str, Any]) -> float:
        """Time of a profiled region, at the nominal clock."""
        cycles = sum(
            block["executions"] * (self._block_cycles(block) + UNHIDDEN_ISSUE * self._issue(block))
            for block in region["blocks"]
        )
        cycles += LINE_BYTES * region["l1_misses"] / self.l2_bandwidth
        cycles += LINE_BYTES * region["l2_misses"] / self.memory_bandwidth
        return float(cycles) / CLOCK_HZ

    def _issue(self, block: Block) -> float:
        return instructions(block) / self.issue_width

    def _chain(self, block: Block) -> float:
        return self.fma_latency * block["fma_chain"]


class CortexA76(Core):
    """Two vector pipes, which also take the data of vector stores; two pipes for addresses."""

    def _block_cycles(self, block: Block) -> float:
        return max(
            self._issue(block),
            self._chain(block),
            (_arithmetic(block) + block["v_st_16"]) / 2,
            (block["v_ld_16"] + block["v_st_16"] + block["s_ld"] + block["s_st"]) / 2,
        )


class CortexA72(Core):
    """Two vector pipes of 64 bits for multiply-adds, one pipe for loads and one for stores."""

    def _block_cycles(self, block: Block) -> float:
        return max(
            self._issue(block),
            self._chain(block),
            block["v_fma"] + (_arithmetic(block) - block["v_fma"]) / 2,
            block["v_ld_16"] + block["s_ld"],
            block["v_st_8"] + block["s_st"],
        )


class CortexA55(Core):
    """One 128-bit vector operation a cycle; loads of 64 bits, that stop everything else."""

    def _block_cycles(self, block: Block) -> float:
        loading = block["v_ld_8"]
        return loading + max(
            (instructions(block) - block["v_ld"]) / self.issue_width,
            _arithmetic(block),
            self._chain(block) - loading,
            block["v_st_16"] + block["s_ld"] + block["s_st"],
        )


_A76 = CortexA76(4, 2, l1_ways=4, l2_ways=8, l2_bandwidth=16, memory_bandwidth=8)

#: Modelled cores by the preset that has their caches, of :data:`schedules.target.simd.PRESETS`.
CORES: Mapping[str, Core] = {
    "cortex-a53": CortexA55(2, 4, l1_ways=4, l2_ways=16, l2_bandwidth=8, memory_bandwidth=2),
    "cortex-a55": CortexA55(2, 4, l1_ways=4, l2_ways=4, l2_bandwidth=8, memory_bandwidth=4),
    "cortex-a72": CortexA72(3, 3, l1_ways=2, l2_ways=16, l2_bandwidth=8, memory_bandwidth=3),
    "cortex-a76": _A76,
    "neoverse-n1": _A76,
}


def find_core(name: str) -> Core:
    """The modelled core of that name.

    Raises
    ------
    LeanconvError
        When there is no model of it; the message lists those that there are.
    """
    if name not in CORES:
        raise LeanconvError(f"there is no model of CPU {name!r}; there is of {', '.join(CORES)}")
    return CORES[name]


def cache_geometry(name: str) -> tuple[str, str]:
    """The caches of a modelled core as ``emulator/profile_regions.c`` takes them."""
    core, simd = find_core(name), PRESETS[name]
    return f"l1={simd.l1_bytes}:{core.l1_ways}", f"l2={simd.l2_bytes}:{core.l2_ways}"
