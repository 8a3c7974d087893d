"""The weights that the delegate packs, against those that the kernels are tested with."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules import packing
from schedules.c_abi import CKernel, Stage
from schedules.memory import align
from schedules.packing import Matrix, PackedWeights
from schedules.planner import Plan
from schedules.simd import Simd
from schedules.workload import Conv2dWorkload
from tests.tflite_delegate.test_sanitizers import compiler
from tflite_delegate import build as builder
from tflite_delegate.selection import Kernel
from tflite_delegate.table import kernel_table

SOURCES = Path(builder.__file__).with_name("csrc")
#: Packs the constants in a file for the only kernel of the table and prints the bytes.
PACKER_SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>

#include "weights.h"

int32_t stage0(const void *x, const void *r, const void *w, const void *b, void *y,
               uint8_t *workspace, int32_t thread, int32_t begin, int32_t end) {
    return !x + !r + !w + !b + !y + !workspace + thread + begin + end;
}

static struct lc_constant read_constant(FILE *file, size_t elements, bool is_half) {
    size_t bytes = elements * (is_half ? 2 : 4);
    void *data = malloc(bytes);
    if (!data || fread(data, 1, bytes, file) != bytes) {
        exit(3);
    }
    return (struct lc_constant){.data = data, .is_half = is_half};
}

int main(int argc, char **argv) {
    FILE *file = argc > 5 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        return 2;
    }
    bool is_half = argv[2][0] == '2';
    struct lc_constants layers[LC_MAX_LAYERS] = {0};
    for (int32_t i = 0; i < lc_library.kernels->layer_count; i++) {
        layers[i].layout = argv[3 + 3 * i][0] == 't' ? LC_TAPS : LC_ROWS;
        layers[i].weights = read_constant(file, strtoul(argv[4 + 3 * i], NULL, 10), is_half);
        layers[i].bias = read_constant(file, strtoul(argv[5 + 3 * i], NULL, 10), is_half);
    }
    struct lc_packed packed;
    bool good = lc_pack(&packed, lc_library.kernels, layers);
    if (good && packed.bytes != lc_packed_bytes(lc_library.kernels, layers)) {
        return 5;
    }
    if (good) {
        fwrite(packed.block, 1, packed.bytes, stdout);
    }
    lc_packed_free(&packed);
    for (int i = 0; i < LC_MAX_LAYERS; i++) {
        free((void *)layers[i].weights.data);
        free((void *)layers[i].bias.data);
    }
    fclose(file);
    return good ? 0 : 4;
}
"""

#: Exact in binary, with weights of few digits also every sum: F(2, 3).
DYADIC: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
#: Not exact: F(4, 3).
THIRDS: Matrix = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
ONE: Matrix = ((1,),)


def layer(channels: int, outputs: int, kernel: tuple[int, int], groups: int = 1) -> Conv2dWorkload:
    return Conv2dWorkload.with_padding(
        "SAME",
        in_height=8,
        in_width=8,
        in_channels=channels,
        out_channels=outputs,
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        groups=groups,
    )


