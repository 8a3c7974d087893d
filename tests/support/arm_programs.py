"""Programs for the emulated board."""

from __future__ import annotations

from pathlib import Path

from schedules.target.toolchain import GLIBC, Toolchain


def compile_for_arm(source: Path, output: Path, *options: str) -> Path:
    """Compile and link C or assembly for aarch64 Linux."""
    target = ("-target", f"aarch64-linux-gnu.{GLIBC}")
    Toolchain.default().run([*target, *options, source, "-o", output])
    return output
