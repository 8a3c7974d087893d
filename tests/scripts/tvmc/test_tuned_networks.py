"""What is left of records once whole networks have run: none is slower than untuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schedules.layer.block import Workload
from schedules.plan.choice import AUTO, Choice
from schedules.plan.planner import NO_LIMITS, plan_kernel
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.records.records import LOST, Record
from tests.support.tflite_writer import Conv, single_conv
from tests.support.trials import record
from tflite_delegate.selection import select
from tvmc.tuning import networks
from tvmc.tuning.networks import NetworkReport, judge

SIMD = Simd.named("host")
IMAGE = (1, 6, 6, 8)
#: Each model's layers; the second and the third share one.
CONVS = {"one": Conv(12), "two": Conv(16), "three": Conv(16, seed=1)}


def other_algorithm(workload: Workload) -> str:
    """Not what is chosen untuned."""
    untuned = plan_kernel(workload, SIMD).algorithm
    return next(name for name in ("mec", "indirect") if name != untuned)


def trials(conv: Conv) -> list[Record]:
    """The untuned choice, and one that took half the time by itself."""
    workload = conv.workload(IMAGE)
    untuned = plan_kernel(workload, SIMD).choice
    return [
        record(workload, SIMD, untuned, 0.2),
        record(workload, SIMD, other_algorithm(workload), 0.1),
    ]


def mark(workload: Workload, choice: Choice) -> Record:
    return record(workload, SIMD, choice, None, error=LOST, samples=0, timestamp=1)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    paths = []
    for name, conv in CONVS.items():
        paths.append(tmp_path / f"{name}.tflite")
        paths[-1].write_bytes(single_conv(IMAGE, conv))
    return paths


class Machine:
    """Networks take 1 ms untuned, and so many times as long with records."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        self.factors, self.compared = factors, list[str]()

    def compare(
        self, path: Path, _simd: Any, _limits: Any, _records: Any, report: NetworkReport, _cc: Any
    ) -> NetworkReport:
        self.compared.append(path.stem)
        tuned = self.factors[path.stem]
        return replace(report, tuned_s=(tuned * 1e-3, tuned * 2e-3), untuned_s=(1e-3, 2e-3))


def judged(
    monkeypatch: pytest.MonkeyPatch,
    models: Sequence[Path],
    records: Sequence[Record],
    **factors: float,
) -> tuple[list[NetworkReport], list[Record], list[str]]:
    """The reports, the marks, and the models that were run, in this order."""
    machine, marks = Machine(factors), list[Record]()
    monkeypatch.setattr(networks, "_compare", machine.compare)

    def note(workload: Workload, choice: Choice) -> Record:
        marks.append(mark(workload, choice))
        return marks[-1]

    toolchain = Toolchain(("cc",))
    found = judge(models, SIMD, NO_LIMITS, records, note, toolchain)
    return list(found), marks, machine.compared


def algorithms(model: Path, records: Sequence[Record]) -> list[str]:
    (selection,) = select(model, SIMD, (AUTO,), NO_LIMITS, "time", records)
    return [kernel.plan.algorithm for kernel in selection.units.values()]


def test_nothing_differs(monkeypatch: pytest.MonkeyPatch, models: list[Path]) -> None:
    records = trials(CONVS["one"])[:1]
    (report,), marks, compared = judged(monkeypatch, models[:1], records)
    assert str(report) == "one.tflite: as untuned, nothing on record is better"
    assert not marks and not compared


def test_a_faster_network_keeps_its_records(
    monkeypatch: pytest.MonkeyPatch, models: list[Path]
) -> None:
    records = trials(CONVS["one"])
    (report,), marks, _ = judged(monkeypatch, models[:1], records, one=0.9)
    assert str(report) == "one.tflite in LiteRT: 1.8 ms tuned, 2 ms untuned: 0.900 (0.900 at best)"
    assert not marks
    assert algorithms(models[0], records) == [records[1].candidate.algorithm]


def test_a_slower_network_is_compiled_untuned(
    monkeypatch: pytest.MonkeyPatch, models: list[Path]
) -> None:
    records = trials(CONVS["one"])
    (report,), marks, compared = judged(monkeypatch, models[:1], records, one=1.01)
    assert "1.010" in str(report)
    assert str(report).endswith("; stays untuned, 1 layers and blocks are marked in the records")
    assert compared == ["one"]
    assert [m.candidate for m in marks] == [records[1].candidate]
    untuned = [records[0].candidate.algorithm]
    assert algorithms(models[0], [*records, *marks]) == untuned
    newer = replace(records[1], timestamp=2)
    assert algorithms(models[0], [*records, *marks, newer]) != untuned


def test_networks_that_share_layers_with_a_slower_one(
    monkeypatch: pytest.MonkeyPatch, models: list[Path]
) -> None:
    """The third has nothing left on record, and is not slower than untuned either."""
    records = [*trials(CONVS["one"]), *trials(CONVS["two"])]
    reports, marks, compared = judged(monkeypatch, models, records, one=0.8, two=1.2, three=0.8)
    assert compared == ["one", "two", "three"]
    assert [report.is_slower for report in reports] == [False, True, False]
    assert [report.layers for report in reports] == [1, 1, 0]
    assert {m.workload for m in marks} == {CONVS["two"].workload(IMAGE)}


def test_both_networks_run(models: list[Path]) -> None:
    """Compiled and in turns in LiteRT."""
    records = trials(CONVS["one"])
    (report,) = judge(models[:1], SIMD, NO_LIMITS, records, mark, Toolchain.default())
    assert report.layers == 1
    assert all(0 < least <= median for least, median in (report.tuned_s, report.untuned_s))
