"""The weights that the delegate packs, against those that the kernels are tested with."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from schedules.algorithms.sparse_winograd.blocks import packed_blocks
from schedules.kernel import packing
from schedules.kernel.packing import Matrix, PackedWeights
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.kernel import CKernel, Stage
from schedules.lower.memory import align
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.select.selection import Kernel
from schedules.target.simd import Simd
from tests.support.chains import ChainPlan
from tests.support.winograd_weights import layer_of, pruned_at_random
from tests.tflite_delegate.csrc.test_sanitizers import compiler
from tflite_delegate import build as builder
from tflite_delegate.table import kernel_table

SOURCES = Path(builder.__file__).with_name("csrc")
#: Packs the constants in a file for the only kernel of the table and prints the bytes.
PACKER_SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>

#include "kernels/weights.h"

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
        char order = argv[3 + 3 * i][0];
        layers[i].layout = order == 't' ? LC_TAPS : order == 'p' ? LC_POINTS : LC_ROWS;
        layers[i].weights = read_constant(file, strtoul(argv[4 + 3 * i], NULL, 10), is_half);
        layers[i].bias = read_constant(file, strtoul(argv[5 + 3 * i], NULL, 10), is_half);
    }
    struct lc_packed packed, places;
    size_t bias[LC_MAX_LAYERS];
    bool good = lc_pack(&packed, lc_library.kernels, layers, NULL);
    bool is_known = lc_packed_places(&places, bias, lc_library.kernels, layers);
    // There may be too many blocks for a known kernel.
    if ((good != is_known && lc_library.kernels->parts->layout != LC_BLOCKS) ||
        packed.bytes != (good ? places.bytes : 0)) {
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


def pack_in_c(plan: Plan, folder: Path, *layers: Constants) -> subprocess.CompletedProcess[bytes]:
    """Run ``weights.c`` under sanitizers for the table that ``build`` generates."""
    kernel = Kernel("kernel", plan, CKernel("kernel", (Stage("stage0", 1),), ()))
    (folder / "table.c").write_text(kernel_table([kernel], "m", Simd.named("host")))
    (folder / "packer.c").write_text(PACKER_SOURCE)
    sources = [folder / "table.c", folder / "packer.c"]
    names = ("weights", "constants", "halves", "upsampling", "geometry")
    sources += [SOURCES / "kernels" / f"{name}.c" for name in names]
    sources += sorted((SOURCES / "kernels" / "pages").glob("*.c"))
    sources += sorted((SOURCES / "kernels" / "quantised").glob("*.c"))
    sources += sorted((SOURCES / "kernels" / "hybrid").glob("*.c"))
    sources += sorted((SOURCES / "kernels" / "winograd").glob("*.c"))
    program = folder / "packer"
    command = [*compiler("undefined"), f"-I{SOURCES}", "-O1", *map(str, sources), "-lm"]
    subprocess.run([*command, "-o", str(program)], check=True)
    arguments = [folder / "constants", layers[0].weights.itemsize]
    content = b""
    for layer in layers:
        order = {"rows": (0, 1, 2, 3), "taps": (1, 2, 0, 3), "points": (1, 2, 3, 0)}[layer.order]
        weights = layer.weights.transpose(order)
        content += weights.tobytes() + layer.bias.tobytes()
        arguments += [layer.order, weights.size, layer.bias.size]
    (folder / "constants").write_bytes(content)
    return subprocess.run([program, *map(str, arguments)], capture_output=True, check=False)


@dataclass(frozen=True)
class Constants:
    """OHWI weights and bias of a layer, and the layout that the model holds the weights in."""

    weights: np.ndarray
    bias: np.ndarray
    order: str = "rows"

    @classmethod
    def random(cls, workload: Conv2dWorkload, dtype: str, order: str = "rows") -> Constants:
        random = np.random.default_rng(7)
        weights = random.standard_normal(workload.weight_shape).astype(dtype)
        return cls(weights, random.standard_normal(workload.out_channels).astype(dtype), order)


def block_of(layers: Sequence[tuple[Constants, PackedWeights]]) -> np.ndarray:
    """All weights, then all biases, each on a cache line of its own."""
    arrays = [packing.pack(c.weights.astype(np.float32), p).ravel() for c, p in layers]
    arrays += [packing.pack_bias(c.bias.astype(np.float32), p) for c, p in layers]
    return np.concatenate([np.pad(array, (0, -len(array) % 16)) for array in arrays])


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
        (layer(65, 10, (2, 3)), 4, "channels"),
        (layer(130, 18, (3, 3), groups=2), 8, "channels"),
    ],
)
def test_delegate_packs_what_kernels_read(
    workload: Conv2dWorkload,
    panel: int,
    transform: tuple[Matrix, Matrix] | str | None,
    dtype: str,
    tmp_path: Path,
) -> None:
    """To the bit where no product is rounded, else to the last one: sums may differ in order."""
    packed = packing.panels(workload.one_group(), panel)
    if transform == "channels":
        packed = packing.channels(workload.one_group(), panel)
    elif isinstance(transform, tuple):
        packed = packing.winograd(workload.one_group(), panel, transform)
    constants = Constants.random(workload, dtype)
    weights, bias = constants.weights, constants.bias
    plan = Plan(workload.one_group(), "test", {}, 0, (packed,))
    result = pack_in_c(plan, tmp_path, constants)
    assert (result.returncode, result.stderr) == (0, b"")
    pitch, groups = align(packed.bytes), workload.groups
    assert len(result.stdout) == pitch * groups
    parts = zip(np.split(weights, groups), np.split(bias, groups), strict=True)
    for group, (group_weights, group_bias) in enumerate(parts):
        block = np.frombuffer(result.stdout[group * pitch :][: packed.bytes], np.float32)
        elements = block[: packed.elements]
        expected = packing.pack(group_weights.astype(np.float32), packed).ravel()
        np.testing.assert_array_max_ulp(elements, expected, 1)
        if transform in (None, "channels", (DYADIC, DYADIC)):
            np.testing.assert_array_equal(elements, expected)
        expected = packing.pack_bias(group_bias.astype(np.float32), packed)
        np.testing.assert_array_equal(block[align(packed.elements * 4) // 4 :], expected)


@pytest.mark.parametrize("block", [0, 8, 16])
def test_weights_of_winograds_domain_are_packed_alike(block: int, tmp_path: Path) -> None:
    """All of them, or the blocks that are not zero; and no more of these than the kernel takes."""
    weights = pruned_at_random(21, 4, 7, 0.7 if block else 0.0, block or 8)
    workload = layer_of(weights, 9, 8, 3)
    packed = packing.winograd(workload, 8, None)
    if block:
        packed = packed_blocks(workload, block, balanced=False)
    plan = Plan(workload, "test", {}, 0, (packed,))
    bias = np.arange(21, dtype=np.float32)
    result = pack_in_c(plan, tmp_path, Constants(weights, bias, "points"))
    assert (result.returncode, result.stderr) == (0, b"")
    expected = packing.pack(weights, packed)
    block_bytes = np.frombuffer(result.stdout, np.uint8)
    np.testing.assert_array_equal(block_bytes[: expected.nbytes], expected.ravel().view(np.uint8))
    if block:
        result = pack_in_c(plan, tmp_path, Constants(np.ones_like(weights), bias, "points"))
        assert (result.returncode, result.stderr) == (4, b"")


@pytest.mark.parametrize("taps", [1, 3])
def test_weights_that_are_not_zero_are_packed_alike(taps: int, tmp_path: Path) -> None:
    """In rows of a block of input channels each; and no more of these than the kernel takes."""
    workload = Conv2dWorkload.from_text(f"9x8x48->21 k{taps}x{taps} z70")
    weights = pruned_at_random(21, taps, 48, 0.75, 1)
    choice = Choice.parse("sparse_direct:c_block=16:pixels=16")
    plan = Plan.of(choice, workload, Simd.named("x86-64-v4"))
    bias = np.arange(21, dtype=np.float32)
    result = pack_in_c(plan, tmp_path, Constants(weights, bias, "rows"))
    assert (result.returncode, result.stderr) == (0, b"")
    expected = packing.pack(weights, plan.packed)
    held = np.frombuffer(result.stdout, np.uint8)
    np.testing.assert_array_equal(held[: expected.nbytes], expected.ravel().view(np.uint8))
    result = pack_in_c(plan, tmp_path, Constants(np.ones_like(weights), bias, "rows"))
    assert (result.returncode, result.stderr) == (4, b"")


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", ["panels", "channels", "rows"])
def test_float16_stays_float16(layout: str, groups: int, tmp_path: Path) -> None:
    """In panels to the bit, in place of ``rows`` no copy but of the bias, which is float32."""
    workload = replace(layer(66, 18, (2, 3), groups=groups), weight_dtype="float16")
    group = workload.one_group()
    make = {"panels": packing.panels, "channels": packing.channels}
    packed = make[layout](group, 4) if layout in make else packing.rows(group)
    constants = Constants.random(workload, "float16")
    result = pack_in_c(Plan(group, "test", {}, 0, (packed,)), tmp_path, constants)
    assert (result.returncode, result.stderr) == (0, b"")
    bias = packing.pack_bias(constants.bias[: group.out_channels].astype(np.float32), packed)
    held = np.frombuffer(result.stdout, np.uint8)[: packed.bytes]
    if layout == "rows" and groups == 1:
        np.testing.assert_array_equal(held.view(np.float32)[: bias.size], bias)
        return
    weights = packing.pack(constants.weights[: group.out_channels], packed)
    np.testing.assert_array_equal(held[: packed.weight_bytes], weights.view(np.uint8).ravel())
    np.testing.assert_array_equal(held[align(packed.weight_bytes) :].view(np.float32), bias)


def test_float32_is_not_read_as_float16(tmp_path: Path) -> None:
    workload = replace(layer(4, 8, (3, 3)), weight_dtype="float16")
    plan = Plan(workload, "test", {}, 0, (packing.panels(workload, 8),))
    assert pack_in_c(plan, tmp_path, Constants.random(workload, "float32")).returncode == 4


@pytest.mark.parametrize("transform", [None, (DYADIC, DYADIC)])
def test_other_sizes_are_refused(transform: tuple[Matrix, Matrix] | None, tmp_path: Path) -> None:
    workload = layer(4, 8, (3, 3))
    packed = packing.panels(workload, 8)
    if transform:
        packed = packing.winograd(workload, 8, transform)
    wrong = replace(packed, shape=(*packed.shape[:-1], packed.shape[-1] + 1))
    plan = Plan(workload, "test", {}, 0, (wrong,))
    assert pack_in_c(plan, tmp_path, Constants.random(workload, "float32")).returncode == 4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("order", ["rows", "taps"])
@pytest.mark.parametrize("layout", ["rows", "taps", "panels"])
def test_depthwise_weights(layout: str, order: str, dtype: str, tmp_path: Path) -> None:
    """A copy, unless the model holds float32 weights as the kernel reads them."""
    workload = layer(6, 18, (3, 2), groups=6)
    make = {"rows": packing.rows, "taps": packing.taps, "panels": lambda w: packing.panels(w, 4)}
    packed = make[layout](workload)
    constants = Constants.random(workload, dtype, order)
    result = pack_in_c(Plan(workload, "test", {}, 0, (packed,)), tmp_path, constants)
    assert (result.returncode, result.stderr) == (0, b"")
    block = np.frombuffer(result.stdout, np.float32)
    in_place = layout == order and dtype == "float32"
    np.testing.assert_array_equal(block, [] if in_place else block_of([(constants, packed)]))


def test_chains_of_layers(tmp_path: Path) -> None:
    """One block for all layers, a copy even of those whose layout the model has."""
    layers = [layer(5, 7, (1, 1)), layer(7, 7, (3, 3), groups=7), layer(7, 9, (1, 1))]
    parts = (packing.panels(layers[0], 8), packing.taps(layers[1]), packing.rows(layers[2]))
    orders = ("rows", "taps", "rows")
    constants = [Constants.random(w, "float32", o) for w, o in zip(layers, orders, strict=True)]
    plan = ChainPlan(layers[0], "test", {}, 0, parts, chain=tuple(layers))
    result = pack_in_c(plan, tmp_path, *constants)
    assert (result.returncode, result.stderr) == (0, b"")
    expected = block_of(list(zip(constants, parts, strict=True)))
    np.testing.assert_array_equal(np.frombuffer(result.stdout, np.float32), expected)


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
