"""Delegates whose packed weights are data of the library: for which models they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from schedules.plan.planner import Limits
from schedules.target import elf
from schedules.target.simd import Simd
from tests.support.tflite_writer import Conv, chain
from tflite_delegate.build import Report, build
from tvmc.running.interpreter import Session, runtime

INPUT = (1, 12, 12, 16)
#: Layers of a chain, depthwise, of groups, of float16, with odd channels.
LAYERS = (
    Conv(48, (1, 1), activation="relu6"),
    Conv(48, depthwise=True, activation="relu6", seed=1),
    Conv(16, (1, 1), seed=2),
    Conv(32, (3, 3), groups=2, seed=3),
    Conv(21, (3, 3), weight_type="float16", seed=4),
    Conv(70, (3, 3), seed=5),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedding")


@pytest.fixture(scope="module")
def graph(folder: Path) -> Path:
    return written(folder / "own.tflite", chain(INPUT, LAYERS))


@pytest.fixture(scope="module")
def report(folder: Path, graph: Path) -> Report:
    return build(graph, folder / "lib.so", Simd.named("host"), limits=Limits(embeds=True))


@pytest.fixture(scope="module")
def library(folder: Path, report: Report) -> Path:
    assert report.layers
    return folder / "lib.so"


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def bytes_of(session: Session, kind: str) -> int:
    report = session.report()
    assert report is not None
    return sum(layer[f"{kind}_bytes"] for layer in report["layers"])


def run(graph: Path, library: Path | None = None, verify: int = 0) -> tuple[Session, np.ndarray]:
    """The session, and the first output of one run."""
    options = {"verify": str(verify)} if library else None
    session = Session(
        graph,
        runtime("litert"),
        delegate=library,
        delegate_options=options,
        xnnpack=library is None,
    )
    (output,) = session.run([np.random.default_rng(0).standard_normal(INPUT, np.float32)])
    return session, output


def check(output: np.ndarray, graph: Path) -> None:
    """Beside XNNPACK."""
    _, expected = run(graph)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("verify", [0, 1])
def test_nothing_is_packed_for_the_model_itself(graph: Path, library: Path, verify: int) -> None:
    session, output = run(graph, library, verify)
    assert bytes_of(session, "embedded") > 0
    assert bytes_of(session, "packed") == 0
    check(output, graph)


def test_the_report_says_where_weights_are(report: Report) -> None:
    packed = [layer for layer in report.layers if layer.packed_bytes > 0]
    assert packed and all(layer.embedded for layer in packed)


def test_the_data_may_lie_in_pages_of_two_megabytes(library: Path) -> None:
    with library.open("rb") as file:
        segments = list(ELFFile(file).iter_segments("PT_LOAD"))
    assert {segment["p_align"] for segment in segments} == {elf.HUGE_PAGE_BYTES}
    assert all((s["p_offset"] - s["p_vaddr"]) % elf.HUGE_PAGE_BYTES == 0 for s in segments)


def other_weights(layers: Sequence[Conv], place: int) -> Sequence[Conv]:
    return [*layers[:place], replace(layers[place], seed=77), *layers[place + 1 :]]


@pytest.mark.parametrize("place", [1, len(LAYERS) - 1])
def test_other_weights_are_packed(folder: Path, library: Path, place: int) -> None:
    model = written(folder / f"other{place}.tflite", chain(INPUT, other_weights(LAYERS, place)))
    session, output = run(model, library)
    # Those of the other kernels are taken.
    assert bytes_of(session, "packed") > 0
    assert bytes_of(session, "embedded") > 0
    check(output, model)


def test_a_change_between_samples_is_found_by_who_reads_all(
    folder: Path, graph: Path, library: Path
) -> None:
    data = bytearray(graph.read_bytes())
    weights = LAYERS[-1].constants(LAYERS[-2].out_channels)[0].astype("<f4").tobytes()
    # The exponent of a weight in the middle.
    data[data.index(weights) + len(weights) // 8 * 4 + 3] ^= 0x40
    model = written(folder / "changed.tflite", bytes(data))
    session, output = run(model, library)
    assert bytes_of(session, "packed") == 0
    _, own = run(graph, library)
    np.testing.assert_array_equal(output, own)
    session, output = run(model, library, verify=1)
    assert bytes_of(session, "packed") > 0
    check(output, model)
