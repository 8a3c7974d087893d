"""The emulated board: what runs on it, exact counts, and every error line."""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from schedules.errors import LeanconvError
from schedules.target.toolchain import Toolchain
from scripts.board import board as board_script
from scripts.board.board import CPUS, INSTRUCTION_CLASSES, Board, main


@pytest.fixture(scope="session")
def arm_board() -> Board:
    """The user's board, built when it is missing or out of date."""
    board = Board.default()
    board.setup()
    return board


def compile_for_arm(source: Path, output: Path, *options: str) -> Path:
    target = ["-target", "aarch64-linux-gnu.2.17"]
    Toolchain.default().run([*target, *options, source, "-o", output])
    return output


def assemble(folder: Path, body: str) -> Path:
    """A program without a C library: `body`, then exit status 0."""
    source = folder / "program.S"
    source.write_text(
        ".arch armv8.6-a+fp16+fp16fml+i8mm+bf16+sha2+aes+lse+rcpc\n"
        ".arch_extension nosve\n"
        ".globl _start\n_start:\n"
        f"    sub sp, sp, #512\n    mov x1, sp\n{body}"
        "    mov x0, #0\n    mov x8, #93\n    svc #0\n"
    )
    return compile_for_arm(source, folder / "program", "-nostdlib", "-static")


def region(body: str) -> str:
    return f"    hint #100\n    {body}\n    hint #101\n"


# ---- counting --------------------------------------------------------------------------------

