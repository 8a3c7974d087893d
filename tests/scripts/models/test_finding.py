"""Models by names and by files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from scripts.models import finding
from scripts.models.layers import LAYERS
from scripts.models.make import RECIPES


def named(names: Sequence[str]) -> list[Path]:
    assert set(names) <= set(RECIPES)
    return [Path("made") / name for name in names]


def test_files_are_found_among_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "ensure", named)
    file = tmp_path / "a.tflite"
    file.touch()
    names = ["mobilenet_v2_int8", str(file), "small"]
    assert finding.found(names) == [Path("made/mobilenet_v2_int8"), file, Path("made/small")]
    with pytest.raises(LeanconvError, match="there is no file none"):
        finding.found(["none.tflite"])


def test_layers_have_models_of_each_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "ensure", named)
    (of_floats,) = finding.layers_of(LAYERS[:1], "float32")
    assert of_floats.name == LAYERS[0].name
    for dtype in ("float16", "hybrid", "int8"):
        (other,) = finding.layers_of(LAYERS[:1], dtype)
        assert other.name == f"{LAYERS[0].name}_{dtype}" in RECIPES
