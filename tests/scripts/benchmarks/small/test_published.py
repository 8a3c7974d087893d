"""What others publish stands beside what is measured."""

from __future__ import annotations

from scripts.benchmarks.small.chains import BENCHMARK, COLUMNS
from scripts.benchmarks.small.published import PUBLISHED, planned


def test_the_fewest_bytes_for_so_many_products() -> None:
    assert planned("mobilenet_v2_035", 1.0) == 194_400
    assert planned("mobilenet_v2_035", 1.1) == 67_996
    assert planned("mobilenet_v2_035", 0.9) is planned("vgg16", 1.0) is None


def test_others_are_told_with_their_source() -> None:
    row = {"network": "mobilenet_v2_035", "most": 1.0, "done": 1.0, "error": 1e-6}
    sizes = dict.fromkeys(("arena", "between", "at_once", "strips", "published"), 1024)
    row |= {f"{name}_bytes": size for name, size in sizes.items()}
    own, others = BENCHMARK.report([row, row])
    assert all(name in own for name in COLUMNS)
    for other in PUBLISHED["mobilenet_v2_035"]:
        assert f"{other.bytes:,}" in others and other.source in others
    assert len(list(BENCHMARK.report([{**row, "network": "other"}]))) == 1
