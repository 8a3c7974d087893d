"""What a delegate keeps for itself is no more than is counted before it is compiled."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from tests.support import coded_operators
from tests.support.coded_movements import MOVEMENTS, random_movements
from tests.support.coded_operators import OPERATORS, random_cases
from tests.tflite_delegate.conftest import InterpreterApi, read_report
from tests.tflite_delegate.csrc.operators import test_operators
from tests.tflite_delegate.csrc.operators.operator_cases import convolutions, zoo_model
from tflite_delegate.read import own_bytes as own
from tflite_delegate.sources import CSRC
from tflite_delegate.targeted import read_for

SIZES = {
    "sizeof(struct lc_delegate)": own.DELEGATE,
    "offsetof(struct lc_node, chain.layers)": own.NODE,
    "sizeof(struct lc_layer) + sizeof(struct lc_geometry)": own.LAYER,
    "sizeof(struct lc_operator_node)": own.OPERATOR,
    "sizeof(struct tfl_ints)": own.INDEX,
    "sizeof(struct lc_filters)": own.FILTERS,
    "sizeof(int32_t)": own.PLACE,
    "sizeof(float)": own.VALUE,
    "sizeof(struct lc_halved)": own.HALVED,
}
HEADERS = ("layer/constants/filters.h", "operation/operators.h", "run/copies/halved.h")


@pytest.mark.parametrize("target", ["x86_64-linux-gnu", "aarch64-linux-gnu"])
def test_sizes_are_those_of_the_structs(target: str, tmp_path: Path) -> None:
    lines = ["#include <stddef.h>", *(f'#include "{header}"' for header in HEADERS)]
    lines += [f'_Static_assert({size} == {known}, "{size}");' for size, known in SIZES.items()]
    (tmp_path / "sizes.c").write_text("\n".join([*lines, ""]))
    options = ["-target", target, "-std=c11", f"-I{CSRC}", "-c", "sizes.c"]
    command = [*Toolchain.default().command, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def all_codes() -> bytes:
    """Each operator on codes, and each that moves them."""
    cases = [case for name in OPERATORS for case in random_cases(name, "int8", 2)]
    return coded_operators.model(
        cases + [case for name in MOVEMENTS for case in random_movements(name, "int8", 2)]
    )


@pytest.mark.parametrize(
    "content", [zoo_model(test_operators.CASES), all_codes()], ids=["floats", "codes"]
)
def test_every_operator_keeps_no_more_than_is_counted(
    litert: InterpreterApi, build_delegate: Callable[..., Path], content: bytes, tmp_path: Path
) -> None:
    """Far less would be limits for nothing."""
    library = build_delegate(convolutions())
    path = tmp_path / "operators.tflite"
    path.write_bytes(content)
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(content, delegate)
    report = read_report(library, delegate)
    assert interpreter is not None and len(report["operators"]) > 50
    counted = read_for(path, Simd.named("host")).own_bytes
    assert report["memory"]["own_bytes"] <= counted <= 1.5 * report["memory"]["own_bytes"]
