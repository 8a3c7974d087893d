"""What the delegate reads of a tensor: which quantisations it takes for sound."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import tflite_delegate
from tests.tflite_delegate.csrc.test_sanitizers import compiler

SOURCES = Path(tflite_delegate.__file__).with_name("csrc")
#: Reads a tensor of two positions along axis 1: its type, the kind of its quantisation, the axis of
#: that, its scales, and its zero points. Prints what was read.
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>

#include "host/tensor.h"

int main(int argc, char **argv) {
    struct { int size; float data[4]; } scales = {0};
    struct { int size; int data[4]; } zeros = {0}, dims = {3, {5, 2, 1}};
    for (char *next = argv[4], *end; argc == 6 && *next; next = end + (*end == ',')) {
        scales.data[scales.size++] = strtof(next, &end);
    }
    for (char *next = argv[5], *end; argc == 6 && *next; next = end + (*end == ',')) {
        zeros.data[zeros.size++] = (int)strtol(next, &end, 10);
    }
    struct tfl_affine_quantization affine = {(void *)&scales, (void *)&zeros, atoi(argv[3])};
    struct tfl_tensor tensor = {.type = atoi(argv[1]), .dims = (void *)&dims};
    tensor.quantization.type = atoi(argv[2]);
    tensor.quantization.params = &affine;
    struct lc_quantization read;
    if (!lc_read_quantization(&tensor, &read)) {
        puts("none");
        return 0;
    }
    printf("%d scales along %d:", (int)read.count, (int)read.axis);
    for (int i = 0; i < read.count; i++) {
        printf(" %g %d", (double)read.scales[i], read.zero_points[i * read.zero_step]);
    }
    puts("");
    return 0;
}
"""
INT8, UINT8, INT16 = "9", "3", "7"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensor")
    (folder / "main.c").write_text(PROGRAM)
    sources = [folder / "main.c", SOURCES / "host" / "tensor.c"]
    command = [*compiler("undefined"), f"-I{SOURCES}", "-O1", *map(str, sources)]
    subprocess.run([*command, "-o", str(folder / "main")], check=True)
    return folder / "main"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((INT8, "1", "0", "0.5", "-128"), "1 scales along 0: 0.5 -128"),
        ((UINT8, "1", "7", "0.5", "255"), "1 scales along 0: 0.5 255"),
        ((INT8, "1", "1", "0.5,2", "0,3"), "2 scales along 1: 0.5 0 2 3"),
        ((INT8, "1", "1", "0.5,2", "4"), "2 scales along 1: 0.5 4 2 4"),
        ((INT16, "1", "0", "0.5", "0"), "none"),
        ((INT8, "0", "0", "0.5", "0"), "none"),  # not quantised
        ((INT8, "2", "0", "0.5", "0"), "none"),  # by blocks
        ((INT8, "1", "0", "", ""), "none"),
        ((INT8, "1", "0", "0", "0"), "none"),
        ((INT8, "1", "0", "-1", "0"), "none"),
        ((INT8, "1", "0", "inf", "0"), "none"),
        ((INT8, "1", "0", "nan", "0"), "none"),
        ((INT8, "1", "1", "0.5,nan", "0"), "none"),
        ((INT8, "1", "0", "0.5", "128"), "none"),
        ((UINT8, "1", "0", "0.5", "-1"), "none"),
        ((INT8, "1", "1", "0.5,2", "0,300"), "none"),
        ((INT8, "1", "1", "0.5,2,4", "0,0,0"), "none"),  # the axis has two positions
        ((INT8, "1", "3", "0.5,2", "0,0"), "none"),
        ((INT8, "1", "-1", "0.5,2", "0,0"), "none"),
        ((INT8, "1", "1", "0.5,2", "0,0,0"), "none"),
    ],
)
def test_quantization(program: Path, arguments: tuple[str, ...], expected: str) -> None:
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == expected
