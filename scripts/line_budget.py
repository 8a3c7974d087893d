"""Print how many lines each folder has, and fail where that is too much: part of ``make lint``.

    python -m scripts.line_budget

A folder of the second level counts with all that is below it, one of the first with its own files.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from scripts.processes import ROOT
from tvmc.tables import format_table

#: Lines of Python and C at most. Raise one only for what is worth it; lower it after a clean-up.
BUDGET = {
    "schedules": 770,
    "schedules/algorithms": 7550,
    "schedules/budget": 1500,
    "schedules/kernel": 4150,
    "schedules/layer": 2030,
    "schedules/lower": 2480,
    "schedules/plan": 920,
    "schedules/relax": 1710,
    "schedules/select": 1100,
    "schedules/target": 1450,
    "schedules/transforms": 310,
    "schedules/tuning": 5750,
    "tflite_delegate": 1300,
    "tflite_delegate/csrc": 18540,
    "tflite_delegate/embedding": 350,
    "tflite_delegate/importer": 5160,
    "tflite_delegate/read": 2160,
    "scripts": 810,
    "scripts/benchmarks": 7660,
    "scripts/board": 3770,
    "scripts/examples": 270,
    "scripts/models": 1280,
    "scripts/pictures": 390,
    "scripts/prune": 1400,
    "scripts/tflite_benchmark": 590,
    "scripts/tvmc": 7000,
    "tests": 260,
    "tests/planted": 370,
    "tests/schedules": 11900,
    "tests/scripts": 9740,
    "tests/support": 5740,
    "tests/tflite_delegate": 13720,
}
#: Folders that everything is in.
TOPS = ("schedules", "tflite_delegate", "scripts", "tests")
#: Lines of a file at most, by its ending, apart from tests.
FILE_LIMITS = {".py": 450, ".c": 350, ".h": 400, ".cc": 350}
#: Files that lie in one folder at most, apart from tests.
MOST_FILES = 16


def sources(root: Path) -> dict[Path, int]:
    """Lines of each file of the source and its tests, by its path below ``root``."""
    return {
        path.relative_to(root): len(path.read_bytes().splitlines())
        for top in TOPS
        for path in sorted((root / top).rglob("*"))
        if path.suffix in FILE_LIMITS
    }


def by_folder(files: Mapping[Path, int]) -> dict[str, list[int]]:
    """The lines of the files in each folder: those beside the top ones, and those in each below."""
    found: dict[str, list[int]] = {}
    for path, lines in files.items():
        found.setdefault("/".join(path.parent.parts[:2]), []).append(lines)
    return found


def problems(files: Mapping[Path, int], budget: Mapping[str, int]) -> list[str]:
    """A line for each folder and file that is too large."""
    source = {path: lines for path, lines in files.items() if path.parts[0] != "tests"}
    found = [
        f"{path}: {lines} lines are more than {FILE_LIMITS[path.suffix]}"
        for path, lines in source.items()
        if lines > FILE_LIMITS[path.suffix]
    ]
    together = Counter(path.parent for path in source)
    found += [
        f"{folder}: {count} files are more than {MOST_FILES}"
        for folder, count in together.items()
        if count > MOST_FILES
    ]
    for folder, lines in by_folder(files).items():
        if folder not in budget:
            found.append(f"{folder}: scripts/line_budget.py has no budget for it")
        elif sum(lines) > budget[folder]:
            found.append(f"{folder}: {sum(lines)} lines are more than its {budget[folder]}")
    return found


def main(root: Path = ROOT, budget: Mapping[str, int] = BUDGET) -> int:
    """The command: see the top of this file."""
    files = sources(root)
    rows = [
        [folder, len(lines), sum(lines), budget.get(folder, "-")]
        for folder, lines in by_folder(files).items()
    ]
    print(format_table(("folder", "files", "lines", "budget"), rows))
    found = problems(files, budget)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
