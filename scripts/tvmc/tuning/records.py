"""``tvmc records``: look into what tuning has measured, join it, cut it down."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.errors import LeanconvError
from schedules.layer.block import workload_from_text
from tvmc.command import at_least_one
from tvmc.tables import format_table

if TYPE_CHECKING:
    from schedules.tuning.records.records import Record

# schedules.tuning imports TVM, which takes a second: not before a command runs.

_PATH = "a file of records, or a folder with *.jsonl files"


def add_parser(commands: Any) -> None:
    """Add ``records`` to the commands of ``tvmc``."""
    group = commands.add_parser(
        "records",
        help="show, join and prune what tuning measured",
        description="Show, join and prune tuning records.",
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("show", help="every trial, the best of each workload first")
    command.set_defaults(run=_show)
    command.add_argument("path", metavar="PATH", type=Path, help=_PATH)
    command.add_argument("--workload", metavar="TEXT", help="only this one, as in the table")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")

    command = commands.add_parser("best", help="the best of each workload and target")
    command.set_defaults(run=_best)
    command.add_argument("path", metavar="PATH", type=Path, help=_PATH)
    command.add_argument("-o", "--output", metavar="FILE", type=Path, help="write these records")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")

    command = commands.add_parser("merge", help="all records of several files, each once, by time")
    command.set_defaults(run=_merge)
    command.add_argument("paths", metavar="PATH", type=Path, nargs="+", help=_PATH)
    command.add_argument("-o", "--output", metavar="FILE", type=Path, required=True,
        help="where to write them")  # fmt: skip

    command = commands.add_parser("prune", help="leave out what is no longer of use")
    command.set_defaults(run=_prune)
    command.add_argument("path", metavar="PATH", type=Path, help=_PATH)
    command.add_argument("--keep", metavar="N", type=at_least_one, required=True,
        help="of each workload and target, the best records of so many algorithms, beside the best "
        "of all and the untuned default")  # fmt: skip
    command.add_argument("-o", "--output", metavar="FILE", type=Path,
        help="where to write what is left [in place]")  # fmt: skip


def _show(options: argparse.Namespace) -> None:
    from schedules.tuning.records.records import load

    records = load(options.path)
    if options.workload is not None:
        workload = workload_from_text(options.workload)
        records = [record for record in records if record.workload == workload]
        if not records:
            raise LeanconvError(f"{options.path} has no records of {options.workload}")
    records.sort(key=lambda r: (r.workload.to_text(), r.target, -r.samples, r.cost_s))
    if options.json:
        print(json.dumps([json.loads(record.to_line()) for record in records], indent=2))
        return
    header = ("workload", "algorithm", "knobs", "median ms", "spread", "samples", "error")
    rows = [
        [*_candidate(r), *_cost(r), r.samples, r.error or "-", r.cost_kind, r.target]
        for r in records
    ]
    print(format_table((*header, "kind", "target"), rows))


def _best(options: argparse.Namespace) -> None:
    from schedules.tuning.records.log import rewrite
    from schedules.tuning.records.records import by_workload, load, of_target, ranked
    from schedules.tuning.records.untuned import untuned_record

    records = load(options.path)
    found: list[tuple[Record, Record | None]] = []
    for target in sorted({record.target for record in records}):
        for own in by_workload(of_target(records, target)).values():
            if ranking := ranked(own):
                found.append((ranking[0], untuned_record(ranking)))
    if not found:
        raise LeanconvError(f"every trial in {options.path} failed")
    if options.output is not None:
        rewrite(options.output, [record for record, _ in found])
    if options.json:
        print(json.dumps([_values(*pair) for pair in found], indent=2))
        return
    header = ("workload", "algorithm", "knobs", "median ms", "spread", "gain", "kind", "target")
    rows = [
        [*_candidate(r), *_cost(r), _gain_text(r, untuned), r.cost_kind, r.target]
        for r, untuned in found
    ]
    print(format_table(header, rows))
    print("gain: how many times as fast as what is compiled untuned, where that was measured")
    if options.output is not None:
        print(f"wrote {options.output}")


def _merge(options: argparse.Namespace) -> None:
    from schedules.tuning.records.upkeep import merge

    merged = merge(options.paths, options.output)
    print(f"wrote {options.output}: {len(merged)} records")


def _prune(options: argparse.Namespace) -> None:
    from schedules.tuning.records.upkeep import prune

    before, after = prune(options.path, options.keep, options.output)
    print(f"wrote {options.output or options.path}: {after} of {before} records")


def _candidate(record: Record) -> list[str]:
    """Workload, algorithm and knobs."""
    knobs = ":".join(f"{name}={value}" for name, value in record.candidate.settings)
    return [record.workload.to_text(), record.candidate.algorithm, knobs or "-"]


def _cost(record: Record) -> list[str]:
    """The median, and between what the samples lie as a share of it."""
    if not record.costs_s:
        return ["-", "-"]
    least, median, most = record.costs_s
    return [f"{1e3 * median:.4g}", f"{(most - least) / median:.1%}"]


def _gain(record: Record, untuned: Record | None) -> float | None:
    """Times as fast as ``untuned``; only what the same board computed can be compared."""
    if untuned is None or untuned.board != record.board:
        return None
    return untuned.cost_s / record.cost_s


def _gain_text(record: Record, untuned: Record | None) -> str:
    gain = _gain(record, untuned)
    return "-" if gain is None else f"{gain:.2f}x"


def _values(record: Record, untuned: Record | None) -> dict[str, Any]:
    """A record and its gain for JSON."""
    return {**json.loads(record.to_line()), "gain": _gain(record, untuned)}
