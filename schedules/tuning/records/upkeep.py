"""Files of records that are joined, and cut down to what is still of use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.tuning.records.log import NEWER, files, load, load_files, locked, rewrite
from schedules.tuning.records.records import Record, by_workload, of_target, ranked
from schedules.tuning.records.untuned import untuned_record


def merge(paths: Iterable[Path], output: Path) -> list[Record]:
    """Write the records of all ``paths`` to ``output``, each once, the oldest first."""
    different = dict.fromkeys(record for path in paths for record in load(path))
    merged = sorted(different, key=lambda record: record.timestamp)
    rewrite(output, merged)
    return merged


def prune(path: Path, keep: int, output: Path | None = None) -> tuple[int, int]:
    """Leave out whatever :func:`worth_keeping` does; the numbers of records before and after.

    Without an ``output``, every file of ``path`` is replaced; nobody appends meanwhile.
    """
    with ExitStack() as stack:
        for file in files(path) if output is None else ():
            stack.enter_context(locked(file))
        by_file, skipped = load_files(path)
        if output is None and skipped[NEWER]:
            raise LeanconvError(f"{path} has lines of a newer version: update leanconv, or use -o")
        records = [record for own in by_file.values() for record in own]
        kept = worth_keeping(records, keep)
        if not kept:
            raise LeanconvError(f"every trial in {path} failed: nothing is worth keeping")
        if output is not None:
            rewrite(output, kept)
        else:
            for file, own in by_file.items():
                rewrite(file, [record for record in dict.fromkeys(own) if record in kept])
    return len(records), len(kept)


def worth_keeping(records: Sequence[Record], keep: int) -> dict[Record, None]:
    """Of each workload and target the best record and that of the untuned candidate.

    And the best of each of the ``keep`` best algorithms, so that a model can still learn, and the
    marks of those that lost. They stay in their order.
    """
    chosen: set[Record] = set()
    for target in {record.target for record in records}:
        for own in by_workload(of_target(records, target)).values():
            ranking = ranked(own)
            if not ranking:
                continue
            chosen.update(record for record in own if record.is_lost)
            algorithms: dict[str, Record] = {}
            for record in ranking:
                algorithms.setdefault(record.candidate.algorithm, record)
            chosen.update([ranking[0], *list(algorithms.values())[:keep]])
            untuned = untuned_record(ranking)
            chosen.update([untuned] if untuned else [])
    return dict.fromkeys(record for record in records if record in chosen)
