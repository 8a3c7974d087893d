"""Users can tell tensors apart, whatever the file calls them."""

from __future__ import annotations

import pytest

from tflite_delegate.read.names import unique_names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([b"x:0", "y"], ["x:0", "y"]),
        ([None, b"", "x"], ["input_0", "input_1", "x"]),
        ([b"x", b"x", b"x"], ["x", "x_1", "x_2"]),
        ([b"x_1", b"x", b"x"], ["x_1", "x", "x_2"]),
        ([b"x_2", b"x", b"x"], ["x_2", "x", "x_2_"]),
        ([None, b"input_0"], ["input_0_", "input_0"]),
        ([b"caf\xe9"], ["caf\N{REPLACEMENT CHARACTER}"]),
    ],
)
def test_unique_names(names: list[bytes | None], expected: list[str]) -> None:
    assert unique_names(names, "input") == expected