# One instruction of every group that the decoder tells apart, the class it belongs to and, for
# vector loads and stores, the bytes it moves.
INSTRUCTIONS = [
    ("fmla v0.4s, v1.4s, v2.4s", "v_fma"),
    ("fmls v0.2d, v1.2d, v2.2d", "v_fma"),
    ("fmla v0.4s, v1.4s, v2.s[3]", "v_fma"),
    ("fmls v0.2d, v1.2d, v2.d[1]", "v_fma"),
    ("fmla v0.8h, v1.8h, v2.8h", "v_fma"),
    ("fmls v0.8h, v1.8h, v2.8h", "v_fma"),
    ("fmla v0.8h, v1.8h, v2.h[7]", "v_fma"),
    ("fmlal v0.4s, v1.4h, v2.4h", "v_fma"),
    ("fmlal2 v0.4s, v1.4h, v2.4h", "v_fma"),
    ("fmlsl v0.4s, v1.4h, v2.h[1]", "v_fma"),
    ("fmlal2 v0.4s, v1.4h, v2.h[1]", "v_fma"),
    ("fcmla v0.4s, v1.4s, v2.4s, #90", "v_fma"),
    ("fcmla v0.4s, v1.4s, v2.s[1], #90", "v_fma"),
    ("bfdot v0.4s, v1.8h, v2.8h", "v_fma"),
    ("bfdot v0.4s, v1.8h, v2.2h[1]", "v_fma"),
    ("bfmlalb v0.4s, v1.8h, v2.h[1]", "v_fma"),
    ("bfmmla v0.4s, v1.8h, v2.8h", "v_fma"),
    ("fadd v0.4s, v1.4s, v2.4s", "v_fp"),
    ("fmax v0.4s, v1.4s, v2.4s", "v_fp"),
    ("fmul v0.4s, v1.4s, v2.s[0]", "v_fp"),
    ("fmulx v0.4s, v1.4s, v2.s[0]", "v_fp"),
    ("fadd v0.8h, v1.8h, v2.8h", "v_fp"),
    ("facge v0.4s, v1.4s, v2.4s", "v_fp"),
    ("fabs v0.4s, v1.4s", "v_fp"),
    ("fabs v0.8h, v1.8h", "v_fp"),
    ("fcmgt v0.4s, v1.4s, #0.0", "v_fp"),
    ("fcvtl v0.4s, v1.4h", "v_fp"),
    ("scvtf v0.4s, v1.4s", "v_fp"),
    ("scvtf v0.4s, v1.4s, #7", "v_fp"),
    ("fcvtzs v0.4s, v1.4s, #7", "v_fp"),
    ("fmaxv s0, v1.4s", "v_fp"),
    ("fcadd v0.4s, v1.4s, v2.4s, #90", "v_fp"),
    ("add v0.4s, v1.4s, v2.4s", "v_int"),
    ("and v0.16b, v1.16b, v2.16b", "v_int"),
    ("orr v0.16b, v1.16b, v2.16b", "v_int"),
    ("orr v0.4s, #1", "v_int"),
    ("mla v0.4s, v1.4s, v2.s[1]", "v_int"),
    ("sqrdmulh v0.4s, v1.4s, v2.4s", "v_int"),
    ("smlal v0.4s, v1.4h, v2.4h", "v_int"),
    ("smlal2 v0.4s, v1.8h, v2.h[3]", "v_int"),
    ("sdot v0.4s, v1.16b, v2.16b", "v_int"),
    ("udot v0.4s, v1.16b, v2.4b[1]", "v_int"),
    ("usdot v0.4s, v1.16b, v2.4b[1]", "v_int"),
    ("smmla v0.4s, v1.16b, v2.16b", "v_int"),
    ("xtn v0.4h, v1.4s", "v_int"),
    ("cmgt v0.4s, v1.4s, #0", "v_int"),
    ("addv s0, v1.4s", "v_int"),
    ("sshr v0.4s, v1.4s, #3", "v_int"),
    ("add d0, d1, d2", "v_int"),
    ("aese v0.16b, v1.16b", "v_int"),
    ("sha256h q0, q1, v2.4s", "v_int"),
    ("sha1su1 v0.4s, v1.4s", "v_int"),
    ("mov v0.16b, v1.16b", "v_mov"),
    ("movi v0.4s, #0", "v_mov"),
    ("fmov v0.4s, #1.0", "v_mov"),
    ("dup v0.4s, w2", "v_mov"),
    ("dup v0.4s, v1.s[2]", "v_mov"),
    ("mov s0, v1.s[2]", "v_mov"),
    ("mov v0.s[1], v1.s[2]", "v_mov"),
    ("umov w2, v1.s[1]", "v_mov"),
    ("zip1 v0.4s, v1.4s, v2.4s", "v_mov"),
    ("ext v0.16b, v1.16b, v2.16b, #4", "v_mov"),
    ("tbl v0.16b, {v1.16b, v2.16b}, v3.16b", "v_mov"),
    ("rev64 v0.4s, v1.4s", "v_mov"),
    ("fmadd s0, s1, s2, s3", "s_fp"),
    ("fadd d0, d1, d2", "s_fp"),
    ("fmov w2, s0", "s_fp"),
    ("scvtf d0, x2", "s_fp"),
    ("fcmp s0, #0.0", "s_fp"),
    ("fmla s0, s1, v2.s[1]", "s_fp"),
    ("fcmgt s0, s1, s2", "s_fp"),
    ("faddp s0, v1.2s", "s_fp"),
    ("ldr x2, [x1]", "s_ld"),
    ("ldrsw x2, [x1, #4]", "s_ld"),
    ("ldrsb w2, [x1]", "s_ld"),
    ("ldr x2, [x1, xzr]", "s_ld"),
    ("ldp x2, x3, [x1], #0", "s_ld"),
    ("ldr x2, _start", "s_ld"),
    ("ldaxr x2, [x1]", "s_ld"),
    ("ldapr x2, [x1]", "s_ld"),
    ("ldapur x2, [x1, #8]", "s_ld"),
    ("ldadd x2, x3, [x1]", "s_ld"),
    ("cas x2, x3, [x1]", "s_ld"),
    ("casp x2, x3, x4, x5, [x1]", "s_ld"),
    ("str x2, [x1]", "s_st"),
    ("strb w2, [x1, xzr]", "s_st"),
    ("stp x2, x3, [x1]", "s_st"),
    ("stlr x2, [x1]", "s_st"),
    ("stlur x2, [x1, #8]", "s_st"),
    ("stxr w2, x3, [x1]", "s_st"),
    ("b 1f\n1:", "branch"),
    ("b.al 1f\n1:", "branch"),
    ("cbz xzr, 1f\n1:", "branch"),
    ("tbz xzr, #0, 1f\n1:", "branch"),
    ("add x2, x3, x4", "other"),
    ("madd x2, x3, x4, x5", "other"),
    ("movz x2, #1", "other"),
    ("nop", "other"),
    ("dmb ish", "other"),
    ("mrs x2, nzcv", "other"),
    ("prfm pldl1keep, [x1]", "other"),
    ("prfum pldl1keep, [x1, #-1]", "other"),
    ("prfm pldl1keep, [x1, xzr]", "other"),
    ("prfm pldl1keep, _start", "other"),
]
VECTOR_LOADS_AND_STORES = [
    ("ldr b0, [x1]", "v_ld", 1),
    ("ldr h0, [x1]", "v_ld", 2),
    ("ldr s0, [x1], #0", "v_ld", 4),
    ("ldr d0, [x1, xzr]", "v_ld", 8),
    ("ldur q0, [x1, #1]", "v_ld", 16),
    ("ldr q0, _start", "v_ld", 16),
    ("ldr s0, _start", "v_ld", 4),
    ("ldp s0, s1, [x1]", "v_ld", 8),
    ("ldp d0, d1, [x1]", "v_ld", 16),
    ("ldnp q0, q1, [x1]", "v_ld", 32),
    ("ld1 {v0.4s}, [x1]", "v_ld", 16),
    ("ld1 {v0.2s}, [x1]", "v_ld", 8),
    ("ld1 {v0.4s, v1.4s}, [x1]", "v_ld", 32),
    ("ld1 {v0.4s-v2.4s}, [x1]", "v_ld", 48),
    ("ld1 {v0.4s-v3.4s}, [x1]", "v_ld", 64),
    ("ld2 {v0.4s, v1.4s}, [x1]", "v_ld", 32),
    ("ld3 {v0.8b-v2.8b}, [x1]", "v_ld", 24),
    ("ld4 {v0.8h-v3.8h}, [x1]", "v_ld", 64),
    ("ld1 {v0.b}[3], [x1]", "v_ld", 1),
    ("ld1 {v0.h}[3], [x1]", "v_ld", 2),
    ("ld1 {v0.s}[1], [x1]", "v_ld", 4),
    ("ld1 {v0.d}[1], [x1]", "v_ld", 8),
    ("ld3 {v0.s-v2.s}[1], [x1]", "v_ld", 12),
    ("ld1r {v0.4s}, [x1]", "v_ld", 4),
    ("ld2r {v0.8h, v1.8h}, [x1]", "v_ld", 4),
    ("ld4r {v0.2d-v3.2d}, [x1]", "v_ld", 32),
    ("str q0, [x1]", "v_st", 16),
    ("str h0, [x1, #2]", "v_st", 2),
    ("stur d0, [x1, #1]", "v_st", 8),
    ("stp q0, q1, [x1]", "v_st", 32),
    ("st1 {v0.4s}, [x1]", "v_st", 16),
    ("st1 {v0.s}[2], [x1]", "v_st", 4),
    ("st2 {v0.8b, v1.8b}, [x1]", "v_st", 16),
    ("st4 {v0.d-v3.d}[1], [x1]", "v_st", 32),
]


