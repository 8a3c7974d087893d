"""Check that C files include what is on their own floor or below: part of ``make lint``.

    python -m scripts.include_floors [FOLDER]

Floors are the folders of ``tflite_delegate/csrc`` (see its README.md); a file beside them may
include everything.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

#: From the ground up.
FLOORS = ("host", "kernels", "layer", "operation", "codes", "operators", "run", "claim")
CSRC = Path(__file__).resolve().parents[1] / "tflite_delegate" / "csrc"
_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def violations(folder: Path) -> list[str]:
    """A line for each include that points up, to no floor, or out of the folder."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".c", ".h")):
        name = path.relative_to(folder).as_posix()
        for included in _INCLUDE.findall(path.read_text(encoding="utf-8")):
            if not (folder / included).is_file():
                found.append(f"{name}: there is no {included}")
            elif _height(included) > _height(name):
                found.append(f"{name} includes {included}, which is on a floor above")
    return found


def _height(name: str) -> int:
    """Floors below that of a file; beside the folders, all of them."""
    floor, slash, _ = name.partition("/")
    return FLOORS.index(floor) if slash else len(FLOORS)


def main(arguments: Sequence[str]) -> int:
    """The command: see the top of this file."""
    problems = violations(Path(arguments[0]) if arguments else CSRC)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
