"""Exact counts of regions and models, and models that run on the emulated board."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from schedules.errors import LeanconvError
from scripts.board.board import Board
from scripts.board.count import INSTRUCTION_CLASSES, count, count_regions, invoke
from scripts.board.cpus import CPUS
from tests.support.arm_programs import compile_for_arm

# One instruction of every group that the decoder tells apart, by the class it belongs to and, for
# vector loads and stores, the bytes that it moves.
INSTRUCTIONS = {
    "v_fma": """
        fmla v0.4s, v1.4s, v2.4s | fmls v0.2d, v1.2d, v2.2d | fmla v0.4s, v1.4s, v2.s[3]
        fmls v0.2d, v1.2d, v2.d[1] | fmla v0.8h, v1.8h, v2.8h | fmls v0.8h, v1.8h, v2.8h
        fmla v0.8h, v1.8h, v2.h[7] | fmlal v0.4s, v1.4h, v2.4h | fmlal2 v0.4s, v1.4h, v2.4h
        fmlsl v0.4s, v1.4h, v2.h[1] | fmlal2 v0.4s, v1.4h, v2.h[1]
        fcmla v0.4s, v1.4s, v2.4s, #90 | fcmla v0.4s, v1.4s, v2.s[1], #90
        bfdot v0.4s, v1.8h, v2.8h | bfdot v0.4s, v1.8h, v2.2h[1] | bfmlalb v0.4s, v1.8h, v2.h[1]
        bfmmla v0.4s, v1.8h, v2.8h""",
    "v_fp": """
        fadd v0.4s, v1.4s, v2.4s | fmax v0.4s, v1.4s, v2.4s | fmul v0.4s, v1.4s, v2.s[0]
        fmulx v0.4s, v1.4s, v2.s[0] | fadd v0.8h, v1.8h, v2.8h | facge v0.4s, v1.4s, v2.4s
        fabs v0.4s, v1.4s | fabs v0.8h, v1.8h | fcmgt v0.4s, v1.4s, #0.0 | fcvtl v0.4s, v1.4h
        scvtf v0.4s, v1.4s | scvtf v0.4s, v1.4s, #7 | fcvtzs v0.4s, v1.4s, #7 | fmaxv s0, v1.4s
        fcadd v0.4s, v1.4s, v2.4s, #90""",
    "v_int": """
        add v0.4s, v1.4s, v2.4s | and v0.16b, v1.16b, v2.16b | orr v0.16b, v1.16b, v2.16b
        orr v0.4s, #1 | mla v0.4s, v1.4s, v2.s[1] | sqrdmulh v0.4s, v1.4s, v2.4s
        smlal v0.4s, v1.4h, v2.4h | smlal2 v0.4s, v1.8h, v2.h[3] | sdot v0.4s, v1.16b, v2.16b
        udot v0.4s, v1.16b, v2.4b[1] | usdot v0.4s, v1.16b, v2.4b[1]
        smmla v0.4s, v1.16b, v2.16b | xtn v0.4h, v1.4s | cmgt v0.4s, v1.4s, #0 | addv s0, v1.4s
        sshr v0.4s, v1.4s, #3 | add d0, d1, d2 | aese v0.16b, v1.16b | sha256h q0, q1, v2.4s
        sha1su1 v0.4s, v1.4s""",
    "v_mov": """
        mov v0.16b, v1.16b | movi v0.4s, #0 | fmov v0.4s, #1.0 | dup v0.4s, w2
        dup v0.4s, v1.s[2] | mov s0, v1.s[2] | mov v0.s[1], v1.s[2] | umov w2, v1.s[1]
        zip1 v0.4s, v1.4s, v2.4s | ext v0.16b, v1.16b, v2.16b, #4
        tbl v0.16b, {v1.16b, v2.16b}, v3.16b | rev64 v0.4s, v1.4s""",
    "s_fp": """
        fmadd s0, s1, s2, s3 | fadd d0, d1, d2 | fmov w2, s0 | scvtf d0, x2 | fcmp s0, #0.0
        fmla s0, s1, v2.s[1] | fcmgt s0, s1, s2 | faddp s0, v1.2s""",
    "s_ld": """
        ldr x2, [x1] | ldrsw x2, [x1, #4] | ldrsb w2, [x1] | ldr x2, [x1, xzr]
        ldp x2, x3, [x1], #0 | ldr x2, _start | ldaxr x2, [x1] | ldapr x2, [x1]
        ldapur x2, [x1, #8] | ldadd x2, x3, [x1] | cas x2, x3, [x1] | casp x2, x3, x4, x5, [x1]""",
    "s_st": """
        str x2, [x1] | strb w2, [x1, xzr] | stp x2, x3, [x1] | stlr x2, [x1]
        stlur x2, [x1, #8] | stxr w2, x3, [x1]""",
    "branch": """
        b 1f; 1: | b.al 1f; 1: | cbz xzr, 1f; 1: | tbz xzr, #0, 1f; 1:""",
    "other": """
        add x2, x3, x4 | madd x2, x3, x4, x5 | movz x2, #1 | nop | dmb ish | mrs x2, nzcv
        prfm pldl1keep, [x1] | prfum pldl1keep, [x1, #-1] | prfm pldl1keep, [x1, xzr]
        prfm pldl1keep, _start""",
    "v_ld 1": """
        ldr b0, [x1] | ld1 {v0.b}[3], [x1]""",
    "v_ld 2": """
        ldr h0, [x1] | ld1 {v0.h}[3], [x1]""",
    "v_ld 4": """
        ldr s0, [x1], #0 | ldr s0, _start | ld1 {v0.s}[1], [x1] | ld1r {v0.4s}, [x1]
        ld2r {v0.8h, v1.8h}, [x1]""",
    "v_ld 8": """
        ldr d0, [x1, xzr] | ldp s0, s1, [x1] | ld1 {v0.2s}, [x1] | ld1 {v0.d}[1], [x1]""",
    "v_ld 12": """
        ld3 {v0.s-v2.s}[1], [x1]""",
    "v_ld 16": """
        ldur q0, [x1, #1] | ldr q0, _start | ldp d0, d1, [x1] | ld1 {v0.4s}, [x1]""",
    "v_ld 24": """
        ld3 {v0.8b-v2.8b}, [x1]""",
    "v_ld 32": """
        ldnp q0, q1, [x1] | ld1 {v0.4s, v1.4s}, [x1] | ld2 {v0.4s, v1.4s}, [x1]
        ld4r {v0.2d-v3.2d}, [x1]""",
    "v_ld 48": """
        ld1 {v0.4s-v2.4s}, [x1]""",
    "v_ld 64": """
        ld1 {v0.4s-v3.4s}, [x1] | ld4 {v0.8h-v3.8h}, [x1]""",
    "v_st 2": """
        str h0, [x1, #2]""",
    "v_st 4": """
        st1 {v0.s}[2], [x1]""",
    "v_st 8": """
        stur d0, [x1, #1]""",
    "v_st 16": """
        str q0, [x1] | st1 {v0.4s}, [x1] | st2 {v0.8b, v1.8b}, [x1]""",
    "v_st 32": """
        stp q0, q1, [x1] | st4 {v0.d-v3.d}[1], [x1]""",
}


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