def test_every_instruction_lands_in_its_class(arm_board: Board, tmp_path: Path) -> None:
    cases = [*((text, name, 0) for text, name in INSTRUCTIONS), *VECTOR_LOADS_AND_STORES]
    program = assemble(tmp_path, "".join(region(text) for text, _, _ in cases))
    # The most complete core runs them all.
    regions = arm_board.count_regions([program], "cortex-a710")
    assert len(regions) == len(cases)
    wrong = []
    for (text, name, moved), counts in zip(cases, regions, strict=True):
        expected = {name: 1, "total": 1}
        if moved:
            expected[f"{name}_bytes"] = moved
        if {key: value for key, value in counts.items() if value} != expected:
            wrong.append((text, expected, counts))
    assert not wrong


def test_regions_are_counted_to_the_instruction(arm_board: Board, tmp_path: Path) -> None:
    loop = """mov x2, #1000
1:  fmla v0.4s, v1.4s, v2.s[0]
    ldp q3, q4, [x1]
    subs x2, x2, #1
    b.ne 1b
    str q0, [x1]"""
    body = (
        "    hint #101\n"  # closes nothing
        "    fmla v0.4s, v1.4s, v2.4s\n"
        + region("")
        # Neighbouring regions in one block: neither sees what lies before, between and behind.
        + region("fadd v0.4s, v1.4s, v2.4s\n    nop")
        + "    fadd v0.4s, v1.4s, v2.4s\n"
        + region("nop")
        + region(loop)
        + "    hint #100\n    nop\n    nop\n"  # started afresh by the next
        + region("ldr s0, [x1]")
    )
    expected: list[dict[str, int]] = [
        {"total": 0},
        {"v_fp": 1, "other": 1, "total": 2},
        {"other": 1, "total": 1},
        {
            **{"v_fma": 1000, "v_ld": 1000, "v_ld_bytes": 32000, "branch": 1000, "other": 1001},
            **{"v_st": 1, "v_st_bytes": 16, "total": 4002},
        },
        {"v_ld": 1, "v_ld_bytes": 4, "total": 1},
    ]
    program = assemble(tmp_path, body)
    names = [*INSTRUCTION_CLASSES, "v_ld_bytes", "v_st_bytes", "total"]
    complete = [{name: counts.get(name, 0) for name in names} for counts in expected]
    for cpu in CPUS:
        assert arm_board.count_regions([program], cpu) == complete


