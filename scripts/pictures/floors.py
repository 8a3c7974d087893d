"""The floors of schedules/: a folder imports from those below it alone."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.axes import Axes

from scripts.pictures.sketch import box, sketch, text

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
#: What each folder holds; the order is that of the contract in pyproject.toml.
HOLDS = {
    "relax": "the Relax pass",
    "select": "kernels of a whole network",
    "tuning": "records, searches, measuring, boards",
    "budget": "all that a network holds, within a limit",
    "plan": "one kernel: its plan, choice and limits",
    "algorithms": "one file or folder an algorithm",
    "kernel": "patches, packing, tiles, epilogue: what algorithms are built from",
    "lower": "scheduled TIR to bare C functions",
    "target": "instruction sets, compilers, cores",
    "layer": "what is computed: workloads, blocks, networks",
    "transforms": "exact matrices of minimal filtering",
}
WIDTH, STEP = 7.0, 0.42


def floors() -> list[str]:
    """Folders of schedules/ from the top, as the contract has them."""
    contract = re.search(
        r'containers = \["schedules"\]\nlayers = \[(.*?)\]', PROJECT.read_text(), re.DOTALL
    )
    assert contract is not None, "pyproject.toml has the contract"
    names = re.findall(r'"([^"]+)"', contract[1])
    return [name for name in names if (PROJECT.parent / "schedules" / name).is_dir()]


def picture() -> str:
    """A storey for each folder."""
    return sketch(WIDTH, STEP * (len(HOLDS) + 1), _draw)


def _draw(axes: Axes) -> None:
    for place, name in enumerate(floors()):
        top = 0.1 + place * STEP
        box(axes, 0.1, top, 1.6, STEP - 0.08, name, 0 if place % 2 else 2)
        text(axes, 1.9, top + STEP / 2 - 0.04, HOLDS[name], fontsize=10)
    bottom = 0.1 + len(HOLDS) * STEP + 0.1
    text(axes, 0.1, bottom, "each imports from those below it; leaves: store, files, errors")
