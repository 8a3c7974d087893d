"""Targets: presets, and whatever TVM or old tvmc took."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tvm

from schedules.errors import LeanconvError
from schedules.target.cores import CORES
from schedules.target.simd import PRESETS, Simd

NAMES = [core.name for core in CORES]


def test_every_preset_exists_also_for_android() -> None:
    assert set(PRESETS) == {*NAMES, *(f"{name}-android" for name in NAMES)}
    for name, simd in PRESETS.items():
        assert simd.name == name
        # Four parts for Android: with three, LLVM uses the reserved register x18.
        assert ("android24" in simd.triple.split("-")[-1]) == name.endswith("-android")
        assert len(simd.triple.split("-")) == 4
        tvm.target.Target(simd.target)


def test_lanes_and_features() -> None:
    names = ("x86-64-v3", "x86-64-v4", "cortex-a53")
    assert [PRESETS[name].lanes("float32") for name in names] == [8, 16, 4]
    assert "dotprod" in PRESETS["cortex-a55"].features
    assert "dotprod" not in PRESETS["cortex-a72"].features
    # Cores that are compiled for as older ones have their further features named.
    assert "+i8mm" in PRESETS["cortex-a710"].target["mattr"]
    assert "i8mm" in PRESETS["neoverse-v1-android"].features
    assert "i8mm" not in PRESETS["cortex-a78"].features
    assert PRESETS["cortex-a53"].in_order
    assert not PRESETS["cortex-a76"].in_order


def test_host_is_a_preset_with_this_machines_caches() -> None:
    host = Simd.named("host")
    assert host.name == "host"
    assert any(host.mcpu == preset.mcpu for preset in PRESETS.values())
    assert host.cores >= 1
    assert host.l1_bytes >= 8 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76 -mattr=+neon,+dotprod",
        "llvm -device=arm_cpu -model=pixel6 -mtriple=aarch64-linux-gnu -mcpu=cortex-a76",
        json.dumps({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"}),
    ],
)
def test_targets_of_tvm_are_understood(text: str) -> None:
    simd = Simd.named(text)
    assert (simd.arch, simd.mcpu, simd.android) == ("aarch64", "cortex-a76", False)
    assert simd.l2_bytes == PRESETS["cortex-a76"].l2_bytes


def test_tags_of_tvm() -> None:
    pi, phone = Simd.named("raspberry-pi/4b-aarch64"), Simd.named("arm/pixel2")
    assert (pi.name, pi.cores, pi.features) == ("cortex-a72", 4, PRESETS["cortex-a72"].features)
    # Tuning records are kept by processor and attributes: the tag's `+neon` is left out.
    assert pi.target == PRESETS["cortex-a72"].target
    assert (phone.mcpu, phone.android) == ("generic", True)
    server = Simd.named("aws/cpu/c5.12xlarge")
    assert (server.arch, server.vector_bytes, server.cores) == ("x86_64", 64, 24)


def test_every_tag_is_understood_or_refused() -> None:
    understood = 0
    for tag in tvm.target.list_tags():
        try:
            understood += Simd.named(str(tag)).arch in ("x86_64", "aarch64")
        except LeanconvError as error:
            assert "is not supported" in str(error), tag
    assert understood > 10


def test_llvm_alone_is_this_machine() -> None:
    assert Simd.named("llvm") == Simd.named("host")
    assert Simd.named("llvm -num-cores=3") == replace(Simd.named("host"), cores=3)


def test_the_processor_tells_the_instruction_set() -> None:
    assert Simd.named("llvm -mcpu=cortex-a76") == PRESETS["cortex-a76"]
    assert Simd.named("llvm -mcpu=znver4") == PRESETS["znver4"]


def test_what_tvm_prints_is_understood() -> None:
    """A target as TVM writes it has its host and what it derived of it."""
    target = tvm.target.Target(PRESETS["cortex-a55"].target)
    assert Simd.named(str(target)) == PRESETS["cortex-a55"]


def test_android_triple_is_kept() -> None:
    assert Simd.named("llvm -mtriple=aarch64-linux-android24 -mcpu=cortex-a55").android


def test_unknown_arm_core_gets_the_plainest() -> None:
    simd = Simd.named("llvm -mtriple=aarch64-linux-gnu -mcpu=thunderx2t99")
    assert simd.features == PRESETS["cortex-a53"].features


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cortex-a99", "unknown target 'cortex-a99': cortex-a78 or"),
        ("", "unknown target"),
        ("{not json", "not valid JSON"),
        ("[1]", "unknown target"),
        ('{"kind": "cuda"}', "only llvm"),
        ('{"kind": "llvm", "mtriple": "riscv64-linux-gnu"}', "'riscv64' is not supported"),
        ('{"kind": "llvm", "surprise": 1}', "'surprise' is not supported"),
        ('{"kind": "llvm", "mcpu": 5}', "'mcpu': 5 is not a string"),
        ('{"kind": "llvm", "mattr": "+a"}', r"'mattr': '\+a' is not a list"),
        ('{"kind": "llvm", "mattr": [1]}', "'mattr': 1 is not of the form"),
        ('{"kind": "llvm", "num-cores": "2"}', "'num-cores': '2' is not a number above 0"),
        ('{"kind": "llvm", "num-cores": true}', "'num-cores': True is not a number above 0"),
        ("no/tag", "unknown target 'no/tag'"),
        ("nvidia/geforce-rtx-3090", "'cuda' is not supported"),
        ("arm/rasp3b", "'armv7l' is not supported"),
        ("llvm -mattr=neon", "'neon' is not of the form"),
        ("llvm -mcpu=a -mcpu=b", "-mcpu is there twice"),
        ("llvm -num-cores=100000", "'num-cores': 100000 is more than 1024"),
        ("llvm -mcpu=cortexa53", "LLVM knows no processor 'cortexa53': cortex-a53"),
        ("llvm -num-cores=0", "'num-cores': 0 is not a number above 0"),
        ("llvm mcpu", "not of the form -name=value"),
        ("llvm -surprise=1", "'-surprise=1' is not supported"),
        ('llvm -mcpu="x', "quotation"),
        (
            "llvm -mtriple=aarch64-linux-gnu -mcpu=x86-64-v4",
            "another kind of processor: add -mtriple=x86_64",
        ),
        (
            "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a77x",
            "LLVM knows no processor 'cortex-a77x': cortex-a77 or cortex",
        ),
        ("llvm -mtriple=x86_64-linux-gnu -mcpu=a b", "'b' is not of the form"),
        ("llvm -mtriple=x86_64-linux-gnu '-mcpu=a b'", "LLVM knows no processor 'a b'"),
        ("llvm -mtriple=x86_64-linux-gnu -mcpu=neoverse-n2", "add -mtriple=aarch64-unknown-linux"),
        (
            "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76 -mattr=+fp16fml,+dotprd",
            "LLVM knows no feature 'dotprd': dotprod",
        ),
    ],
)
def test_what_cannot_be_understood_says_why(
    text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LeanconvError, match=message):
        Simd.named(text)
    assert capfd.readouterr().err == ""