THREADS_SOURCE = r"""
#include <pthread.h>

static volatile int running, done;

static void *spin(void *unused) {
    running = 1;
    while (!done)
        __asm__ volatile("hint #101"); /* closes no other thread's region */
    return unused;
}

int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, spin, 0))
        return 1;
    while (!running)
        ;
    __asm__ volatile("hint #100\n"
                     "mov x0, #60000\n"
                     "1: subs x0, x0, #1\n"
                     "b.ne 1b\n"
                     "hint #101" ::: "x0", "cc", "memory");
    done = 1;
    return pthread_join(thread, 0);
}
"""


def test_a_region_is_of_one_thread(arm_board: Board, tmp_path: Path) -> None:
    (tmp_path / "threads.c").write_text(THREADS_SOURCE)
    program = compile_for_arm(tmp_path / "threads.c", tmp_path / "threads", "-pthread")
    (counts,) = arm_board.count_regions([program])
    assert {name: count for name, count in counts.items() if count} == {
        "branch": 60_000,
        "other": 60_001,
        "total": 120_001,
    }


def test_a_model_counts_the_same_twice(
    arm_board: Board,
    trained_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = trained_models / "dscnn_int8.tflite"
    first = arm_board.count(model)
    monkeypatch.setenv("SOME_VARIABLE", "x" * 1000)
    copy = tmp_path / "the_same_model_under_a_name_of_another_length.tflite"
    shutil.copy(model, copy)
    assert arm_board.count(copy) == first
    assert first["total"] == sum(first[name] for name in INSTRUCTION_CLASSES)


def test_kernels_follow_the_cpu(arm_board: Board, trained_models: Path) -> None:
    model = trained_models / "resnet8_float.tflite"
    counts = [arm_board.count(model, cpu=cpu) for cpu in ("cortex-a72", "cortex-a76")]
    # XNNPACK has other matrix kernels for these two; the multiplications stay the same but for
    # the tails of tiles.
    assert counts[0]["v_ld"] != counts[1]["v_ld"]
    assert counts[0]["v_fma"] == pytest.approx(counts[1]["v_fma"], rel=0.05)


# ---- models ----------------------------------------------------------------------------------

# Takes no node; its report repeats the options it was given.
DELEGATE_SOURCE = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct delegate {
    void *data;
    int (*prepare)(void *context, struct delegate *delegate);
    void *copy_from, *copy_to, *free_handle;
    int64_t flags;
    void *opaque;
};

static int prepare(void *context, struct delegate *delegate) {
    (void)context;
    (void)delegate;
    return 0;
}

static struct delegate instance = {.prepare = prepare};
static char options[256];

struct delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                               size_t count, void (*report_error)(const char *)) {
    options[0] = 0;
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(keys[i], "refuse")) {
            report_error("the delegate refuses");
            return NULL;
        }
        size_t length = strlen(options);
        snprintf(options + length, sizeof options - length, "%s\"%s\": \"%s\"", i ? ", " : "",
                 keys[i], values[i]);
    }
    return &instance;
}

