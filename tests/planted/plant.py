"""Plant the faults of defects.py, each in a copy of the checkout, and see that tests find it.

python -m tests.planted.plant            # make test-planted
python -m tests.planted.plant arena pool # some areas
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.planted.defects import DEFECTS, Defect

ROOT = Path(__file__).resolve().parents[2]
#: pytest's exit status where tests failed: others mean that it did not get so far.
FAILED = 1


@contextmanager
def planted(defect: Defect) -> Iterator[Path]:
    """A copy of the checkout with the fault in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    with tempfile.TemporaryDirectory(prefix="leanconv-planted-") as name:
        folder = Path(name)
        for path in filter(None, listed.stdout.split("\0")):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path)
        target = folder / defect.file
        target.write_text(target.read_text().replace(defect.old, defect.new))
        yield folder


def verdict(defect: Defect) -> str:
    """What came of looking for the fault: ``found``, or why not."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
    ]
    with planted(defect) as folder:
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder / 'scripts'}"}
        done = subprocess.run(
            [*command, *shlex.split(defect.tests)],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode == FAILED:
        return "found"
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    return f"NOT FOUND: {last}"


def main(areas: Sequence[str]) -> int:
    """Plant the faults of these areas, by default all; the exit status is 1 if one stays."""
    chosen = [defect for defect in DEFECTS if not areas or defect.area in areas]
    missed = 0
    for defect in chosen:
        result = verdict(defect)
        missed += result != "found"
        print(f"{defect.area}: {defect.file}: {defect.new}: {result}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted defects found")
    return int(missed > 0 or not chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
