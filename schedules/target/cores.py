"""What is known of processor cores: who they are, how wide, how large their caches.

A row is a fact sheet of one core, and a preset (:mod:`schedules.target.simd`) is made of each.
Pipes and latencies are those of multiply-adds and loads of whole vector registers.

Sources: for Arm's cores their software optimisation guides and technical reference manuals (part
numbers: the manuals' register MIDR_EL1), for Intel's the optimisation reference manual, for AMD's
the software optimisation guides of families 17h, 19h and 1Ah, all as published by the vendors; for
cores without a guide (Cortex-A53, Apple's, Qualcomm's Oryon) measurements that were published of
them, taken down to what schedules depend on. Where a system may choose a cache's size, it is that
of the usual phone or server; the host's own caches come from its system.

Bandwidths are what kernels get, measured on Zen 4 and on Sapphire Rapids; other x86 cores have
those of the nearer one. Arm's are the assumptions of scripts/board/core_model.py.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
_X86_V3 = frozenset({"avx2", "fma", "f16c"})
_X86_V4 = _X86_V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
#: Sums of products of bytes, in processors since Cascade Lake and Zen 4; of AVX2's vectors, in
#: Intel's for clients since Alder Lake.
VNNI, AVX_VNNI = "avx512vnni", "avxvnni"
_ARMV8_0 = frozenset({"neon"})
_ARMV8_2 = _ARMV8_0 | {"dotprod", "fullfp16"}
#: Products of matrices of bytes, in cores of Armv8.6 and some before.
I8MM = "i8mm"

ARM, QUALCOMM, APPLE = 0x41, 0x51, 0x61
INTEL, AMD = "GenuineIntel", "AuthenticAMD"


@dataclass(frozen=True)
class Core:
    """One core.

    Parameters
    ----------
    name : str
        LLVM's name of it, which is also the preset's.
    mcpu : str
        The processor to compile for: one that has no instruction beyond ``features``, as these are
        what the delegate checks before it claims a layer.
    vector_bytes, vector_registers : int
        Width and number of the vector registers.
    fmas, loads : float
        Vector multiply-adds and vector loads a cycle.
    latency : int
        Cycles from one multiply-add to the next on the same accumulator.
    l1_kib, l2_kib, l3_kib : int
        Data caches that one core can count on; of a shared one its share, 0 if there is none.
    l3_bandwidth, memory_bandwidth : float
        Bytes a cycle that one core reads from the third cache, and from memory.
    features : frozenset of str
        Instruction-set extensions that compiled kernels may use.
    parts : tuple
        Who it is: (implementer, part) on Arm, (vendor, family, first model, last model) on x86.
    in_order : bool
        Whether it issues in program order.
    """

    name: str
    mcpu: str
    vector_bytes: int
    vector_registers: int
    fmas: float
    loads: float
    latency: int
    l1_kib: int
    l2_kib: int
    l3_kib: int
    l3_bandwidth: float
    memory_bandwidth: float
    features: frozenset[str]
    parts: tuple[tuple[int, int] | tuple[str, int, int, int], ...]
    in_order: bool = False

    @property
    def arch(self) -> str:
        """``x86_64`` or ``aarch64``."""
        return "aarch64" if "neon" in self.features else "x86_64"

    @property
    def loads_per_fma(self) -> int:
        """Whole loads in the time of one multiply-add, at least 1."""
        return max(1, int(self.loads / self.fmas))

    @property
    def speed(self) -> float:
        """Multiply-adds of single elements a cycle, by which clusters of one system are ranked."""
        return self.fmas * self.vector_bytes - (1 if self.in_order else 0)


def _arm(
    name: str, pipes: tuple[float, float, int], caches: tuple[int, int, int],
    bandwidths: tuple[float, float], *parts: int, mcpu: str = "", implementer: int = ARM,
    old: bool = False, in_order: bool = False, i8mm: bool = False,
    also: tuple[tuple[int, int], ...] = (),
) -> Core:  # fmt: skip
    """A core with NEON: Armv8.2 with dot products, half floats and perhaps ``i8mm``, or ``old``."""
    known = (*((implementer, part) for part in parts), *also)
    features = _ARMV8_0 if old else _ARMV8_2 | {I8MM} if i8mm else _ARMV8_2
    return Core(name, mcpu or name, 16, 32, *pipes, *caches, *bandwidths, features, known, in_order)


def _x86(
    name: str, pipes: tuple[float, float, int], caches: tuple[int, int, int],
    vendor: str = AMD, *models: tuple[int, int, int], wide: bool = False, vnni: bool = False,
) -> Core:  # fmt: skip
    """A core with AVX2, or ``wide`` AVX-512, perhaps with ``vnni`` of that width."""
    known = tuple((vendor, *model) for model in models)
    bandwidths = (10.0, 4.0) if vendor == INTEL else (26.0, 5.0)
    if wide:
        features = _X86_V4 | {VNNI} if vnni else _X86_V4
        return Core(name, "x86-64-v4", 64, 32, *pipes, *caches, *bandwidths, features, known)
    features = _X86_V3 | {AVX_VNNI} if vnni else _X86_V3
    return Core(name, "x86-64-v3", 32, 16, *pipes, *caches, *bandwidths, features, known)


#: (multiply-adds a cycle, loads a cycle, cycles of latency), (L1, L2, L3 in KiB), on Arm (bytes a
#: cycle from L3, from memory), part numbers.
CORES = (
    # Levels of x86-64, for whoever compiles for many: pipes of the processor that has most trouble.
    _x86("x86-64-v3", (2, 2, 4), (32, 256, 2048)),
    _x86("x86-64-v4", (1, 2, 4), (32, 1024, 4096), wide=True),
    _x86("haswell", (2, 2, 5), (32, 256, 2048), INTEL,
         (6, 60, 60), (6, 63, 63), (6, 69, 70), (6, 61, 61), (6, 71, 71), (6, 79, 79), (6, 86, 86)),
    _x86("skylake", (2, 2, 4), (32, 256, 2048), INTEL,
         (6, 78, 78), (6, 94, 94), (6, 142, 142), (6, 158, 158), (6, 165, 166)),
    _x86("alderlake", (2, 3, 4), (48, 1280, 3072), INTEL,
         (6, 151, 151), (6, 154, 154), (6, 183, 183), (6, 186, 186), (6, 191, 191), vnni=True),
    _x86("skylake-avx512", (2, 2, 4), (32, 1024, 1408), INTEL, (6, 85, 85), wide=True),
    # These have the family and model of the last: only their names differ here.
    _x86("cascadelake", (2, 2, 4), (32, 1024, 1408), INTEL, wide=True, vnni=True),
    _x86("cooperlake", (2, 2, 4), (32, 1024, 1408), INTEL, wide=True, vnni=True),
    # One pipe of 512 bits in the processors for clients, two in those for servers.
    _x86("icelake-client", (1, 2, 4), (48, 512, 2048), INTEL, (6, 125, 126), wide=True, vnni=True),
    _x86("tigerlake", (1, 2, 4), (48, 1280, 3072), INTEL, (6, 140, 141), wide=True, vnni=True),
    _x86("rocketlake", (1, 2, 4), (48, 512, 2048), INTEL, (6, 167, 167), wide=True, vnni=True),
    _x86("icelake-server", (2, 2, 4), (48, 1280, 1536), INTEL,
         (6, 106, 106), (6, 108, 108), wide=True, vnni=True),
    _x86("sapphirerapids", (2, 2, 4), (48, 2048, 1920), INTEL,
         (6, 143, 143), wide=True, vnni=True),
    _x86("emeraldrapids", (2, 2, 4), (48, 2048, 5120), INTEL, (6, 207, 207), wide=True, vnni=True),
    _x86("graniterapids", (2, 2, 4), (48, 2048, 4096), INTEL, (6, 173, 174), wide=True, vnni=True),
    # The first takes 256 bits in two halves, and the fourth 512 bits.
    _x86("znver1", (1, 1, 5), (32, 512, 2048), AMD, (23, 0, 47)),
    _x86("znver2", (2, 2, 5), (32, 512, 2048), AMD, (23, 48, 255)),
    _x86("znver3", (2, 2, 4), (32, 512, 4096), AMD, (25, 0, 15), (25, 32, 95)),
    _x86("znver4", (1, 2, 4), (32, 1024, 4096), AMD,
         (25, 16, 31), (25, 96, 127), (25, 160, 175), wide=True, vnni=True),
    _x86("znver5", (2, 2, 4), (48, 1024, 4096), AMD, (26, 0, 255), wide=True, vnni=True),
    _arm("cortex-a35", (0.5, 0.5, 4), (32, 128, 0), (2, 2), 0xD04, old=True, in_order=True),
    _arm("cortex-a53", (1, 0.5, 4), (32, 128, 0), (2, 2), 0xD03, old=True, in_order=True,
         also=((QUALCOMM, 0x801),)),
    _arm("cortex-a55", (1, 0.5, 4), (32, 128, 0), (4, 4), 0xD05, in_order=True,
         also=((QUALCOMM, 0x803), (QUALCOMM, 0x805))),
    _arm("cortex-a510", (1, 1, 4), (32, 128, 0), (4, 4), 0xD46, mcpu="cortex-a55", in_order=True,
         i8mm=True),
    _arm("cortex-a520", (1, 1, 4), (32, 128, 0), (4, 4), 0xD80, mcpu="cortex-a55", in_order=True,
         i8mm=True),
    _arm("cortex-a57", (1, 1, 4), (32, 512, 0), (3, 3), 0xD07, old=True),
    _arm("cortex-a72", (1, 1, 3), (32, 512, 0), (3, 3), 0xD08, old=True),
    _arm("cortex-a73", (1, 1, 3), (64, 512, 0), (3, 3), 0xD09, old=True, also=((QUALCOMM, 0x800),)),
    _arm("cortex-a75", (1, 1, 3), (64, 256, 512), (8, 4), 0xD0A, also=((QUALCOMM, 0x802),)),
    _arm("cortex-a76", (2, 2, 2), (64, 256, 512), (8, 4), 0xD0B, 0xD0E, also=((QUALCOMM, 0x804),)),
    _arm("cortex-a77", (2, 2, 2), (64, 256, 512), (8, 4), 0xD0D),
    _arm("cortex-a78", (2, 2, 2), (64, 256, 512), (8, 4), 0xD41, 0xD42, 0xD4B),
    _arm("cortex-a710", (2, 2, 2), (64, 512, 1024), (8, 4), 0xD47, mcpu="cortex-a78", i8mm=True),
    _arm("cortex-a715", (2, 2, 2), (64, 512, 1024), (8, 4), 0xD4D, mcpu="cortex-a78", i8mm=True),
    _arm("cortex-a720", (2, 2, 2), (64, 512, 1024), (8, 4), 0xD81, mcpu="cortex-a78", i8mm=True),
    _arm("cortex-a725", (2, 2, 2), (64, 512, 1024), (8, 4), 0xD87, mcpu="cortex-a78", i8mm=True),
    _arm("cortex-x1", (4, 3, 2), (64, 1024, 1024), (8, 4), 0xD44, 0xD4C),
    _arm("cortex-x2", (4, 3, 2), (64, 1024, 1536), (8, 4), 0xD48, mcpu="cortex-x1", i8mm=True),
    _arm("cortex-x3", (4, 3, 2), (64, 1024, 2048), (8, 4), 0xD4E, mcpu="cortex-x1", i8mm=True),
    _arm("cortex-x4", (4, 3, 2), (64, 2048, 2048), (8, 4), 0xD82, mcpu="cortex-x1", i8mm=True),
    _arm("cortex-x925", (6, 4, 2), (64, 2048, 2048), (8, 4), 0xD85, mcpu="cortex-x1", i8mm=True),
    # Their own order of instructions spills in tiles of 6x16; the Cortex-A76's does not.
    _arm("neoverse-n1", (2, 2, 2), (64, 1024, 1024), (8, 4), 0xD0C, mcpu="cortex-a76"),
    _arm("neoverse-n2", (2, 2, 2), (64, 1024, 1024), (8, 4), 0xD49, mcpu="cortex-a76", i8mm=True),
    _arm("neoverse-n3", (2, 2, 2), (64, 2048, 1024), (8, 4), 0xD8E, mcpu="cortex-a76", i8mm=True),
    _arm("neoverse-v1", (4, 3, 2), (64, 1024, 1024), (8, 4), 0xD40, mcpu="cortex-x1", i8mm=True),
    _arm("neoverse-v2", (4, 3, 2), (64, 2048, 1024), (8, 4), 0xD4F, mcpu="cortex-x1", i8mm=True),
    _arm("neoverse-v3", (4, 3, 2), (64, 2048, 1024), (8, 4), 0xD84, mcpu="cortex-x1", i8mm=True),
    # Apple's second cache is shared by a cluster of four.
    _arm("apple-m1", (4, 3, 3), (128, 3072, 0), (8, 4), 0x23, 0x25, 0x29, implementer=APPLE),
    _arm("apple-m2", (4, 3, 3), (128, 4096, 0), (8, 4), 0x33, 0x35, 0x39, implementer=APPLE,
         mcpu="apple-m1", i8mm=True),
    _arm("oryon-1", (4, 4, 3), (96, 3072, 0), (8, 4), 0x1, implementer=QUALCOMM, mcpu="cortex-x1",
         i8mm=True),
)  # fmt: skip

BY_NAME = {core.name: core for core in CORES}