void tflite_plugin_destroy_delegate(struct delegate *delegate) { (void)delegate; }

size_t leanconv_report(const struct delegate *delegate, char *buffer, size_t size) {
    return delegate == &instance ? (size_t)snprintf(buffer, size, "{%s}", options) : 0;
}
"""


@pytest.fixture(scope="session")
def delegate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "delegate.c").write_text(DELEGATE_SOURCE)
    return compile_for_arm(
        folder / "delegate.c", folder / "libdelegate.so", "-shared", "-fPIC", "-O1"
    )


def test_outputs_agree_with_this_machine(arm_board: Board, trained_models: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model = trained_models / "resnet8_float.tflite"
    here = Interpreter(model_path=str(model))
    here.allocate_tensors()
    image = np.random.default_rng(3).uniform(0, 255, here.get_input_details()[0]["shape"])
    here.set_tensor(here.get_input_details()[0]["index"], image.astype(np.float32))
    here.invoke()
    expected = here.get_tensor(here.get_output_details()[0]["index"])

    invocation = arm_board.invoke(model, inputs=[image.astype(np.float32)], threads=2)
    assert invocation.counts is None and invocation.report is None
    (output,) = invocation.outputs
    assert output.dtype == expected.dtype and output.shape == expected.shape
    # The class probabilities of some twelve million float32 products, summed in another order.
    np.testing.assert_allclose(output, expected, atol=1e-4)


def test_count_command(
    arm_board: Board,
    trained_models: Path,
    delegate: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = trained_models / "dscnn_int8.tflite"
    written = tmp_path / "rows.json"
    options = ["--delegate", str(delegate), "--delegate-options", "memory:64k;algorithm:mec"]
    arguments = ["count", "--cpu", "cortex-a55", "--json", str(written), str(model), *options]
    assert main(arguments) == 0
    shown = capfd.readouterr().out
    rows = {row["kernels"]: row for row in json.loads(written.read_text())}
    assert list(rows) == ["xnnpack", "builtin", "delegate"]
    for row in rows.values():
        assert row["cpu"] == "cortex-a55"
        assert row["total"] == sum(row[name] for name in INSTRUCTION_CLASSES) > 500_000
        assert f"{row['total']:,}" in shown
        assert f"{row['v_ld_bytes']:,}" in shown
    assert rows["builtin"]["max_abs_difference"] == 0
    # A delegate that takes nothing leaves everything to XNNPACK.
    assert rows["delegate"]["v_int"] == rows["xnnpack"]["v_int"]
    assert rows["delegate"]["max_abs_difference"] == rows["xnnpack"]["max_abs_difference"]
    assert rows["delegate"]["report"] == {"memory": "64k", "algorithm": "mec"}
    assert rows["xnnpack"]["report"] is None
    assert delegate.name in shown
    flat = " ".join(shown.split())
    assert "on an emulated cortex-a55: a count is not a latency" in flat
    assert CPUS["cortex-a55"].note in flat


def test_count_without_xnnpack(
    arm_board: Board, trained_models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, written = trained_models / "dscnn_int8.tflite", tmp_path / "rows.json"
    assert main(["count", str(model), "--builtin", "--json", str(written)]) == 0
    (row,) = json.loads(written.read_text())
    assert row["kernels"] == "builtin"
    assert "XNNPACK" not in capfd.readouterr().out


# ---- programs and scripts --------------------------------------------------------------------

PROGRAM_SOURCE = r"""
#include <signal.h>
#include <stdio.h>
#include <sys/utsname.h>

