"""What a network holds is what was promised, with kernels that do nothing too."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.benchmarks import promises
from tests.support.tflite_writer import Conv, chain


def test_a_small_network_holds_what_was_promised(tmp_path: Path) -> None:
    graph, path = tmp_path / "small.tflite", tmp_path / "rows.json"
    graph.write_bytes(chain((1, 12, 12, 16), [Conv(32), Conv(16, (1, 1), activation="relu")]))
    arguments = [str(graph), "--limits", "2", "--solved", "3", "--threads", "3"]
    assert promises.main([*arguments, "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["threads"] for row in rows] == [3, 3]
    counted = [row["promised_bytes"] + row["own_bytes"] - row["own_off"] for row in rows]
    assert rows[0]["limit"] == counted[0] < counted[1]
    for row in rows:
        assert row["arena_bytes"] + row["packed_bytes"] == row["promised_bytes"]
        assert row["own_off"] <= 0 < row["own_bytes"]
        assert (row["off"], row["agrees"], row["refuses"]) == (0, "3 of 3", True)
