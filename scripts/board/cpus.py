"""The cores that the emulated board can have, as programs see them."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.errors import LeanconvError

CORES = 4


@dataclass(frozen=True)
class Cpu:
    """One core as programs see it.

    Attributes
    ----------
    name
        Arm's name in lower case, as ``--cpu`` takes it.
    emulator_model
        QEMU's ``-cpu`` value: which instructions exist.
    part, variant, revision
        What ``/proc/cpuinfo`` shows: by these XNNPACK picks its kernels.
    features
        The features line of ``/proc/cpuinfo``.
    note
        How the emulated core differs from the named one; empty when it does not.
    """

    name: str
    emulator_model: str
    part: int
    variant: int
    revision: int
    features: str
    note: str = ""

    def proc_cpuinfo(self) -> str:
        """Text of ``/proc/cpuinfo`` on a board with :data:`CORES` of these cores."""
        return "".join(
            f"processor\t: {core}\n"
            "BogoMIPS\t: 108.00\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\n"
            "CPU architecture: 8\n"
            f"CPU variant\t: {self.variant:#x}\n"
            f"CPU part\t: {self.part:#05x}\n"
            f"CPU revision\t: {self.revision}\n\n"
            for core in range(CORES)
        )


_ARMV8_0 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = (
    "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
)
_ARMV9_0 = (
    "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop asimddp asimdfhm ilrcpc flagm i8mm bf16"
)
_NOTE_A55 = (
    "the emulator has no model of cortex-a55: instructions are those of cortex-a76, which has the "
    "same set (Armv8.2-A with fp16 and dot products)"
)
_NOTE_A710 = (
    "the emulator has no model of cortex-a710: instructions are those of its most complete core "
    "without SVE, so with integer matrix products and bfloat16"
)
_MODEL_A710 = "max,sve=off,sme=off,pauth-impdef=on"

CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a53", "cortex-a53", 0xD03, 0, 4, _ARMV8_0),
        Cpu("cortex-a55", "cortex-a76", 0xD05, 2, 0, _ARMV8_2, _NOTE_A55),
        Cpu("cortex-a57", "cortex-a57", 0xD07, 1, 0, _ARMV8_0),
        Cpu("cortex-a72", "cortex-a72", 0xD08, 0, 3, _ARMV8_0),
        Cpu("cortex-a76", "cortex-a76", 0xD0B, 4, 1, _ARMV8_2),
        Cpu("cortex-a710", _MODEL_A710, 0xD47, 2, 0, _ARMV9_0, _NOTE_A710),
        Cpu("neoverse-n1", "neoverse-n1", 0xD0C, 4, 1, _ARMV8_2),
    )
}
DEFAULT_CPU = "cortex-a72"


def find_cpu(name: str) -> Cpu:
    """The CPU model of that name.

    Raises
    ------
    LeanconvError
        When the board has no such model; the message lists those it has.
    """
    if name not in CPUS:
        raise LeanconvError(f"unknown CPU {name!r}; the board has {', '.join(CPUS)}")
    return CPUS[name]