int main(int argc, char **argv) {
    struct utsname name;
    uname(&name);
    printf("%s", name.machine);
    for (int i = 1; i < argc; i++)
        printf(" [%s]", argv[i]);
    printf("\n");
    fflush(stdout);
    if (argc > 2)
        raise(SIGTERM);
    return 3;
}
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.c").write_text(PROGRAM_SOURCE)
    return compile_for_arm(folder / "program.c", folder / "program")


def test_run_command(arm_board: Board, program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--cpu", "cortex-a53", str(program), "--cpu"]) == 3
    assert capfd.readouterr().out == "aarch64 [--cpu]\n"
    assert main(["run", str(program), "--", "ends by a signal"]) == 128 + 15
    assert capfd.readouterr().out == "aarch64 [--] [ends by a signal]\n"


def test_run_gives_what_the_program_wrote(arm_board: Board, program: Path) -> None:
    outcome = arm_board.run([program, "x"], "neoverse-n1", capture_output=True)
    assert (outcome.returncode, outcome.stdout) == (3, "aarch64 [x]\n")


def test_python_command(
    arm_board: Board,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # This machine's modules are not for the board's Python.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    script = tmp_path / "script" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import json, platform, subprocess, sys, numpy, ai_edge_litert, tvm\n"
        "child = [sys.executable, '-c', 'import platform; print(platform.machine())']\n"
        "print(json.dumps([platform.machine(), sys.version_info[:2], numpy.__version__,\n"
        "    tvm.__version__, sys.argv[1:], subprocess.check_output(child, text=True)]))\n"
        "sys.exit(5)\n"
    )
    assert main(["python", "--cpu", "cortex-a76", str(script), "-a", "b"]) == 5
    machine, version, numpy, tvm, arguments, child = json.loads(capfd.readouterr().out)
    assert (machine, version, child) == ("aarch64", [3, 11], "aarch64\n")
    assert (tvm, arguments) == ("0.27.0.post1", ["-a", "b"])
    assert f"numpy=={numpy}" in board_script._same_version_requirements() or (
        sys.version_info[:2] != (3, 11)
    )
    assert main(["python", "--", "-c", "print(6 * 7)"]) == 0
    assert capfd.readouterr().out == "42\n"


# Bits of AT_HWCAP and AT_HWCAP2 in the kernel's order (uapi/asm/hwcap.h).
HWCAP = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm"
)
HWCAP2 = {13: "i8mm", 14: "bf16"}


@pytest.mark.parametrize("cpu", CPUS.values(), ids=CPUS)
def test_cpuinfo_shows_what_the_emulator_has(arm_board: Board, cpu: board_script.Cpu) -> None:
    code = (
        "import ctypes; get = ctypes.CDLL(None).getauxval; get.restype = ctypes.c_ulong\n"
        "print(get(16), get(26)); print(open('/proc/cpuinfo').read())"
    )
    outcome = arm_board.run_python(["-c", code], cpu.name, capture_output=True)
    first, _, cpuinfo = outcome.stdout.partition("\n")
    bits, bits2 = map(int, first.split())
    usable = {name for bit, name in enumerate(HWCAP.split()) if bits >> bit & 1}
    usable |= {name for bit, name in HWCAP2.items() if bits2 >> bit & 1}
    assert set(cpu.features.split()) <= usable
    if cpu.emulator_model == cpu.name:
        assert set(cpu.features.split()) == usable
    assert "sve" not in usable
    assert cpuinfo.count(f"CPU part\t: {cpu.part:#05x}\n") == 4


# ---- setting up ------------------------------------------------------------------------------


@pytest.fixture
def scratch_board(arm_board: Board, tmp_path: Path) -> Board:
    """A board with packages but without what is compiled from this checkout."""
    board = Board(tmp_path / "scratch" / "board")
    board.folder.mkdir(parents=True)
    for name in ("emulator", "system"):
        (board.folder / name).symlink_to(arm_board.folder / name)
    shutil.copy(arm_board.folder / "board.json", board.folder)
    return board


