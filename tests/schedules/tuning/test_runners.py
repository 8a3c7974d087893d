"""Processes of this machine, and commands that reach a board."""

from __future__ import annotations

import shlex
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.boards.base import PROGRAM, Batch, BoardLost
from schedules.tuning.boards.command import MOST_LOST, CommandRunner
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.problem import Problem
from schedules.tuning.measure.program import Compiled, ProgramWriter, Tensors
from schedules.tuning.measure.settings import Settings
from scripts.board.board import Board
from scripts.board.count import count_regions
from scripts.processes import module_command, module_environment

HELLO = """#!/bin/sh
echo warming up
echo '{"board": {"arch": "z80"}}'
echo '{"cut": '
echo "$PWD" >&2
"""


def batch(folder: Path, script: str = HELLO, timeout_s: float = 10.0) -> Batch:
    """A program that is a shell script, in a folder whose name needs quotes."""
    folder = folder / "a folder's name"
    folder.mkdir()
    program = folder / PROGRAM
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Batch(folder, timeout_s)


BOARD = [{"board": {"arch": "z80"}}]


def test_local(tmp_path: Path) -> None:
    runner = LocalRunner()
    assert runner.boards() == 1
    assert runner.run(batch(tmp_path)) == BOARD


def test_local_keeps_what_was_printed_in_time(tmp_path: Path) -> None:
    script = f"{HELLO}(sleep 1000 & echo $! > child; wait)\n"
    endless = batch(tmp_path, script, timeout_s=0.3)
    assert LocalRunner().run(endless) == BOARD
    assert_ended(int((endless.folder / "child").read_text()))


def test_an_interrupt_is_no_fault_of_a_program_that_ends_with_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            LocalRunner().run(batch(tmp_path, "#!/bin/sh\nsleep .05\nkill -INT $PPID\n"))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_program_of_another_processor(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match=r"^this machine cannot run .*: name its own target"):
        LocalRunner().run(batch(tmp_path, "\x7fELF nonsense"))


@pytest.mark.parametrize("template", ["{program}", "cd {folder}; ./measure", "./measure {folder}"])
def test_command(tmp_path: Path, template: str) -> None:
    runner = CommandRunner(template)
    assert runner.boards() == 1
    assert runner.run(batch(tmp_path)) == BOARD


def test_a_command_that_names_no_program() -> None:
    with pytest.raises(LeanconvError, match=r"has neither \{folder\} nor"):
        CommandRunner("ssh board ./measure")


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    runner = CommandRunner("no-such-command {program}", name="bench")
    with pytest.raises(LeanconvError, match=r"^bench: the command does not .*not found") as error:
        runner.run(batch(tmp_path))
    assert not isinstance(error.value, BoardLost)


def test_a_command_that_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="not reach a board: it ended well, but nothing that"):
        CommandRunner("echo {program}").run(batch(tmp_path))


def test_a_board_that_is_lost(tmp_path: Path) -> None:
    fine = batch(tmp_path)
    program = fine.folder / PROGRAM
    silent = "#!/bin/sh\necho no route to host >&2\nexit 255\n"
    runner = CommandRunner("{program}")
    assert runner.run(fine) == BOARD
    program.write_text(silent)
    with pytest.raises(BoardLost) as info:
        runner.run(fine)
    assert str(info.value) == "command: the board is lost: no route to host"
    assert runner.boards() == 1
    for _ in range(MOST_LOST - 1):
        with pytest.raises(BoardLost):
            runner.run(fine)
    assert runner.boards() == 0


def test_a_command_that_takes_too_long(tmp_path: Path) -> None:
    runner = CommandRunner("{program}")
    endless = batch(tmp_path, f"{HELLO}(sleep 1000 & echo $! > child; wait)\n", timeout_s=0.3)
    with pytest.raises(LeanconvError, match="nothing for 0 s"):
        runner.run(endless)
    assert_ended(int((endless.folder / "child").read_text()))


def assert_ended(process: int) -> None:
    """Its parent is gone too, so somebody else has to notice."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {process} still runs")


# The emulated board

A76 = Simd.named("cortex-a76")
LAYER = Conv2dWorkload(5, 5, 8, 8, 3, 3)


def test_the_emulated_board(arm_board: Board, repo_root: Path) -> None:
    path = f"PYTHONPATH={module_environment()['PYTHONPATH']}"
    words = ["env", path, *module_command("scripts.board", "run", "--cpu", "cortex-a76")]
    runner = CommandRunner(shlex.join(words) + " {program}")
    settings = Settings(repeat=1, min_repeat_ms=0.0)
    with Measurer(A76, runner, settings, jobs=1) as measurer:
        info = measurer.probe()
        assert info["cpu"] == "Cortex-A76"
        assert info["arch"] == "aarch64"
        for layer in (LAYER, replace(LAYER, dtype="float16")):
            plan = plan_kernel(layer, A76)
            (outcome,) = measurer.measure(layer, [plan.choice])
            assert outcome.error is None
            assert len(outcome.samples_s) == 1
    old = CommandRunner(runner.template.replace("a76", "a53"))
    with Measurer(A76, old, settings, jobs=1) as measurer, pytest.raises(LeanconvError) as error:
        measurer.probe()
    assert "(Cortex-A53) lacks asimddp, which cortex-a76 has" in str(error.value)


def test_one_call_between_markers(arm_board: Board, tmp_path: Path) -> None:
    plan = plan_kernel(LAYER, A76, "indirect")
    kernels = compile_plans({"one": plan}, A76)
    writer = ProgramWriter(tmp_path, A76, Toolchain.default())
    compiled = Compiled(plan, kernels.kernels["one"], kernels.data)
    written = writer.write(Tensors(tmp_path, Problem.of(LAYER), A76), [compiled], Settings())
    (counts,) = count_regions(arm_board, [written.folder / PROGRAM, "--once"], "cortex-a76")
    assert counts["v_fma"] == plan.macs // 4