def pack_in_c(
    workload: Conv2dWorkload,
    packed: PackedWeights,
    weights: np.ndarray,
    bias: np.ndarray,
    folder: Path,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``weights.c`` under sanitizers for the table that ``build`` generates."""
    compiled = CKernel("kernel", (Stage("stage0", 1),), ())
    plan = Plan(workload.one_group(), "test", {}, 0, (packed,))
    kernel = Kernel("kernel", plan, compiled)
    (folder / "table.c").write_text(kernel_table([kernel], "m", Simd.named("host")))
    (folder / "packer.c").write_text(PACKER_SOURCE)
    (folder / "constants").write_bytes(weights.tobytes() + bias.tobytes())
    sources = [folder / "table.c", folder / "packer.c"]
    sources += [SOURCES / "weights.c", SOURCES / "constants.c"]
    program = folder / "packer"
    command = [*compiler("undefined"), f"-I{SOURCES}", "-O1", *map(str, sources)]
    subprocess.run([*command, "-o", str(program)], check=True)
    arguments = [folder / "constants", weights.itemsize, "rows", weights.size, bias.size]
    return subprocess.run([program, *map(str, arguments)], capture_output=True, check=False)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("workload", "panel", "transform"),
    [
        (layer(3, 10, (2, 3)), 4, None),
        (layer(65, 16, (1, 1)), 8, None),
        (layer(63, 9, (3, 3)), 8, (DYADIC, DYADIC)),
        (layer(129, 8, (3, 3)), 8, (THIRDS, THIRDS)),
        (layer(5, 17, (3, 3)), 16, (THIRDS, DYADIC)),
        (layer(7, 3, (1, 3)), 4, (ONE, THIRDS)),
        (layer(15, 21, (3, 2), groups=3), 4, None),
        (layer(130, 18, (3, 3), groups=2), 8, (DYADIC, DYADIC)),
        (layer(4, 4, (3, 3), groups=4), 8, (THIRDS, THIRDS)),
    ],
)
def test_delegate_packs_what_kernels_read(
    workload: Conv2dWorkload,
    panel: int,
    transform: tuple[Matrix, Matrix] | None,
    dtype: str,
    tmp_path: Path,
) -> None:
    """To the bit where no product is rounded, else to the last one: sums may differ in order."""
    packed = packing.panels(workload.one_group(), panel)
    if transform:
        packed = packing.winograd(workload.one_group(), panel, transform)
    random = np.random.default_rng(7)
    weights = random.standard_normal(workload.weight_shape).astype(dtype)
    bias = random.standard_normal(workload.out_channels).astype(dtype)
    result = pack_in_c(workload, packed, weights, bias, tmp_path)
    assert (result.returncode, result.stderr) == (0, b"")
    pitch, groups = align(packed.bytes(4)), workload.groups
    assert len(result.stdout) == pitch * (groups - 1) + packed.bytes(4)
    parts = zip(np.split(weights, groups), np.split(bias, groups), strict=True)
    for group, (group_weights, group_bias) in enumerate(parts):
        block = np.frombuffer(result.stdout[group * pitch :][: packed.bytes(4)], np.float32)
        elements = block[: packed.elements]
        expected = packing.pack(group_weights.astype(np.float32), packed).ravel()
        np.testing.assert_array_max_ulp(elements, expected, 1)
        if transform in (None, (DYADIC, DYADIC)):
            np.testing.assert_array_equal(elements, expected)
        expected = packing.pack_bias(group_bias.astype(np.float32), packed)
        np.testing.assert_array_equal(block[align(packed.elements * 4) // 4 :], expected)


@pytest.mark.parametrize("transform", [None, (DYADIC, DYADIC)])
def test_other_sizes_are_refused(transform: tuple[Matrix, Matrix] | None, tmp_path: Path) -> None:
    workload = layer(4, 8, (3, 3))
    packed = packing.panels(workload, 8)
    if transform:
        packed = packing.winograd(workload, 8, transform)
    weights, bias = np.ones(workload.weight_shape, np.float32), np.ones(8, np.float32)
    wrong = replace(packed, shape=(*packed.shape[:-1], packed.shape[-1] + 1))
    assert pack_in_c(workload, wrong, weights, bias, tmp_path).returncode == 4


def test_equal_transforms_are_shared() -> None:
    compiled = CKernel("kernel", (Stage("stage0", 1),), ())
    kernels = []
    for channels in (4, 8):
        workload = layer(channels, 8, (3, 3))
        packed = packing.winograd(workload, 8, (THIRDS, THIRDS))
        plan = Plan(workload, "test", {}, 0, (packed,))
        kernels.append(Kernel(f"kernel{channels}", plan, compiled))
    table = kernel_table(kernels, "m", Simd.named("host"))
    assert table.count("static const struct lc_transform") == 1
    assert table.count(".transform = &transform0") == 2