def test_setup_command_is_fast_when_all_is_there(
    arm_board: Board, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["setup"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert line.endswith(f"the board in {arm_board.folder} is ready")


def test_two_setups_at_once_take_turns(scratch_board: Board) -> None:
    assert not scratch_board.is_ready()
    leftover = scratch_board.folder.parent / "board.partial-of-a-killed-setup"
    leftover.mkdir()
    lines: list[str] = []
    waiting = threading.Event()

    def progress(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            waiting.set()

    with (scratch_board.folder.parent / "board.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        setups = [threading.Thread(target=scratch_board.setup, args=(progress,)) for _ in range(2)]
        for setup in setups:
            setup.start()
        assert waiting.wait(timeout=30)
        assert not scratch_board.is_ready()
    for setup in setups:
        setup.join()
    assert scratch_board.is_ready()
    assert sum(line.startswith("compiling") for line in lines) == 1
    assert sorted(path.name for path in scratch_board.folder.parent.iterdir()) == [
        "board",
        "board.lock",
    ]


def test_an_interrupted_setup_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(board_script, "_download_debian", lambda *arguments: [])
    monkeypatch.setattr(board_script, "_download_wheels", interrupt)
    board = Board(tmp_path / "board")
    with pytest.raises(KeyboardInterrupt):
        board.setup()
    assert not board.is_ready()
    assert [path.name for path in tmp_path.iterdir()] == ["board.lock"]


def test_a_board_of_other_versions_is_not_ready(scratch_board: Board) -> None:
    host = board_script._this_host()
    assert scratch_board._has_packages(host)
    stamp = scratch_board.folder / "board.json"
    stamp.write_text(stamp.read_text().replace("numpy", "numpy!=1"))
    assert not scratch_board._has_packages(host)


def test_a_board_without_the_sanitizer_is_rebuilt(
    scratch_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As boards were before it."""
    host = board_script._this_host()
    assert scratch_board._has_packages(host)
    stamp = scratch_board.folder / "board.json"
    packages = json.loads(stamp.read_text())
    packages["debian"].remove("libasan8")
    stamp.write_text(json.dumps(packages))
    assert not scratch_board._has_packages(host)
    with pytest.raises(LeanconvError, match="not set up"):
        _ = scratch_board.address_sanitizer
    built: list[str] = []
    for step in ("packages", "tools"):
        monkeypatch.setattr(Board, f"_build_{step}", lambda *_, step=step: built.append(step))
    scratch_board.setup()
    assert built == ["packages", "tools"]


def test_the_address_sanitizer_is_of_this_machine(arm_board: Board) -> None:
    runtime = arm_board.address_sanitizer
    assert runtime.is_relative_to(arm_board.folder)
    # Nothing that would take the place of this machine's libraries.
    assert {path.resolve() for path in runtime.parent.iterdir()} == {runtime.resolve()}
    with runtime.open("rb") as file:
        machine = ELFFile(file).get_machine_arch()
    assert machine == {"x86_64": "x64", "aarch64": "AArch64"}[platform.machine()]


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEANCONV_BOARD", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert Board.default().folder == Path("/home/someone/.cache/leanconv/board")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert Board.default().folder == Path("/cache/leanconv/board")
    monkeypatch.setenv("LEANCONV_BOARD", "/elsewhere")
    assert Board.default().folder == Path("/elsewhere")


# ---- errors ----------------------------------------------------------------------------------


def error_line(arguments: list[str | Path], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that a failing command prints."""
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.parametrize("command", ["run", "python", "count"])
def test_unknown_cpu(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    line = error_line([command, "--cpu", "cortex-m4", "file"], capfd)
    assert line == f"unknown CPU 'cortex-m4'; the board has {', '.join(CPUS)}"


@pytest.mark.parametrize(
    ("command", "message"),
    [("run", "program"), ("python", "script"), ("count", "model")],
)
def test_missing_file(
    arm_board: Board, command: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert error_line([command, "no/such"], capfd) == f"there is no {message} no/such"


def test_no_program(capfd: pytest.CaptureFixture[str]) -> None:
    assert error_line(["run"], capfd) == "run what? Its first argument is missing"


def test_program_of_another_machine(arm_board: Board, capfd: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__)
    assert error_line(["run", script], capfd) == f"{script} is not a program for aarch64 Linux"


def test_corrupt_model(
    arm_board: Board, trained_models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = (trained_models / "dscnn_int8.tflite").read_bytes()
    model = tmp_path / "model.tflite"
    model.write_bytes(whole[: len(whole) // 2])
    line = error_line(["count", model], capfd)
    assert line.startswith(f"LiteRT cannot load the model {model}: ")


def test_unusable_delegates(
    arm_board: Board,
    trained_models: Path,
    delegate: Path,
    program: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    count: list[str | Path] = ["count", "--builtin", trained_models / "dscnn_int8.tflite"]
    assert error_line([*count, "--delegate", "no.so"], capfd) == "there is no delegate no.so"
    foreign = [*count, "--delegate", __file__]
    assert error_line(foreign, capfd) == f"{__file__} is not a delegate for aarch64 Linux"

    def message(library: Path, options: str) -> str:
        with pytest.raises(LeanconvError) as raised:
            arm_board.invoke(count[-1], delegate=library, options=options)
        return str(raised.value)

    refused = message(delegate, "refuse:1")
    assert refused == f"cannot load the delegate {delegate}: the delegate refuses"
    assert message(delegate, "memory") == "delegate option 'memory' is not of the form key:value"
    assert message(program, "").startswith(f"cannot load the delegate {program}: ")


def test_wrong_number_of_inputs(arm_board: Board, trained_models: Path) -> None:
    with pytest.raises(LeanconvError, match="the model takes 1 inputs, 0 are given"):
        arm_board.invoke(trained_models / "dscnn_int8.tflite", inputs=[])


def test_failing_program(arm_board: Board, program: Path) -> None:
    with pytest.raises(LeanconvError, match="failed with status 3 on the emulated cortex-a72"):
        arm_board.count_regions([program])
    with pytest.raises(LeanconvError, match="was ended by signal 15"):
        arm_board.count_regions([program, "a", "b"])


def test_unwritable_json(
    arm_board: Board, trained_models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "no" / "rows.json"
    model = trained_models / "dscnn_int8.tflite"
    line = error_line(["count", model, "--json", target], capfd)
    assert line == f"cannot write {target}: No such file or directory"


def test_board_that_is_not_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "none"))
    for command in ("run", "count"):
        line = error_line([command, "file"], capfd)
        assert line == "the emulated board is not set up; run python -m scripts.board setup"


def test_setup_does_not_replace_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "home"))
    assert "exists and is not a board" in error_line(["setup"], capfd)
    assert (tmp_path / "home" / "letter").exists()


def test_setup_in_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "file" / "board"))
    line = error_line(["setup"], capfd)
    assert line.startswith(f"cannot build the board in {tmp_path}/file/board: ")


def fake_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    folder.mkdir()
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_setup_without_apt_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "board"))
    fake_programs(tmp_path / "bin", monkeypatch)
    assert "apt-get is missing" in error_line(["setup"], capfd)


def test_setup_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "cache" / "board"))
    fails = """case "$*" in
*update) echo "W: Failed to fetch the list: no route" >&2;;
*) echo "E: Unable to locate package" >&2; exit 100;;
esac"""
    fake_programs(tmp_path / "bin", monkeypatch, apt_get=fails, dpkg_deb="exit 0")
    line = error_line(["setup"], capfd)
    assert "apt-get cannot fetch the board's packages: W: Failed to fetch the list: no r" in line
    assert "run setup again" in line
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["board.lock"]


def test_setup_without_a_package_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "cache" / "board"))
    monkeypatch.setattr(board_script, "_download_debian", lambda *arguments: [])
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ERROR: no such index' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    line = error_line(["setup"], capfd)
    assert "cannot download the board's Python packages: ERROR: no such index" in line
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["board.lock"]


def test_machine_without_an_emulator(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    line = error_line(["setup"], capfd)
    assert (
        line == f"the board runs on Linux on x86_64 or aarch64, this is {sys.platform} on riscv64"
    )