def test_every_instruction_lands_in_its_class(arm_board: Board, tmp_path: Path) -> None:
    cases = [
        (text.strip(), *group.partition(" ")[::2])
        for group, texts in INSTRUCTIONS.items()
        for text in re.split(r"[|\n]", texts.strip())
    ]
    program = assemble(tmp_path, "".join(region(text) for text, _, _ in cases))
    # The most complete core runs them all.
    regions = count_regions(arm_board, [program], "cortex-a710")
    assert len(regions) == len(cases)
    wrong = []
    for (text, name, moved), counts in zip(cases, regions, strict=True):
        expected = {name: 1, "total": 1}
        if moved:
            expected[f"{name}_bytes"] = int(moved)
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
        assert count_regions(arm_board, [program], cpu) == complete


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
    (counts,) = count_regions(arm_board, [program])
    assert {name: count for name, count in counts.items() if count} == {
        "branch": 60_000,
        "other": 60_001,
        "total": 120_001,
    }


def test_failing_program(arm_board: Board, program: Path) -> None:
    with pytest.raises(LeanconvError, match="failed with status 3 on the emulated cortex-a72"):
        count_regions(arm_board, [program])
    with pytest.raises(LeanconvError, match="was ended by signal 15"):
        count_regions(arm_board, [program, "a", "b"])


def test_a_model_counts_the_same_twice(
    arm_board: Board,
    trained_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = trained_models / "dscnn_int8.tflite"
    first = count(arm_board, model)
    monkeypatch.setenv("SOME_VARIABLE", "x" * 1000)
    copy = tmp_path / "the_same_model_under_a_name_of_another_length.tflite"
    shutil.copy(model, copy)
    assert count(arm_board, copy) == first
    assert first["total"] == sum(first[name] for name in INSTRUCTION_CLASSES)


def test_kernels_follow_the_cpu(arm_board: Board, trained_models: Path) -> None:
    model = trained_models / "resnet8_float.tflite"
    counts = [count(arm_board, model, cpu=cpu) for cpu in ("cortex-a72", "cortex-a76")]
    # XNNPACK has other matrix kernels for these two; the multiplications stay the same but for
    # the tails of tiles.
    assert counts[0]["v_ld"] != counts[1]["v_ld"]
    assert counts[0]["v_fma"] == pytest.approx(counts[1]["v_fma"], rel=0.05)


def test_outputs_agree_with_this_machine(arm_board: Board, trained_models: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model = trained_models / "resnet8_float.tflite"
    here = Interpreter(model_path=str(model))
    here.allocate_tensors()
    image = np.random.default_rng(3).uniform(0, 255, here.get_input_details()[0]["shape"])
    here.set_tensor(here.get_input_details()[0]["index"], image.astype(np.float32))
    here.invoke()
    expected = here.get_tensor(here.get_output_details()[0]["index"])

    invocation = invoke(arm_board, model, inputs=[image.astype(np.float32)], threads=2)
    assert not invocation.counts and invocation.report is None
    (output,) = invocation.outputs
    assert output.dtype == expected.dtype and output.shape == expected.shape
    # The class probabilities of some twelve million float32 products, summed in another order.
    np.testing.assert_allclose(output, expected, atol=1e-4)


def test_wrong_number_of_inputs(arm_board: Board, trained_models: Path) -> None:
    with pytest.raises(LeanconvError, match="the model takes 1 inputs, 0 are given"):
        invoke(arm_board, trained_models / "dscnn_int8.tflite", inputs=[])


def test_delegates_that_fail(
    arm_board: Board, trained_models: Path, delegate: Path, program: Path
) -> None:
    def message(library: Path, options: str) -> str:
        with pytest.raises(LeanconvError) as raised:
            model = trained_models / "dscnn_int8.tflite"
            invoke(arm_board, model, mode="builtin", delegate=library, options=options)
        return str(raised.value)

    refused = message(delegate, "refuse:1")
    assert refused == f"cannot load the delegate {delegate}: the delegate refuses"
    assert message(delegate, "memory") == "delegate option 'memory' is not of the form key:value"
    assert message(program, "").startswith(f"cannot load the delegate {program}: ")
