"""Write the figures of README.md and RESULTS.md from the JSON of the benchmarks.

    python -m scripts.benchmarks.networks --json scripts/benchmarks/results/networks.json
    python -m scripts.readme  # --check: fails if a text differs

What stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is generated; nothing else is touched.
``NAME_result`` is what the benchmark NAME printed, its command and its machine.
"""

from __future__ import annotations

import importlib
import re
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.files import replace_atomically
from scripts.benchmarks import networks
from scripts.benchmarks.harness.benchmark import RESULTS, Benchmark
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.machine import Machine
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.processes import ROOT
from tvmc.command import LineParser, exit_status
from tvmc.tables import format_bytes

README = ROOT / "README.md"
DOCUMENTS = (
    README,
    RESULTS.with_name("RESULTS.md"),
    ROOT / "schedules" / "algorithms" / "README.md",
)
_BLOCK = re.compile(r"(<!-- (?P<name>[\w.]+) -->)(?P<text>.*?)(<!-- /(?P=name) -->)", re.DOTALL)
_SUFFIX = "_result"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    return exit_status("readme", lambda: _write(options.check))


def _write(check: bool) -> None:
    kept = networks.BENCHMARK.kept()
    if kept is None:
        raise LeanconvError("no results of networks are kept")
    for path in DOCUMENTS:
        now = path.read_text(encoding="utf-8")
        fresh = filled(now, kept)
        if check and fresh != now:
            message = f"{path.name} does not say what the results say: python -m scripts.readme"
            raise LeanconvError(message)
        replace_atomically(path, fresh.encode())


def filled(text: str, networks: Mapping[str, Any]) -> str:
    """``text`` with every generated block made anew.

    Parameters
    ----------
    text : str
        Markdown with blocks ``claim``, ``networks``, ``machine``, ``algorithms``, and what
        benchmarks printed.
    networks : mapping
        What ``benchmarks/networks.py --json`` wrote.

    Raises
    ------
    LeanconvError
        If a block has a name that nothing is generated for.
    """
    rows = _one_thread(networks["rows"])
    blocks = {
        "claim": _claim(rows),
        "networks": _table(rows),
        "machine": Machine(**networks["machine"]).describe(),
        "algorithms": _algorithms(),
    }

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name.endswith(_SUFFIX):
            blocks[name] = _printed(name.removesuffix(_SUFFIX))
        if name not in blocks:
            raise LeanconvError(f"there is a block {name!r}: one of {', '.join(blocks)}")
        return f"{match[1]}{blocks[name]}{match[4]}"

    return _BLOCK.sub(block, text)


def _printed(name: str) -> str:
    """What a benchmark printed, or how to measure it, and its pictures."""
    benchmark: Benchmark = importlib.import_module(f"scripts.benchmarks.{name}").BENCHMARK
    kept = benchmark.kept()
    if kept is None:
        path = benchmark.kept_path.relative_to(ROOT)
        return f"\nNo figures are kept: `python -m scripts.benchmarks.{name} --json {path}`\n"
    machine = Machine(**kept["machine"]).describe()
    text = textwrap.indent(benchmark.text(kept["rows"]), "    ")
    pictures = "".join(f"![{picture}](../pictures/{picture})\n\n" for picture in benchmark.pictures)
    return f"\n`{kept['command']}`\non {machine}:\n\n{text}\n\n{pictures}"


def _algorithms() -> str:
    """A table of the registry; algorithms of one paper and workspace share a line."""
    names: dict[tuple[str, ...], list[str]] = {}
    for algorithm in REGISTRY:
        rest = (algorithm.source, algorithm.workspace, algorithm.computes, algorithm.good_for)
        names.setdefault(rest, []).append(f"`{algorithm.name}`")
    header = ("algorithm", "source", "workspace, elements", "computes", "good for")
    rows = [(", ".join(own), *rest) for rest, own in names.items()]
    lines = [header, ("---",) * len(header), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


#: Rows of one network by runtime.
_Networks = dict[str, dict[str, Mapping[str, Any]]]


def _one_thread(rows: Sequence[Mapping[str, Any]]) -> _Networks:
    found: _Networks = {}
    for row in rows:
        if row["threads"] == 1 and row["times"]:
            found.setdefault(row["network"], {})[row["runtime"]] = row
    return {name: of for name, of in found.items() if LEANCONV in of and XNNPACK in of}


def _ratio(of: Mapping[str, Mapping[str, Any]], figure: str) -> float:
    return float(of[LEANCONV]["ratios"][figure])


def _heap(of: Mapping[str, Mapping[str, Any]], runtime: str) -> int:
    return int(of[runtime]["memory"]["peak_heap_bytes"])


def _claim(networks: _Networks) -> str:
    mean = statistics.geometric_mean(_ratio(of, "min") for of in networks.values())
    example = networks["mobilenet_v2"]
    return (
        f"{len(networks)} networks run in {mean:.2f} of the time of LiteRT with XNNPACK (geometric "
        f"mean, one thread);\nMobileNetV2 in {_ratio(example, 'min'):.2f}, with "
        f"{format_bytes(_heap(example, LEANCONV))} on the heap where XNNPACK has "
        f"{format_bytes(_heap(example, XNNPACK))}."
    )


def _table(networks: _Networks) -> str:
    lines = [
        "| network | leanconv ms | of XNNPACK's time (minima / medians) | arena | packed weights "
        "| peak heap | XNNPACK's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, of in networks.items():
        ours = of[LEANCONV]
        memory = [ours["memory"]["arena_bytes"], ours["memory"]["packed_bytes"]]
        memory += [_heap(of, LEANCONV), _heap(of, XNNPACK)]
        lines.append(
            f"| {name} | {ours['times']['min_s'] * 1e3:.4g} | {_ratio(of, 'min'):.3f} / "
            f"{_ratio(of, 'median'):.3f} | {' | '.join(map(format_bytes, memory))} |"
        )
    return "\n\n" + "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    sys.exit(main())
